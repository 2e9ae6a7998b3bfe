"""The worker pool: which process runs which model, and what happens when one does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from mlserve_jupyter.errors import (
    DeadlineExceeded,
    MLServeError,
    Overloaded,
    Unavailable,
    WorkerDied,
    WorkerOutOfMemory,
)
from mlserve_jupyter.serving.processes import Reply, SupervisorProcess, WorkerProcess
from mlserve_jupyter.serving.protocol import (
    Call,
    Describe,
    Load,
    ModelRef,
    WorkerLimits,
)
from mlserve_jupyter.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerAnswer:
    """What a worker gave for one message.

    Attributes
    ----------
    body
        JSON of the predictions; empty where none were asked for.
    queue_ms
        Time from the call until the worker took it.
    """

    reply: Reply
    body: bytes
    queue_ms: float


@dataclass(eq=False)
class _Waiting:
    ref: ModelRef
    message: Load | Call | Describe
    arrived: float
    answer: asyncio.Future[WorkerAnswer]


class WorkerPool:
    """All environments' workers.

    Parameters
    ----------
    settings
        Limits and deadlines.
    log_dir
        Folder for what supervisors, workers and models print.
    """

    def __init__(self, settings: Settings, log_dir: Path) -> None:
        self._settings = settings
        self._log_dir = log_dir
        self._environments: dict[str, Environment] = {}
        self._idle_check: asyncio.Task[None] | None = None

    def environment(self, interpreter: str) -> Environment:
        """Return the environment of an interpreter; nothing is started yet."""
        found = self._environments.get(interpreter)
        if found is None:
            digest = hashlib.sha256(interpreter.encode()).hexdigest()[:12]
            found = Environment(interpreter, self._settings, self._log_dir / f"{digest}.log")
            self._environments[interpreter] = found
        if self._idle_check is None:
            self._idle_check = asyncio.create_task(self._close_idle())
        return found

    def environments(self) -> list[Environment]:
        """All environments that were used since the start."""
        return list(self._environments.values())

    def forget(self, key: str) -> None:
        """Let a model go wherever it is loaded."""
        for environment in self._environments.values():
            environment.forget(key)

    async def aclose(self) -> None:
        """End all processes."""
        if self._idle_check is not None:
            self._idle_check.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._idle_check
        await asyncio.gather(*(env.aclose() for env in self._environments.values()))

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(min(30.0, self._settings.worker_idle_s))
            for environment in self._environments.values():
                if environment.idle_s() > self._settings.worker_idle_s:
                    await environment.aclose()


class Environment:
    """The workers of one interpreter, with the models' affinity to them.

    A model is always sent to the same slot, so that its memory is not multiplied by the number of
    workers. A slot is one process at a time; when that ends, another takes its place.
    """

    def __init__(self, interpreter: str, settings: Settings, log_path: Path) -> None:
        self.interpreter = interpreter
        self._settings = settings
        self._log_path = log_path
        self._supervisor: SupervisorProcess | None = None
        self._starting = asyncio.Lock()
        self._slots: list[Slot] = []
        self._slot_of: dict[str, Slot] = {}
        self._preloaded: set[str] = set()
        self._last_used = time.monotonic()

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots that exist now."""
        return tuple(self._slots)

    def idle_s(self) -> float:
        """Seconds since the last use; 0 while nothing runs or something waits."""
        if self._supervisor is None or any(slot.busy for slot in self._slots):
            return 0.0
        return time.monotonic() - self._last_used

    async def warm(self, modules: list[str]) -> None:
        """Start the supervisor and have it import ``modules``."""
        supervisor = await self._supervise()
        missing = [name for name in modules if name not in self._preloaded]
        self._preloaded.update(missing)
        await supervisor.preload(missing)

    async def fresh_worker(self) -> WorkerProcess:
        """Start a worker that has loaded nothing and belongs to no slot yet."""
        return await (await self._supervise()).start_worker()

    async def adopt(self, worker: WorkerProcess, key: str, ref: ModelRef) -> None:
        """Keep a fresh worker that has loaded a model, or load the model in a slot that exists.

        Parameters
        ----------
        key
            The key under which the worker knows the model; from now on it is that of ``ref``.
        """
        self._last_used = time.monotonic()
        if len(self._slots) < self._settings.workers_per_environment:
            worker.rename(key, ref)
            slot = self._add_slot(worker)
            self._slot_of[ref.key] = slot
            return
        await worker.aclose()
        await self.run(ref, Load(ref.key), self._settings.load_timeout_s)

    async def run(
        self, ref: ModelRef, message: Load | Call | Describe, timeout_s: float
    ) -> WorkerAnswer:
        """Send ``message`` to the model's slot and wait for the answer.

        Raises
        ------
        Overloaded
            If too many calls wait for that slot.
        DeadlineExceeded
            If the answer takes longer than ``timeout_s``, plus the loading deadline where the
            model is not loaded yet. A worker that runs the call is then replaced.
        WorkerDied, WorkerOutOfMemory
            If the worker ends while it runs the call.
        """
        self._last_used = time.monotonic()
        slot = self._slot_of.get(ref.key)
        if slot is None:
            slot = self._slot_of[ref.key] = self._roomiest_slot()
        return await slot.run(ref, message, timeout_s)

    def forget(self, key: str) -> None:
        """Let a model go."""
        slot = self._slot_of.pop(key, None)
        if slot is not None:
            slot.forget(key)

    async def aclose(self) -> None:
        """End the processes; the environment can be used again afterwards."""
        slots, self._slots, self._slot_of = self._slots, [], {}
        await asyncio.gather(*(slot.aclose() for slot in slots))
        supervisor, self._supervisor, self._preloaded = self._supervisor, None, set()
        if supervisor is not None:
            await supervisor.aclose()

    async def _supervise(self) -> SupervisorProcess:
        async with self._starting:
            if self._supervisor is None or not self._supervisor.alive:
                gone, self._supervisor = self._supervisor, None
                if gone is not None:
                    await gone.aclose()
                limits = WorkerLimits(
                    max_loaded_bytes=self._settings.max_loaded_bytes,
                    max_loaded_models=self._settings.max_loaded_models,
                    memory_bytes=self._settings.worker_memory_bytes,
                    start_method=self._settings.worker_start_method
                    or ("fork" if sys.platform == "linux" else "spawn"),
                )
                supervisor = await SupervisorProcess.start(self.interpreter, limits, self._log_path)
                await supervisor.preload(sorted(self._preloaded))
                self._supervisor = supervisor
            self._last_used = time.monotonic()
            return self._supervisor

    def _roomiest_slot(self) -> Slot:
        if len(self._slots) < self._settings.workers_per_environment:
            return self._add_slot(None)
        return min(self._slots, key=lambda slot: slot.load_estimate())

    def _add_slot(self, worker: WorkerProcess | None) -> Slot:
        slot = Slot(self, worker, self._settings)
        self._slots.append(slot)
        return slot


@dataclass(eq=False)
class Slot:
    """One worker's place: a bounded queue, and the process that works it off.

    Attributes
    ----------
    environment
        Gives the slot a fresh worker when it needs one.
    worker
        The process, or None until one is needed.
    n_replaced
        How many processes ended here before their time.
    """

    environment: Environment
    worker: WorkerProcess | None
    settings: Settings
    n_replaced: int = 0
    _queue: deque[_Waiting] = field(default_factory=deque)
    _running: _Waiting | None = None
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a call runs or waits."""
        return self._running is not None or bool(self._queue)

    def load_estimate(self) -> tuple[int, int]:
        """Return the calls that wait and the bytes that are loaded; the least has most room."""
        loaded = self.worker.loaded if self.worker is not None else {}
        return len(self._queue), sum(loaded.values())

    def has_loaded(self, key: str) -> bool:
        """Whether the model is in memory."""
        return self.worker is not None and self.worker.alive and key in self.worker.loaded

    async def run(
        self, ref: ModelRef, message: Load | Call | Describe, timeout_s: float
    ) -> WorkerAnswer:
        """See :meth:`Environment.run`."""
        if len(self._queue) >= self.settings.max_queue_requests:
            raise Overloaded(
                f"{len(self._queue)} calls wait for this worker already. Try again in a moment."
            )
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        if not self.has_loaded(ref.key):
            timeout_s += self.settings.load_timeout_s
        answer: asyncio.Future[WorkerAnswer] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(ref, message, time.perf_counter(), answer)
        self._queue.append(waiting)
        self._arrived.set()
        try:
            return await asyncio.wait_for(answer, timeout_s)
        except asyncio.TimeoutError:
            if self._running is waiting and self.worker is not None:
                await self.worker.kill("it did not answer in time")
            raise DeadlineExceeded(
                f"The model did not answer within {timeout_s:g} s. Send fewer rows at once, or "
                "raise predict_timeout_s.",
                timeout_s=timeout_s,
            ) from None

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
        for waiting in [self._running, *self._queue]:
            if waiting is not None and not waiting.answer.done():
                waiting.answer.set_exception(Unavailable("The server is shutting down."))
        self._queue.clear()
        if self.worker is not None:
            await self.worker.aclose()

    async def _work(self) -> None:
        while True:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            waiting = self._queue.popleft()
            if waiting.answer.done():  # its caller has given up
                continue
            self._running = waiting
            try:
                answer = await self._serve(waiting)
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)
            except MLServeError as error:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            except Exception as error:
                log.exception("A worker's slot failed unexpectedly")
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            finally:
                self._running = None

    async def _serve(self, waiting: _Waiting) -> WorkerAnswer:
        queue_ms = (time.perf_counter() - waiting.arrived) * 1e3
        worker = self.worker
        if worker is None or not worker.alive:
            worker = self.worker = await self.environment.fresh_worker()
        key = waiting.ref.key
        worker.introduce(waiting.ref)
        try:
            reply, body = await worker.ask(waiting.message, key=key)
        except (WorkerDied, WorkerOutOfMemory):
            await self._replace(worker)
            raise
        if reply.error is not None and reply.error.kind == "memory":
            # What is left of a process after a MemoryError is not to be trusted with other calls.
            await self._replace(worker)
        return WorkerAnswer(reply, body, queue_ms)

    async def _replace(self, ended: WorkerProcess) -> None:
        """Put a fresh worker in the place of one that is of no use any more."""
        self.n_replaced += 1
        self.worker = None
        await ended.aclose()
        try:
            self.worker = await self.environment.fresh_worker()
        except MLServeError as error:
            log.warning("A worker could not be replaced yet: %s", error)
