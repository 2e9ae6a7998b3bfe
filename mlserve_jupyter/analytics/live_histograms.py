"""Counts a sample of what versions are asked and answer, beside the prediction log.

The log's writer only hands calls over (:meth:`LiveHistograms.observe`), which takes a fraction of a
microsecond a row. A thread of its own reads them, and writes what it has counted every few
seconds: the counts of what a killed process had in memory are lost, and no call is.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any

import msgspec
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.analytics.histogram_rows import (
    Baseline,
    Counted,
    Period,
    add_counted,
    read_baseline,
)
from mlserve_jupyter.analytics.logged_columns import ColumnReader
from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.analytics.prediction_rows import WaitingRow
from mlserve_jupyter.api.profile import Counter, FeatureProfile, output_columns
from mlserve_jupyter.errors import MLServeError
from mlserve_jupyter.storage.engine import reading, writing

log = logging.getLogger(__name__)

ROWS_PER_S = 10.0
BURST_ROWS = 1000
MAX_ROWS_A_CALL = 100
"""Of each version: so many rows a second in the long run, at once, and of one call."""

MAX_PENDING_ROWS = 5000
MAX_PENDING_BYTES = 16 * 2**20
MAX_VERSIONS = 1000
MAX_PERIODS = 5000

_READ_S = 1.0
_WRITE_S = 10.0


class _Sampled(msgspec.Struct, frozen=True, gc=False):
    record: PredictionRecord
    n_rows: int


@dataclass
class _Allowance:
    """Rows that may still be taken of a version, and when that was reckoned."""

    rows: float
    at_s: float


class LiveHistograms:
    """The histograms of this process's calls, on their way to the database.

    Parameters
    ----------
    engine
        Of a database whose schema is prepared.
    write_s
        How long counts wait in memory.
    """

    def __init__(self, engine: Engine, *, write_s: float = _WRITE_S) -> None:
        self._engine = engine
        self._write_s = write_s
        self._changed = Condition()
        self._pending: deque[_Sampled] = deque()
        self._pending_rows = 0
        self._pending_bytes = 0
        self._seen_through = 0
        self._allowances: dict[str, _Allowance] = {}
        self._watched: dict[str, _Watch | None] = {}
        self._counted: dict[Period, Counted] = {}
        self._n_flushes_wanted = 0
        self._n_flushed = 0
        self._closing = False
        self._thread = Thread(target=self._run, name="mlserve-live-histograms", daemon=True)
        self._thread.start()

    def observe(self, connection: Connection, rows: Sequence[WaitingRow]) -> None:
        """Take a sample of a batch of the prediction log; the transaction is not used.

        A batch that is written again after a failure is known by its sequence.
        """
        by_version: dict[str, list[PredictionRecord]] = {}
        for row in rows:
            record = row.record
            if (
                row.is_kept
                and row.sequence > self._seen_through
                and record.status == "ok"
                and self._watched.get(record.version_id, True)
            ):
                by_version.setdefault(record.version_id, []).append(record)
        if rows:
            self._seen_through = max(self._seen_through, rows[-1].sequence)
        for version_id, records in by_version.items():
            self._sample(version_id, records)

    def flush(self, timeout_s: float) -> bool:
        """Wait until the database has what was observed before.

        Returns
        -------
        bool
            False where that took longer than ``timeout_s``.
        """
        with self._changed:
            self._n_flushes_wanted += 1
            wanted = self._n_flushes_wanted
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._n_flushed >= wanted, timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what was counted, and stop."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _sample(self, version_id: str, records: list[PredictionRecord]) -> None:
        now_s = time.monotonic()
        allowance = self._allowances.get(version_id)
        if allowance is None:
            if len(self._allowances) >= MAX_VERSIONS:
                self._allowances.clear()
            allowance = self._allowances[version_id] = _Allowance(BURST_ROWS, now_s)
        rest = allowance.rows + (now_s - allowance.at_s) * ROWS_PER_S
        rest = min(rest, float(BURST_ROWS))
        if rest >= 1:
            # The calls of a batch that are taken are any of it.
            chosen = random.sample(records, min(len(records), int(rest)))
            with self._changed:
                for record in chosen:
                    n_rows = min(max(record.n_rows, 1), MAX_ROWS_A_CALL, int(rest))
                    n_bytes = record.size_bytes
                    if (
                        n_rows < 1
                        or self._pending_rows + n_rows > MAX_PENDING_ROWS
                        or self._pending_bytes + n_bytes > MAX_PENDING_BYTES
                    ):
                        break
                    rest -= n_rows
                    self._pending.append(_Sampled(record, n_rows))
                    self._pending_rows += n_rows
                    self._pending_bytes += n_bytes
        allowance.rows, allowance.at_s = rest, now_s

    def _run(self) -> None:
        written_at_s = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._is_flush_wanted, _READ_S)
                is_closing, wanted = self._closing, self._n_flushes_wanted
                is_due = time.monotonic() - written_at_s >= self._write_s
                sampled = list(self._pending)
                self._pending.clear()
                self._pending_rows = self._pending_bytes = 0
            self._count(sampled)
            try:
                if is_due or is_closing or wanted > self._n_flushed:
                    written_at_s = time.monotonic()
                    self._write()
            except MLServeError as error:
                log.warning("Live histograms wait for the database: %s", error)
            except Exception:
                # The thread must outlive whatever a database says.
                log.exception("Live histograms cannot be written.")
            with self._changed:
                self._n_flushed = wanted
                self._changed.notify_all()
            if is_closing:
                return

    @property
    def _is_flush_wanted(self) -> bool:
        return self._n_flushes_wanted > self._n_flushed

    def _count(self, sampled: Sequence[_Sampled]) -> None:
        for each in sampled:
            record = each.record
            try:
                watch = self._watch(record.version_id)
                found = None if watch is None else watch.count(record, each.n_rows)
            except MLServeError as error:
                log.warning("Live histograms lack the call %s: %s", record.request_id, error)
                continue
            except Exception:
                # One call, whatever it holds, must not cost the others.
                log.exception("The call %s cannot be counted.", record.request_id)
                continue
            if found is not None:
                hour = record.created_at.replace(minute=0, second=0, microsecond=0)
                period = Period(record.version_id, hour, record.model_id)
                self._counted.setdefault(period, Counted()).add(found)

    def _watch(self, version_id: str) -> _Watch | None:
        if version_id not in self._watched:
            if len(self._watched) >= MAX_VERSIONS:
                self._watched.clear()
            with reading(self._engine) as connection:
                baseline = read_baseline(connection, version_id)
            self._watched[version_id] = None if baseline is None else _Watch(baseline)
        return self._watched[version_id]

    def _write(self) -> None:
        """Write what was counted; where that fails, it is kept for the next time, within bounds."""
        if not self._counted:
            return
        try:
            with writing(self._engine, durable=False) as connection:
                # In order, so that two processes lock the rows in the same one.
                for period in sorted(self._counted):
                    add_counted(connection, period, self._counted[period])
        except MLServeError:
            if len(self._counted) > MAX_PERIODS:
                self._counted.clear()
            raise
        self._counted.clear()


class _Watch:
    """Counts the calls of one version in the bins of its baseline."""

    def __init__(self, baseline: Baseline) -> None:
        profile = baseline.profile
        self._features = {feature.name: feature for feature in profile.features}
        self._outputs = {output.name: output for output in profile.outputs}
        self._method = profile.method
        self._reader = ColumnReader(baseline.signature.inputs, self._features.keys())

    def count(self, record: PredictionRecord, n_rows: int) -> Counted:
        """Count a call, as many rows of it as are wanted."""
        counted = Counted(n_rows)
        policy = record.logged_as
        hidden = frozenset() if policy is None else policy.without
        if record.inputs is not None:
            columns = {
                name: values
                for name, values in self._reader.read(record.inputs).items()
                if name not in hidden
            }
            counted.counts.features = _counts_of(columns, self._features, n_rows)
        if record.outputs is not None and record.method == self._method and self._outputs:
            found = output_columns(msgspec.json.decode(record.outputs), record.method)
            counted.counts.outputs = _counts_of(dict(found), self._outputs, n_rows)
        return counted


def _counts_of(
    columns: dict[str, list[Any]], profiles: dict[str, FeatureProfile], n_rows: int
) -> dict[str, list[int]]:
    """Count the same rows of all columns, chosen at random where there are more than wanted."""
    counts = {}
    rows: list[int] | None = None
    for name, values in columns.items():
        profile = profiles.get(name)
        if profile is None:
            continue
        if len(values) > n_rows:
            if rows is None or rows[-1] >= len(values):
                rows = sorted(random.sample(range(len(values)), n_rows))
            values = [values[i] for i in rows]
        counter = Counter(profile)
        counter.add(values)
        counts[name] = counter.counts
    return counts
