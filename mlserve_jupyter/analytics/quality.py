"""How good a model's answers were, by version, where the log meets the labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlserve_jupyter.analytics.histogram_rows import read_baseline
from mlserve_jupyter.analytics.labels import A_FEW_AT_A_TIME, count_labelled, read_labels
from mlserve_jupyter.analytics.scores import Scorer, scorer_of
from mlserve_jupyter.api.labels import Label
from mlserve_jupyter.api.profile import Profile, Task
from mlserve_jupyter.api.quality import DayScores, Quality, VersionQuality
from mlserve_jupyter.api.signature import Signature
from mlserve_jupyter.storage.tables import predictions

MAX_LABELS = 50_000
"""Labelled calls that are scored at once: those that were labelled last."""

CLOCK_SKEW = timedelta(hours=1)

_LABELS = msgspec.json.Decoder(list[Label])


class ScoredVersion(NamedTuple):
    """A version that may have answered."""

    version: int
    signature: Signature


def read_quality(
    connection: Connection,
    model_id: str,
    model: str,
    versions: Mapping[str, ScoredVersion],
    since: datetime,
    until: datetime,
) -> Quality:
    """Score the calls of a range that have labels.

    Parameters
    ----------
    versions
        By id, all of the model.
    since, until
        Of the calls, not of their labels.
    """
    scored: dict[tuple[str, str], _Scored] = {}
    n_calls = n_labels = 0
    for chunk in read_labels(connection, model_id, _labelled_since(since), MAX_LABELS):
        n_labels += len(chunk)
        last_id: str | None = None
        for row in _calls_of(connection, model_id, chunk):
            if row.request_id == last_id:
                continue
            last_id = row.request_id  # a label is of one call, however many bear its id
            version = versions.get(row.version_id)
            if version is None or not since <= row.created_at < until:
                continue
            n_calls += 1
            key = (row.version_id, row.method)
            if key not in scored:
                baseline = read_baseline(connection, row.version_id)
                profile = None if baseline is None else baseline.profile
                scored[key] = _Scored(version, row.method, profile)
            scored[key].add(row.created_at, row.outputs, chunk[row.request_id])
    return Quality(
        model=model,
        since=since,
        until=until,
        n_labelled=count_labelled(connection, model_id),
        n_calls=n_calls,
        is_cut=n_labels == MAX_LABELS,
        versions=sorted(
            (each.quality() for each in scored.values()),
            key=lambda each: (-each.version, each.method),
        ),
    )


def _labelled_since(since: datetime) -> datetime:
    """Return when the first call of a range can have got its label.

    A label may be kept by a clock that is a little behind.
    """
    try:
        return since - CLOCK_SKEW
    except OverflowError:
        return since


def _calls_of(connection: Connection, model_id: str, request_ids: Iterable[str]) -> Iterator[Any]:
    """Read a model's answered calls by their request ids, of each the first one first.

    Anybody who may call a model may use an id that another caller has used, and must not come by
    the other's label by it. A few at a time, since each may have a quarter of a megabyte; the
    columns' types differ, hence ``Any``.
    """
    called = predictions.c
    query = (
        sa.select(
            called.version_id,
            called.request_id,
            called.method,
            called.created_at,
            called.outputs,
        )
        .where(
            called.model_id == model_id,
            called.request_id.in_(list(request_ids)),
            called.status == "ok",
        )
        .order_by(called.request_id, called.created_at, called.id)
    )
    with connection.execute(query, execution_options=A_FEW_AT_A_TIME) as rows:
        yield from rows


def task_of(signature: Signature, method: str, profile: Profile | None) -> Task:
    """Return whether a version's answers are classes or numbers.

    As the model says of itself; else numbers where the method gave floats on the sample.
    """
    if profile is not None and profile.task is not None:
        return profile.task
    output = signature.outputs.get(method)
    is_float = output is not None and (output.dtype or "").lower().startswith("float")
    return "regression" if is_float else "classification"


@dataclass
class _Scored:
    """The calls of one method of a version."""

    version: ScoredVersion
    method: str
    profile: Profile | None
    n_not_scored: int = 0
    days: dict[datetime, Scorer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.task = task_of(self.version.signature, self.method, self.profile)
        self.total = self._new_scorer()

    def add(self, at: datetime, outputs: str | None, labels: str) -> None:
        """Score a call, if it can be."""
        predicted: Any = None if outputs is None else msgspec.json.decode(outputs)
        true = _LABELS.decode(labels)
        if not self.total.add(predicted, true):
            self.n_not_scored += 1
            return
        day = at.astimezone(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
        if day not in self.days:
            self.days[day] = self._new_scorer()
        self.days[day].add(predicted, true)

    def quality(self) -> VersionQuality:
        """Return the wire form."""
        return VersionQuality(
            version=self.version.version,
            method=self.method,
            task=self.task,
            n_not_scored=self.n_not_scored,
            days=[
                DayScores(at=day, **msgspec.structs.asdict(self.days[day].scores()))
                for day in sorted(self.days)
            ],
            **msgspec.structs.asdict(self.total.scores()),
        )

    def _new_scorer(self) -> Scorer:
        classes = [] if self.profile is None else self.profile.classes
        return scorer_of(self.task, classes)
