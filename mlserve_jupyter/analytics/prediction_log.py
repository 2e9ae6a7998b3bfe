"""The prediction log: calls gather in memory and one thread writes them, in batches.

Handing a call over never waits for the database and never fails. What does not reach the table,
because the buffer was full or the process was killed, is counted.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from threading import Condition, Lock, Thread

import msgspec
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.call_metrics import CallMetrics
from mlserve_jupyter.analytics.prediction_pages import (
    CallFilter,
    LastCalls,
    read_calls,
    read_last_calls,
    read_recently_called,
)
from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.analytics.prediction_rows import (
    Observer,
    WaitingRow,
    count_losses,
    forget_process,
    record_loss,
    settle_process,
    write_rows,
)
from mlserve_jupyter.analytics.process_counter import (
    ProcessCounter,
    counter_files,
    ended_process,
)
from mlserve_jupyter.analytics.selection import as_logged, without_columns_left_out
from mlserve_jupyter.api.resources import DescribePrediction
from mlserve_jupyter.errors import StorageFull, StorageUnavailable
from mlserve_jupyter.settings import MIB, Settings
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.paging import Page, check_limit

log = logging.getLogger(__name__)

ALL_CALLS = CallFilter()
BATCH_ROWS = 2000
BATCH_BYTES = 8 * MIB
_FIRST_RETRY_S = 0.25
_LAST_RETRY_S = 2.0
_MAX_FAILURES = 4


class PredictionLog:
    """The log of this process, and a view of everybody's.

    Made, it first settles the accounts of processes that have ended without doing so.

    Parameters
    ----------
    engine
        Of a database whose schema is prepared.
    settings
        ``log_buffer_rows`` and ``log_buffer_bytes`` bound what waits in memory; ``log_flush_s`` is
        how long at most a call waits for others; values over ``log_max_value_bytes`` are left out
        (0: none are).
    process_dir
        Folder of the files in which each process counts its calls.
    observers
        Told of each batch in the transaction that writes it, in the writer's thread; they have to
        keep up with it.

    Attributes
    ----------
    calls
        What was handed over, counted whether it reaches the table or not.

    Raises
    ------
    StorageUnavailable, StorageFull
        The database or the folder cannot be used.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        process_dir: Path,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._process_dir = process_dir
        self._observers = tuple(observers)
        self._lock = Lock()
        self._arrived = Condition(self._lock)
        self._written = Condition(self._lock)
        self._waiting: deque[WaitingRow] = deque()
        self._n_held = 0  # rows that wait or are being written
        self._held_bytes = 0
        self._dropped: Counter[str] = Counter()  # by reason, not yet recorded in the database
        self._n_lost = 0
        self.calls = CallMetrics()
        self._accepted_through = 0
        self._settled_through = 0
        self._wanted_through = 0
        self._closing_at_s: float | None = None
        self._closed = False
        self._failure: StorageUnavailable | StorageFull | None = None  # of the last attempt
        self._counter = ProcessCounter(process_dir)
        self._process_id = self._counter.process_id
        self._settle_ended()
        self._writer = Thread(target=self._run, name="mlserve-prediction-log", daemon=True)
        self._writer.start()

    def append(self, record: PredictionRecord) -> None:
        """Hand a call over. Never waits for input or output, and never raises.

        Where the buffer is full, the call is dropped and counted.
        """
        self.calls.note(record)
        record, is_kept = as_logged(record)
        row_bytes = record.size_bytes
        limit_bytes = self._settings.log_max_value_bytes
        truncated = False
        if limit_bytes and row_bytes > limit_bytes:
            shorter = msgspec.structs.replace(
                record,
                inputs=_within(record.inputs, limit_bytes),
                outputs=_within(record.outputs, limit_bytes),
            )
            truncated = shorter != record
            record, row_bytes = shorter, shorter.size_bytes
        with self._lock:
            if self._closed:
                self._drop(1, "process_ended")
                return
            sequence = self._counter.increment()
            if (
                self._n_held >= self._settings.log_buffer_rows
                or self._held_bytes + row_bytes > self._settings.log_buffer_bytes
            ):
                self._drop(1, "buffer_full")
                return
            self._waiting.append(WaitingRow(sequence, record, truncated, row_bytes, is_kept))
            self._accepted_through = sequence
            self._n_held += 1
            self._held_bytes += row_bytes
            if len(self._waiting) in (1, BATCH_ROWS):
                self._arrived.notify()

    def flush(self, timeout_s: float) -> bool:
        """Wait until the table has all that was handed over before.

        Returns
        -------
        bool
            False where that took longer than ``timeout_s``.
        """
        return self._flush(timeout_s, is_patient=True)

    def flush_if_written(self, timeout_s: float) -> bool:
        """Do as :meth:`flush` does, but wait for no log that the database refuses at present."""
        return self._flush(timeout_s, is_patient=False)

    @property
    def n_held(self) -> int:
        """Calls that wait or are being written."""
        return self._n_held

    @property
    def held_bytes(self) -> int:
        """About the memory that they take."""
        return self._held_bytes

    @property
    def n_lost(self) -> int:
        """Calls of this process that did not get into the log."""
        return self._n_lost

    def check_space(self) -> None:
        """Return unless what waits could not be written for want of space.

        Raises
        ------
        StorageFull
            The last attempt found none; the next follows within seconds.
        """
        if isinstance(self._failure, StorageFull):
            raise StorageFull(self._failure.message)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits and stop; what could not be written by then is counted as lost."""
        with self._lock:
            if self._closing_at_s is not None:
                return
            self._closing_at_s = time.monotonic() + timeout_s
            self._arrived.notify()
        self._writer.join(timeout_s + _LAST_RETRY_S)
        with self._lock:
            self._closed = True
        self._counter.close()
        if self._writer.is_alive():
            log.warning("The prediction log does not stop; the next start counts what it loses.")
            return
        try:
            self._settle_ended()
        except (StorageUnavailable, StorageFull) as error:
            log.warning("The next start will count what the prediction log has lost: %s", error)

    def losses(self) -> int:
        """Return how many calls were answered and never reached the log, in all processes.

        Raises
        ------
        StorageUnavailable
            The database does not answer.
        """
        with self._lock:
            n_dropped = self._dropped.total()
        with reading(self._engine) as connection:
            return n_dropped + count_losses(connection)

    def list_predictions(
        self,
        model_id: str,
        wanted: CallFilter = ALL_CALLS,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[DescribePrediction]:
        """Return a page of a model's calls, newest first; a short one where they are large.

        Parameters
        ----------
        model_id
            Of a model that the caller may see.
        wanted
            Which of them.
        limit
            1 to 1000 calls.
        cursor
            Of the page before; None for the first.

        Raises
        ------
        InvalidRequest
            ``limit`` or ``cursor`` is not valid, or the database cannot search for what is wanted.
        StorageUnavailable
            The database does not answer.
        """
        check_limit(limit)
        with reading(self._engine) as connection:
            return read_calls(connection, model_id, wanted, limit, cursor)

    def last_calls(self, model_ids: Sequence[str]) -> dict[str, LastCalls]:
        """Return by model when it was last called and how often; without those never called.

        Raises
        ------
        StorageUnavailable
            The database does not answer.
        """
        with reading(self._engine) as connection:
            return read_last_calls(connection, model_ids)

    def recently_called(self, since: datetime, limit: int) -> list[str]:
        """Return the ids of the versions that were called since then, the latest first.

        Raises
        ------
        StorageUnavailable
            The database does not answer.
        """
        with reading(self._engine) as connection:
            return read_recently_called(connection, since, limit)

    def _flush(self, timeout_s: float, *, is_patient: bool) -> bool:
        with self._lock:
            wanted = self._accepted_through
            self._wanted_through = max(self._wanted_through, wanted)
            self._arrived.notify()
            self._written.wait_for(
                lambda: (
                    self._settled_through >= wanted or not (is_patient or self._failure is None)
                ),
                timeout_s,
            )
            return self._settled_through >= wanted

    def _run(self) -> None:
        while True:
            rows = self._next_rows()
            if not rows and not self._dropped:
                return
            if not self._write(rows):
                return

    def _next_rows(self) -> list[WaitingRow]:
        """Wait for a batch; an empty one says that only drops are to be recorded, or the end."""
        with self._lock:
            self._arrived.wait_for(lambda: self._waiting or self._dropped or self._hurry)
            self._arrived.wait_for(
                lambda: len(self._waiting) >= BATCH_ROWS or self._hurry,
                self._settings.log_flush_s,
            )
            rows: list[WaitingRow] = []
            n_bytes = 0
            while self._waiting and len(rows) < BATCH_ROWS and n_bytes < BATCH_BYTES:
                rows.append(self._waiting.popleft())
                n_bytes += rows[-1].n_bytes
        return [without_columns_left_out(row) for row in rows]

    @property
    def _hurry(self) -> bool:
        return self._closing_at_s is not None or self._wanted_through > self._settled_through

    def _write(self, rows: list[WaitingRow]) -> bool:
        """Write a batch, again and again while the database is away.

        What nobody has foreseen is tried again as well, a few times, and then counted as lost: the
        thread must outlive whatever one batch brings.

        Returns
        -------
        bool
            False where the log was closed meanwhile and the time is over.
        """
        retry_s = _FIRST_RETRY_S
        n_failed = 0
        while True:
            dropped = self._dropped.copy()
            self._counter.keep()
            try:
                with writing(self._engine, durable=False) as connection:
                    write_rows(connection, self._process_id, rows, self._observers)
                    for reason, n_rows in dropped.items():
                        record_loss(connection, self._process_id, reason, n_rows)
                break
            except (StorageUnavailable, StorageFull) as error:
                self._fail(error)
                if retry_s == _FIRST_RETRY_S:
                    log.warning("The prediction log waits for its database: %s", error)
            except Exception:
                n_failed += 1
                log.exception("%d predictions cannot be logged (%d).", len(rows), n_failed)
                if n_failed == _MAX_FAILURES:
                    self._release(rows)
                    with self._lock:
                        self._drop(len(rows), "refused")
                        return self._closing_at_s is None
            if not self._wait_to_retry(retry_s):
                return False
            retry_s = min(retry_s * 2, _LAST_RETRY_S)
        self._failure = None
        if dropped["buffer_full"]:
            log.warning(
                "%d predictions were not logged: the buffer was full.", dropped["buffer_full"]
            )
        with self._lock:
            self._dropped -= dropped
        self._release(rows)
        return True

    def _fail(self, error: StorageUnavailable | StorageFull) -> None:
        with self._lock:
            self._failure = error
            self._written.notify_all()  # nobody waits for what is tried until it succeeds

    def _drop(self, n: int, reason: str) -> None:
        self._dropped[reason] += n
        self._n_lost += n

    def _wait_to_retry(self, retry_s: float) -> bool:
        """Return whether to try again, after ``retry_s`` or when the log begins to close."""
        with self._lock:
            if self._closing_at_s is None:
                self._arrived.wait_for(lambda: self._closing_at_s is not None, retry_s)
                return True
            rest_s = self._closing_at_s - time.monotonic()
            if rest_s <= 0:
                return False
            self._written.wait(min(retry_s, rest_s))
            return True

    def _release(self, rows: list[WaitingRow]) -> None:
        n_bytes = sum(row.n_bytes for row in rows)
        with self._lock:
            self._n_held -= len(rows)
            self._held_bytes -= n_bytes
            if rows:
                self._settled_through = rows[-1].sequence
            self._written.notify_all()

    def _settle_ended(self) -> None:
        """Count what processes that are gone have lost, and remove their files."""
        for path in counter_files(self._process_dir):
            with ended_process(path) as ended:
                if ended is None:
                    continue
                with writing(self._engine) as connection:
                    n_lost = settle_process(connection, ended.process_id, ended.n_appended)
                if n_lost:
                    log.warning(
                        "%d predictions of process %d never reached the log.", n_lost, ended.pid
                    )
            with writing(self._engine) as connection:
                forget_process(connection, ended.process_id)


def _within(value: bytes | None, limit_bytes: int) -> bytes | None:
    return value if value is None or len(value) <= limit_bytes else None
