"""The worker pool: which process runs which model, and what happens when one does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mlserve_jupyter.serving.call_queue import LOADING, Answer
from mlserve_jupyter.serving.protocol import Batch, ModelRef, WorkerLimits
from mlserve_jupyter.serving.slot import Slot
from mlserve_jupyter.serving.supervisor_process import SupervisorProcess
from mlserve_jupyter.serving.worker_process import WorkerProcess
from mlserve_jupyter.settings import Settings

RELIEVE_AFTER_S = 0.1
"""A call that runs longer than this holds nobody up while another worker is idle."""


class WorkerPool:
    """All environments' workers.

    Parameters
    ----------
    settings
        Limits and deadlines.
    log_dir
        Folder for what supervisors, workers and models print.

    Attributes
    ----------
    on_lost
        Told of the models, by key and least recently used first, that a worker held when it ended
        before its time.
    keeps
        Says of an environment that is idle whether its processes stay nevertheless.
    """

    def __init__(self, settings: Settings, log_dir: Path) -> None:
        self._settings = settings
        self._log_dir = log_dir
        self._environments: dict[str, Environment] = {}
        self.on_lost: Callable[[list[str]], None] | None = None
        self.keeps: Callable[[Environment], bool] | None = None
        self._idle_check: asyncio.Task[None] | None = None

    def environment(self, interpreter: str) -> Environment:
        """Return the environment of an interpreter; nothing is started yet."""
        found = self._environments.get(interpreter)
        if found is None:
            # One folder has any number of paths; each must not be a process of its own.
            interpreter = _plain(interpreter)
            found = self._environments.get(interpreter)
        if found is None:
            digest = hashlib.sha256(interpreter.encode()).hexdigest()[:12]
            log_path = self._log_dir / f"{digest}.log"
            found = Environment(interpreter, self._settings, log_path, self._tell_lost)
            self._environments[interpreter] = found
        if self._idle_check is None:
            self._idle_check = asyncio.create_task(self._close_idle())
        return found

    def apply(self, settings: Settings) -> None:
        """Go on with other queues and deadlines; processes that run keep their limits."""
        self._settings = settings
        for environment in self._environments.values():
            environment.apply(settings)

    def environments(self) -> list[Environment]:
        """All environments that were used since the start."""
        return list(self._environments.values())

    @property
    def n_replaced(self) -> int:
        """Workers that ended before their time, since the start."""
        return sum(environment.n_replaced for environment in self._environments.values())

    def forget(self, key: str) -> None:
        """Let a model go wherever it is loaded."""
        for environment in self._environments.values():
            environment.forget(key)

    @property
    def busy(self) -> bool:
        """Whether any call runs or waits."""
        return any(environment.busy for environment in self._environments.values())

    def _tell_lost(self, keys: list[str]) -> None:
        if self.on_lost is not None:
            self.on_lost(keys)

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
            for environment in self.environments():
                is_idle = environment.idle_s() > self._settings.worker_idle_s
                if is_idle and not (self.keeps is not None and self.keeps(environment)):
                    await environment.aclose()


def _plain(interpreter: str) -> str:
    """Return a path without detours, if it leads to the same folder."""
    plain = os.path.normpath(interpreter)
    with contextlib.suppress(OSError):
        if os.path.samefile(os.path.dirname(plain), os.path.dirname(interpreter)):
            return plain
    return interpreter


class Environment:
    """The workers of one interpreter, with the models' affinity to them.

    A model has a slot of its own among them, so that its memory is not multiplied by the number of
    workers; only calls that would wait behind a long one go to an idle slot. A slot is one process
    at a time; when that ends, another takes its place.
    """

    def __init__(
        self,
        interpreter: str,
        settings: Settings,
        log_path: Path,
        on_lost: Callable[[list[str]], None],
    ) -> None:
        self.interpreter = interpreter
        self._on_lost = on_lost
        self._settings = settings
        self._log_path = log_path
        self._supervisor: SupervisorProcess | None = None
        self._starting = asyncio.Lock()
        self._slots: list[Slot] = []
        self._slot_of: dict[str, Slot] = {}
        self._preloaded: set[str] = set()
        self._last_used = time.monotonic()
        self._relieving: asyncio.Task[None] | None = None
        self._n_replaced_before = 0  # in slots that are closed

    @property
    def n_replaced(self) -> int:
        """Workers that ended before their time, since the start."""
        return self._n_replaced_before + sum(slot.n_replaced for slot in self._slots)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots that exist now."""
        return tuple(self._slots)

    def apply(self, settings: Settings) -> None:
        """Go on with other queues and deadlines."""
        self._settings = settings
        for slot in self._slots:
            slot.apply(settings)

    @property
    def busy(self) -> bool:
        """Whether any call runs or waits."""
        return any(slot.busy for slot in self._slots)

    def idle_s(self) -> float:
        """Seconds since the last use; 0 while nothing runs or something waits."""
        if self._supervisor is None or self.busy:
            return 0.0
        return time.monotonic() - self._last_used

    async def warm(self, modules: list[str]) -> None:
        """Start the supervisor and have it import ``modules``."""
        supervisor = await self._supervise()
        missing = [name for name in modules if name not in self._preloaded]
        if await supervisor.preload(missing):
            self._preloaded.update(missing)

    async def fresh_worker(self) -> WorkerProcess:
        """Start a worker that has loaded nothing and belongs to no slot yet."""
        worker = await (await self._supervise()).start_worker()
        worker.on_lost = self._on_lost
        return worker

    def would_wait(self, key: str) -> bool:
        """Whether a call of a model would have to wait for others, as far as can be said."""
        slot = self._slot_of.get(key)
        if slot is not None:
            return slot.busy
        is_full = len(self._slots) >= self._settings.workers_per_environment
        return is_full and self.busy

    def has_loaded(self, key: str) -> bool:
        """Whether a model is in memory."""
        return any(slot.has_loaded(key) for slot in self._slots)

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
        await self.load(ref)

    async def call(
        self,
        ref: ModelRef,
        method: str,
        batch: Batch,
        timeout_s: float,
        *,
        may_join: bool = False,
        n_bytes: int = 0,
    ) -> Answer:
        """Call a method of a model in its slot and wait for the answer.

        Parameters
        ----------
        may_join
            Whether it may be answered together with other calls.
        n_bytes
            About what the input takes in memory.

        Raises
        ------
        Overloaded
            If too much waits for that slot.
        DeadlineExceeded
            If the answer takes longer than ``timeout_s``, plus the loading deadline where the
            model is not loaded yet. A worker that runs the call is then replaced.
        WorkerDied, WorkerOutOfMemory
            If the worker ends while it runs the call.
        """
        return await self._slot(ref).call(
            ref, method, batch, timeout_s, may_join=may_join, n_bytes=n_bytes
        )

    async def load(self, ref: ModelRef) -> Answer:
        """Load a model in its slot, if it is not loaded; raises as :meth:`call` does."""
        return await self._slot(ref).call(ref, LOADING, None, self._settings.load_timeout_s)

    def _slot(self, ref: ModelRef) -> Slot:
        self._last_used = time.monotonic()
        slot = self._slot_of.get(ref.key)
        if slot is None:
            slot = self._slot_of[ref.key] = self._roomiest_slot()
        if self._relieving is None or self._relieving.done():
            self._relieving = asyncio.create_task(self._relieve())
        if slot.is_held_up(RELIEVE_AFTER_S):
            return self._idle_slot(ref.key) or slot
        return slot

    def _idle_slot(self, key: str) -> Slot | None:
        """Return a slot that has nothing to do, if possible with the model loaded."""
        idle = [slot for slot in self._slots if not slot.busy]
        if idle:
            return max(idle, key=lambda slot: slot.has_loaded(key))
        return (
            self._add_slot(None)
            if len(self._slots) < self._settings.workers_per_environment
            else None
        )

    async def _relieve(self) -> None:
        """Move calls from behind long ones to idle slots, as long as anything runs."""
        await asyncio.sleep(RELIEVE_AFTER_S)
        while any(slot.busy for slot in self._slots):
            for slot in self.slots:
                if slot.n_waiting and slot.is_held_up(RELIEVE_AFTER_S):
                    idle = self._idle_slot("")
                    if idle is not None:
                        idle.relieve(slot)
            await asyncio.sleep(RELIEVE_AFTER_S)

    def forget(self, key: str) -> None:
        """Let a model go."""
        self._slot_of.pop(key, None)
        for slot in self._slots:
            slot.forget(key)

    async def aclose(self) -> None:
        """End the processes; the environment can be used again afterwards."""
        self._n_replaced_before = self.n_replaced
        slots, self._slots, self._slot_of = self._slots, [], {}
        if self._relieving is not None:
            self._relieving.cancel()
            await asyncio.gather(self._relieving, return_exceptions=True)
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
                    max_answer_bytes=self._settings.max_answer_bytes,
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
        slot = Slot(self.fresh_worker, worker, self._settings)
        self._slots.append(slot)
        return slot
