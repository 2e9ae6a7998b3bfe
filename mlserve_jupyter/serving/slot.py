"""One worker's place: the queue before it, and the process that works it off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from mlserve_jupyter.errors import (
    DeadlineExceeded,
    MLServeError,
    Unavailable,
    WorkerDied,
    WorkerOutOfMemory,
)
from mlserve_jupyter.serving.call_queue import LOADING, Answer, CallQueue, WaitingCall
from mlserve_jupyter.serving.protocol import Batch, Call, Load, ModelRef
from mlserve_jupyter.serving.replies import Reply
from mlserve_jupyter.serving.worker_process import WorkerProcess
from mlserve_jupyter.settings import Settings

log = logging.getLogger(__name__)

GRACE_S = 1.0
"""How long after the last caller's deadline a worker is ended by the slot itself."""


class Slot:
    """One worker at a time; when it ends, another takes its place.

    Parameters
    ----------
    fresh_worker
        Starts a worker.
    worker
        The first one, or None until one is needed.
    settings
        Bounds of the queue and of a batch.

    Attributes
    ----------
    worker
        The process, or None until one is needed.
    n_replaced
        How many processes ended here before their time.
    """

    def __init__(
        self,
        fresh_worker: Callable[[], Awaitable[WorkerProcess]],
        worker: WorkerProcess | None,
        settings: Settings,
    ) -> None:
        self.worker = worker
        self.n_replaced = 0
        self._fresh_worker = fresh_worker
        self._queue = CallQueue()
        self.apply(settings)
        self._running: list[WaitingCall] = []
        self._started = 0.0
        self._task: asyncio.Task[None] | None = None

    def apply(self, settings: Settings) -> None:
        """Go on with other queues and deadlines."""
        self._settings = settings
        self._queue.bound(
            max_calls=settings.max_queue_requests,
            max_rows=settings.max_queue_rows,
            max_bytes=settings.max_queue_bytes,
        )

    @property
    def busy(self) -> bool:
        """Whether a call runs or waits."""
        return bool(self._running) or len(self._queue) > 0

    @property
    def n_waiting(self) -> int:
        """Calls that wait."""
        return len(self._queue)

    def is_held_up(self, after_s: float) -> bool:
        """Whether what runs has been running for ``after_s``."""
        return bool(self._running) and time.perf_counter() - self._started > after_s

    def relieve(self, held_up: Slot) -> None:
        """Take over calls that wait behind a long one in another slot."""
        held_up._queue.give_away(self._queue, held_up._running[0].ref.key)
        self._start()

    def load_estimate(self) -> tuple[int, int]:
        """Return the calls that wait and the bytes that are loaded; the least has most room."""
        loaded = self.worker.loaded if self.worker is not None else {}
        return len(self._queue), sum(loaded.values())

    def has_loaded(self, key: str) -> bool:
        """Whether the model is in memory."""
        return self.worker is not None and self.worker.alive and key in self.worker.loaded

    async def call(
        self,
        ref: ModelRef,
        method: str,
        batch: Batch | None,
        timeout_s: float,
        *,
        may_join: bool = False,
        n_bytes: int = 0,
    ) -> Answer:
        """Queue a call and wait for its answer, see :meth:`Environment.call`."""
        self._start()
        if method != LOADING and not self.has_loaded(ref.key):
            timeout_s += self._settings.load_timeout_s
        call = WaitingCall(
            ref=ref,
            method=method,
            batch=batch,
            may_join=may_join,
            n_bytes=n_bytes,
            arrived=time.perf_counter(),
            deadline=time.perf_counter() + timeout_s,
            answer=asyncio.get_running_loop().create_future(),
        )
        self._queue.put(call)
        try:
            return await asyncio.wait_for(call.answer, timeout_s)
        except asyncio.TimeoutError:
            if call.runs_in is not None:
                await call.runs_in.kill("it did not answer in time")
            raise DeadlineExceeded(
                f"The model did not answer within {timeout_s:g} s. Send fewer rows at once, or "
                "raise predict_timeout_s.",
                timeout_s=timeout_s,
            ) from None

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    def forget(self, key: str) -> None:
        """Let a model go once the calls before are done."""
        if self.worker is not None and self.worker.alive:
            self.worker.forget(key)

    async def aclose(self) -> None:
        """End the process and fail what waits."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        _fail([*self._running, *self._queue.drain()], Unavailable("The server is shutting down."))
        if self.worker is not None:
            await self.worker.aclose()

    async def _work(self) -> None:
        while True:
            calls = self._running = await self._queue.take(self._settings.max_batch_rows)
            self._started = time.perf_counter()
            try:
                await self._serve(calls)
            except (WorkerDied, WorkerOutOfMemory) as error:
                if len(calls) == 1:
                    _fail(calls, error)
                else:
                    # One of them ended the worker; alone, each other is answered.
                    self._queue.put_back([call for call in calls if not call.is_given_up])
            except MLServeError as error:
                _fail(calls, error)
            except Exception as error:
                log.exception("A worker's slot failed unexpectedly")
                _fail(calls, error)
            finally:
                self._running = []

    async def _serve(self, calls: list[WaitingCall]) -> None:
        worker = self.worker
        if worker is None or not worker.alive:
            worker = self.worker = await self._fresh_worker()
        waiting = [call for call in calls if not call.is_given_up]
        if not waiting:
            return
        ref = calls[0].ref
        worker.introduce(ref)
        batches = tuple(call.batch for call in calls if call.batch is not None)
        message = Call(ref.key, calls[0].method, batches) if batches else Load(ref.key)
        try:
            for call in calls:
                call.runs_in = worker
            reply, body = await self._ask(worker, message, calls)
        except (WorkerDied, WorkerOutOfMemory):
            await self._replace(worker)
            raise
        errors = [reply.error, *(answer.error for answer in reply.answers)]
        if any(error is not None and error.kind == "memory" for error in errors):
            # What is left of a process after a MemoryError is not to be trusted with other calls.
            await self._replace(worker)
        self._queue.note_taken(calls, reply.predict_ms / 1e3)
        _settle(calls, reply, body, self._started)

    async def _ask(
        self, worker: WorkerProcess, message: Call | Load, calls: list[WaitingCall]
    ) -> tuple[Reply, bytes]:
        """Ask the worker; end it when the last caller's deadline has passed.

        Callers end a call that takes too long themselves; this is for those that are gone by then.
        """
        last_s = max(call.deadline for call in calls) - time.perf_counter() + GRACE_S
        watchdog = asyncio.get_running_loop().call_later(
            last_s, lambda: asyncio.ensure_future(worker.kill("it did not answer in time"))
        )
        try:
            return await worker.ask(message, key=calls[0].ref.key)
        finally:
            watchdog.cancel()

    async def _replace(self, ended: WorkerProcess) -> None:
        """Put a fresh worker in the place of one that is of no use any more."""
        self.n_replaced += 1
        self.worker = None
        ended.report_lost()
        await ended.aclose()
        try:
            self.worker = await self._fresh_worker()
        except MLServeError as error:
            log.warning("A worker could not be replaced yet: %s", error)


def _settle(calls: list[WaitingCall], reply: Reply, body: bytes, started: float) -> None:
    """Give each caller its part of a worker's answer."""
    start = 0
    for i, call in enumerate(calls):
        head = reply.answers[i] if i < len(reply.answers) else None
        end = start + (head.n_bytes if head is not None else 0)
        if not call.is_given_up:
            call.answer.set_result(
                Answer(
                    reply=reply,
                    body=body[start:end],
                    columns=head.columns if head is not None else None,
                    error=reply.error or (head.error if head is not None else None),
                    queue_ms=(started - call.arrived) * 1e3,
                    n_calls=len(calls),
                )
            )
        start = end


def _fail(calls: list[WaitingCall], error: Exception) -> None:
    for call in calls:
        if not call.is_given_up:
            call.answer.set_exception(error)
