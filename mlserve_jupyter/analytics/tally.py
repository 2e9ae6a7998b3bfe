"""What some calls add up to: counts, and histograms of what took how long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import nlargest
from operator import attrgetter
from typing import Any

import msgspec

from mlserve_jupyter.analytics.latency_histogram import LatencySum, encode_times
from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.api.analytics import Figures, Percentiles

FIGURES = (
    "n_predictions", "n_errors", "n_cached", "n_rows", "total_ms", "queue_ms", "load_ms",
    "predict_ms",
)  # fmt: skip
"""The columns that hold a tally, in the order in which :meth:`Tally.add` takes them."""

N_SLOWEST = 10


class SlowCall(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One of the slowest calls, as it is kept.

    Attributes
    ----------
    at_us
        When it came, in microseconds since 1970, UTC.
    """

    total_ms: float
    at_us: int
    request_id: str
    principal: str
    status: str
    n_rows: int
    queue_ms: float
    load_ms: float
    predict_ms: float


_SLOW_CALLS = msgspec.json.Decoder(list[SlowCall])


class Tally:
    """Calls, added up.

    Which calls a histogram counts: ``total_ms`` all of them; ``queue_ms``, ``load_ms`` and
    ``predict_ms`` those that the result cache did not answer and that went through the stage.
    """

    __slots__ = ("load", "n", "n_cached", "n_errors", "n_rows", "predict", "queue", "total")

    def __init__(self) -> None:
        self.n = 0
        self.n_errors = 0
        self.n_cached = 0
        self.n_rows = 0
        self.total = LatencySum()
        self.queue = LatencySum()
        self.load = LatencySum()
        self.predict = LatencySum()

    def add(
        self,
        n: int,
        n_errors: int,
        n_cached: int,
        n_rows: int,
        total: bytes | None,
        queue: bytes | None,
        load: bytes | None,
        predict: bytes | None,
    ) -> None:
        """Add a row of a table."""
        self.n += n
        self.n_errors += n_errors
        self.n_cached += n_cached
        self.n_rows += n_rows
        if total:
            self.total.add(total, n)
        if queue:
            self.queue.add(queue, n)
        if load:
            self.load.add(load, n)
        if predict:
            self.predict.add(predict, n)

    def merge(self, other: Tally) -> None:
        """Add all that another tally counts."""
        self.n += other.n
        self.n_errors += other.n_errors
        self.n_cached += other.n_cached
        self.n_rows += other.n_rows
        self.total.merge(other.total)
        self.queue.merge(other.queue)
        self.load.merge(other.load)
        self.predict.merge(other.predict)

    def columns(self) -> dict[str, Any]:
        """Return it as a row of a table; the columns are of several types, hence ``Any``."""
        return {
            "n_predictions": self.n,
            "n_errors": self.n_errors,
            "n_cached": self.n_cached,
            "n_rows": self.n_rows,
            "total_ms": self.total.encode(),
            "queue_ms": self.queue.encode(),
            "load_ms": self.load.encode(),
            "predict_ms": self.predict.encode(),
        }

    def figures(self) -> Figures:
        """Return the wire form."""
        return Figures(**self.fields())

    def fields(self) -> dict[str, Any]:
        """Return the fields of ``Figures``, for those that have more; hence ``Any``."""
        stages: dict[str, Percentiles | None] = {
            "total": self.total.percentiles(),
            "queue": self.queue.percentiles(),
            "load": self.load.percentiles(),
            "predict": self.predict.percentiles(),
        }
        return {
            "n": self.n,
            "errors": self.n_errors,
            "cached": self.n_cached,
            "rows": self.n_rows,
            "error_rate": share(self.n_errors, self.n),
            "cache_hit_rate": share(self.n_cached, self.n),
            **stages,
        }


def tally_calls(records: Sequence[PredictionRecord]) -> dict[str, Any]:
    """Return the columns of a tally of calls, and of the slowest of them."""
    n = len(records)
    ran = [record for record in records if not record.cached]
    slowest = slowest_of(
        [
            SlowCall(
                record.total_ms,
                round(record.created_at.timestamp() * 1e6),
                record.request_id,
                record.principal,
                record.status,
                record.n_rows,
                record.queue_ms,
                record.load_ms,
                record.predict_ms,
            )
            for record in nlargest(N_SLOWEST, records, key=attrgetter("total_ms"))
        ]
    )
    return {
        "n_predictions": n,
        "n_errors": n - [record.status for record in records].count("ok"),
        "n_cached": n - len(ran),
        "n_rows": sum([record.n_rows for record in records]),
        "total_ms": encode_times([record.total_ms for record in records]),
        "queue_ms": encode_times([record.queue_ms for record in ran if record.queue_ms]),
        "load_ms": encode_times([record.load_ms for record in ran if record.load_ms]),
        "predict_ms": encode_times([record.predict_ms for record in ran if record.predict_ms]),
        **slowest,
    }


def slowest_of(calls: Sequence[SlowCall]) -> dict[str, Any]:
    """Return the columns that keep the slowest of some calls."""
    kept = nlargest(N_SLOWEST, calls, key=attrgetter("total_ms"))
    return {
        "slowest_ms": kept[0].total_ms if kept else 0.0,
        "slowest": msgspec.json.encode(kept).decode(),
    }


def slow_calls(text: str) -> list[SlowCall]:
    """Read what :func:`slowest_of` keeps."""
    return _SLOW_CALLS.decode(text)


def sum_of(tallies: Iterable[Tally]) -> Tally:
    """Add tallies up."""
    total = Tally()
    for tally in tallies:
        total.merge(tally)
    return total


def share(part: int, whole: int) -> float:
    """Return a part's share, 0.0 where there is no whole."""
    return part / whole if whole else 0.0
