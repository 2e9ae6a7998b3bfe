"""What is done again and again behind the platform's back, by one process of all on a database."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Condition, Thread

from sqlalchemy.engine import Engine

from mlserve_jupyter.errors import MLServeError
from mlserve_jupyter.storage.leadership import CONFIRM_S, leadership_of

log = logging.getLogger(__name__)

FIRST_AFTER_S = 5.0
"""A process that starts has better things to do at first."""

RETRY_S = 60.0
"""A job that failed is tried again after this, or sooner if it is due."""

MayGoOn = Callable[[], bool]
"""Asked by a job between its steps: False where it must stop, for another process may begin."""


@dataclass(frozen=True)
class PeriodicJob:
    """Something that one process does from time to time.

    A job is begun again from its start in another process, or killed at any point, so that its
    steps must be transactions that find out for themselves what is left to do. In a rare case (a
    process that was stopped for longer than the lock's lease) two processes run the same step.

    Attributes
    ----------
    name
        Unique; for the log and the thread, such as ``rollups``.
    every_s
        From the beginning of a run to that of the next.
    run
        Called in a thread of its own, never twice at once. What it raises is logged, and the job is
        tried again. Where it takes more than a second, it asks its argument between its steps.
    """

    name: str
    every_s: float
    run: Callable[[MayGoOn], None]


class Maintenance:
    """Runs the jobs while this process is the leader.

    Parameters
    ----------
    engine
        Of a database whose schema is prepared.
    jobs
        Each runs as soon as the process leads, and then as often as it says.
    name
        Of the lock: those of one name share it.
    first_after_s, confirm_s
        When the process begins to ask for the lock, and how often it does.
    """

    def __init__(
        self,
        engine: Engine,
        jobs: Sequence[PeriodicJob],
        *,
        name: str = "maintenance",
        first_after_s: float = FIRST_AFTER_S,
        confirm_s: float = CONFIRM_S,
    ) -> None:
        self._jobs = tuple(jobs)
        self._first_after_s = first_after_s
        self._confirm_s = confirm_s
        self._lock = leadership_of(engine, name)
        self._changed = Condition()
        self._due_at_s: dict[PeriodicJob, float] = {}
        self._running: dict[PeriodicJob, Thread] = {}
        self._closing = False
        self._thread = Thread(target=self._run, name="mlserve-maintenance", daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    @property
    def leads(self) -> bool:
        """Whether it is this process that runs the jobs."""
        return self._lock.is_held()

    def close(self, timeout_s: float = 5.0) -> None:
        """Let the jobs stop between two steps, and give the lock to another process.

        A job that does not stop in time is left to the end of the process.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            names = ", ".join(job.name for job in list(self._running))
            log.warning("Maintenance does not stop (%s); it ends with the process.", names)

    def _run(self) -> None:
        self._wait(self._first_after_s)
        while not self._closing:
            if self._confirm():
                self._begin_due()
            self._wait(min(self._confirm_s, self._next_due_s()))
        self._wait_for_running()
        self._lock.release()

    def _wait(self, for_s: float) -> None:
        with self._changed:
            if not self._closing:
                self._changed.wait(for_s)

    def _next_due_s(self) -> float:
        """Return in how many seconds the next job that does not run is due."""
        with self._changed:
            due_at_s = [at_s for job, at_s in self._due_at_s.items() if job not in self._running]
        return max(0.0, min(due_at_s, default=float("inf")) - time.monotonic())

    def _confirm(self) -> bool:
        """Return whether this process leads; if it has ceased to, wait for its jobs to stop."""
        led = bool(self._due_at_s)
        try:
            leads = self._lock.acquire()
        except MLServeError as error:
            leads = False
            if led:
                log.warning("The lock of maintenance is lost: %s", error)
        except Exception:
            # The thread must outlive whatever a database says.
            log.exception("The lock of maintenance cannot be asked for.")
            leads = False
        if led and not leads:
            self._due_at_s.clear()
            self._wait_for_running()
        return leads

    def _begin_due(self) -> None:
        now_s = time.monotonic()
        with self._changed:
            for job in self._jobs:
                if job not in self._running and self._due_at_s.setdefault(job, now_s) <= now_s:
                    self._due_at_s[job] = now_s + job.every_s
                    thread = Thread(
                        target=self._run_job, args=(job,), name=f"mlserve-{job.name}", daemon=True
                    )
                    self._running[job] = thread
                    thread.start()

    def _run_job(self, job: PeriodicJob) -> None:
        is_done = False
        try:
            job.run(self._may_go_on)
            is_done = True
        except MLServeError as error:
            log.warning("%s failed and is tried again: %s", job.name, error)
        except Exception:
            # Whatever one job raises, it and the others must go on.
            log.exception("%s failed and is tried again.", job.name)
        with self._changed:
            del self._running[job]
            if not is_done and job in self._due_at_s:
                self._due_at_s[job] = min(self._due_at_s[job], time.monotonic() + RETRY_S)
            self._changed.notify_all()

    def _may_go_on(self) -> bool:
        return not self._closing and self._lock.is_held()

    def _wait_for_running(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._running)
