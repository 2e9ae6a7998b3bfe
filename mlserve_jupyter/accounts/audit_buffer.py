"""Events that change nothing, on their way to the audit log: refusals, above all.

A flood of refused requests must neither wait for the database nor fill it. Equal events of a
second become one row that says how many they were; of different ones, a bounded number is kept and
the rest is counted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from threading import Condition, Thread
from typing import TYPE_CHECKING

from mlserve_jupyter.accounts.audit import SERVER, AuditEvent, write_event
from mlserve_jupyter.errors import MLServeError

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

log = logging.getLogger(__name__)

MAX_KINDS = 100
"""Different events that are kept until the next time they are written."""

INTERVAL_S = 1.0

_Kind = tuple[str, str, str, str, str, str]


@dataclass
class _Counted:
    event: AuditEvent
    at: datetime
    n_times: int = 1


class AuditBuffer:
    """The events of this process that wait to be written.

    What is noted before :meth:`start` waits for it.

    Parameters
    ----------
    max_kinds
        Different events that may wait; more are dropped, and counted in an event of their own.
    interval_s
        How often they are written.
    """

    def __init__(self, max_kinds: int = MAX_KINDS, interval_s: float = INTERVAL_S) -> None:
        self._max_kinds = max_kinds
        self._interval_s = interval_s
        self._changed = Condition()
        self._waiting: dict[_Kind, _Counted] = {}
        self._n_dropped = 0
        self._n_noted = 0
        self._written_through = 0
        self._hurry = False
        self._closing = False
        self._engine: Engine | None = None
        self._writer: Thread | None = None

    def note(self, event: AuditEvent) -> None:
        """Take an event. Never waits for input or output, and never raises."""
        origin = event.origin
        kind = (
            origin.actor, origin.via, origin.address, event.action, event.target, event.outcome,
        )  # fmt: skip
        with self._changed:
            self._n_noted += 1
            known = self._waiting.get(kind)
            if known is not None:
                known.n_times += 1
            elif len(self._waiting) < self._max_kinds:
                self._waiting[kind] = _Counted(event, datetime.now(timezone.utc))
            else:
                self._n_dropped += 1
            if self._n_noted == self._written_through + 1:
                self._changed.notify_all()

    def start(self, engine: Engine) -> None:
        """Begin to write to a database whose schema is prepared."""
        self._engine = engine
        self._closing = False
        self._writer = Thread(target=self._run, name="mlserve-audit", daemon=True)
        self._writer.start()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was noted before is written; False where that takes too long."""
        with self._changed:
            wanted = self._n_noted
            self._hurry = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._written_through >= wanted, timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what waits, and stop."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        writer.join(timeout_s)
        with self._changed:
            n_lost = self._n_noted - self._written_through
        if n_lost:
            log.warning("%d refusals did not reach the audit log.", n_lost)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._waiting or self._n_dropped or self._hurry or self._closing
                )
                self._changed.wait_for(lambda: self._hurry or self._closing, self._interval_s)
                self._hurry = False
                is_last = self._closing
                waiting, self._waiting = self._waiting, {}
                n_dropped, self._n_dropped = self._n_dropped, 0
                through = self._n_noted
            if self._write(waiting, n_dropped):
                with self._changed:
                    self._written_through = through
                    self._changed.notify_all()
            else:
                self._put_back(waiting, n_dropped)
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, self._interval_s)

    def _write(self, waiting: Mapping[_Kind, _Counted], n_dropped: int) -> bool:
        if not waiting and not n_dropped:
            return True
        assert self._engine is not None
        from mlserve_jupyter.storage.engine import writing

        try:
            with writing(self._engine) as connection:
                for counted in waiting.values():
                    write_event(connection, _with_count(counted), counted.at)
                if n_dropped:
                    facts = AuditEvent(SERVER, "audit.drop", details={"n_events": n_dropped})
                    write_event(connection, facts)
        except MLServeError as error:
            log.warning("The audit log waits for its database: %s", error)
            return False
        except Exception:
            # The thread must outlive whatever one event brings.
            log.exception("%d refusals cannot be written to the audit log.", len(waiting))
        return True

    def _put_back(self, waiting: dict[_Kind, _Counted], n_dropped: int) -> None:
        """Keep what could not be written, before what has come meanwhile."""
        with self._changed:
            newer, self._waiting = self._waiting, waiting
            self._n_dropped += n_dropped
            for kind, counted in newer.items():
                if kind in waiting:
                    waiting[kind].n_times += counted.n_times
                elif len(waiting) < self._max_kinds:
                    waiting[kind] = counted
                else:
                    self._n_dropped += counted.n_times


def _with_count(counted: _Counted) -> AuditEvent:
    if counted.n_times == 1:
        return counted.event
    details = {**counted.event.details, "times": counted.n_times}
    return replace(counted.event, details=details)
