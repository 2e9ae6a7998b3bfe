"""One worker, as the server sees it: the server's end of its socket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import signal
import socket
from collections.abc import Callable
from typing import Protocol

import msgspec

from mlserve_jupyter.errors import MLServeError, WorkerDied, WorkerOutOfMemory
from mlserve_jupyter.serving.protocol import (
    Forget,
    ListModules,
    Message,
    ModelRef,
    Open,
    Rename,
    message_frame,
)
from mlserve_jupyter.serving.replies import Reply, read_frame

END_REASON_TIMEOUT_S = 2.0
NEW_MODULES_TIMEOUT_S = 5.0

CLOSED = "closed"
"""Why a worker ended that was not needed any more."""


class Parent(Protocol):
    """What a worker needs of its supervisor."""

    max_answer_bytes: int

    async def kill_worker(self, worker_id: int, reason: str) -> None:
        """Kill a worker at once."""

    def give_up(self) -> None:
        """Kill a supervisor that does not do as it is told."""


class WorkerProcess:
    """One worker, as the server sees it.

    Attributes
    ----------
    pid
        Its process id; -1 until the supervisor has told it.
    started
        Done once it has.
    alive
        Whether it can be called.
    loaded
        Bytes of the models that it holds, by key, least recently used first.
    n_loads
        How often it has loaded each model, by key.
    on_lost
        Told once of the models that it held, least recently used first, when it ends before its
        time.
    """

    def __init__(
        self,
        parent: Parent,
        worker_id: int,
        sock: socket.socket,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.pid = -1
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.loaded: dict[str, int] = {}
        self.n_loads: dict[str, int] = {}
        self.on_lost: Callable[[list[str]], None] | None = None
        self._parent = parent
        self._id = worker_id
        self._sock = sock
        self._reader = reader
        self._writer = writer
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._decoder = msgspec.json.Decoder(Reply)
        self._known: set[str] = set()
        # Numbers begin anywhere, so that an answer cannot be written ahead of its question.
        self._numbers = itertools.count(secrets.randbits(48))

    def has_started(self, pid: int) -> None:
        """Take note of its process id."""
        self.pid = pid
        if not self.started.done():
            self.started.set_result(None)

    @property
    def alive(self) -> bool:
        """Whether it can be called."""
        if self._end.done() or self._reader.at_eof():
            return False
        try:
            # The event loop may not have seen yet that the other end is closed.
            return self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def introduce(self, model: ModelRef) -> None:
        """Tell it of a model, once."""
        if model.key not in self._known:
            self._tell(Open(model))
            self._known.add(model.key)

    def forget(self, key: str) -> None:
        """Have it let a model go."""
        self._tell(Forget(key))
        self._known.discard(key)
        self.loaded.pop(key, None)

    def rename(self, key: str, model: ModelRef) -> None:
        """Know a loaded model under the key of ``model``."""
        self._tell(Rename(key, model))
        self._known.add(model.key)
        if key in self.loaded:
            self.loaded[model.key] = self.loaded.pop(key)
            self.n_loads[model.key] = self.n_loads.pop(key)

    async def ask(self, message: Message, *, key: str | None = None) -> tuple[Reply, bytes]:
        """Send a message and wait for its answer.

        Raises
        ------
        WorkerDied, WorkerOutOfMemory
            If the worker ends before it has answered.
        """
        try:
            number = self._tell(message)
            header, body = await read_frame(self._reader, self._parent.max_answer_bytes)
            reply = self._decoder.decode(header)
            if reply.number != number:
                raise msgspec.ValidationError("an answer to something else")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise await self._why() from error
        except msgspec.DecodeError as error:
            await self.kill("it wrote what is not an answer")
            raise await self._why() from error
        self.loaded = reply.loaded or self.loaded
        if reply.is_new and key is not None:
            self.n_loads[key] = self.n_loads.get(key, 0) + 1
        return reply, body

    def _tell(self, message: Message) -> int:
        """Send a message; return its number."""
        number = next(self._numbers)
        head, body = message_frame(number, message)
        self._writer.write(head)
        if body is not None:
            self._writer.write(body)
        return number

    async def new_modules(self) -> list[str]:
        """Return the importable modules that it has loaded beyond those of its supervisor.

        Raises
        ------
        WorkerDied
            If it does not say so in time; it is killed then.
        """
        try:
            reply, _ = await asyncio.wait_for(self.ask(ListModules()), NEW_MODULES_TIMEOUT_S)
        except asyncio.TimeoutError:
            await self.kill("it did not list its modules in time")
            raise await self._why() from None
        return reply.modules

    async def kill(self, reason: str) -> None:
        """Kill it at once; ``reason`` is what its callers are told."""
        with contextlib.suppress(WorkerDied):
            await self._parent.kill_worker(self._id, reason)
        if self.pid > 0 and not self._end.done():
            # A supervisor that hangs would not do it; until it has reaped the worker, the process
            # id is nobody else's.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def ended(self, reason: str) -> None:
        """Take note that it is gone."""
        if not self._end.done():
            self._end.set_result(reason)
        if not self.started.done():
            self.started.set_result(None)
        self._writer.close()
        if reason != CLOSED:
            self.report_lost()

    def report_lost(self) -> None:
        """Say which models are not loaded any more."""
        keys, self.loaded = list(self.loaded), {}
        if keys and self.on_lost is not None:
            self.on_lost(keys)

    async def aclose(self) -> None:
        """End it."""
        self._writer.close()
        await self.kill(CLOSED)

    async def _why(self) -> MLServeError:
        try:
            reason = await asyncio.wait_for(asyncio.shield(self._end), END_REASON_TIMEOUT_S)
        except asyncio.TimeoutError:
            reason = "it closed its socket"
            await self.kill(reason)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._end), END_REASON_TIMEOUT_S)
            if not self._end.done():
                self._parent.give_up()
        return died(reason)


def died(reason: str) -> MLServeError:
    """Return the error of a worker that ended for ``reason``, as its callers read it."""
    if reason == "memory":
        return WorkerOutOfMemory(
            "The worker went over its memory limit while it ran this model and was replaced. "
            "Send fewer rows at once, or raise worker_memory_bytes."
        )
    return WorkerDied(
        f"The worker that ran this model ended ({reason}) and was replaced. Try again; if it "
        "happens every time, the model itself ends its process.",
        reason=reason,
    )
