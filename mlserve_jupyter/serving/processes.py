"""The server's ends of the sockets to a supervisor and to its workers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import msgspec

from mlserve_jupyter.errors import EnvironmentUnusable, MLServeError, WorkerDied, WorkerOutOfMemory
from mlserve_jupyter.serving.bootstrap import command
from mlserve_jupyter.serving.protocol import (
    PREFIX,
    Forget,
    ListModules,
    Message,
    ModelRef,
    Open,
    Rename,
    WorkerLimits,
    frame,
    message_frame,
)
from mlserve_jupyter.serving.runtimes.verification import CompileReply

START_TIMEOUT_S = 60.0
PRELOAD_TIMEOUT_S = 30.0
END_REASON_TIMEOUT_S = 2.0
NEW_MODULES_TIMEOUT_S = 5.0
MAX_HEADER_BYTES = 16 * 2**20

CLOSED = "closed"
"""Why a worker ended that was not needed any more."""

_HIDDEN_VARIABLES = ("JUPYTER", "JPY", "MLSERVE")


class WorkerError(msgspec.Struct, frozen=True):
    """What went wrong in a worker; ``kind`` is the step, or a cause that the step recognised."""

    kind: str
    type: str
    message: str
    traceback: str
    module: str | None = None
    distribution: str | None = None


class AnswerHead(msgspec.Struct, frozen=True):
    """One call's part of a worker's answer.

    Attributes
    ----------
    n_bytes
        How much of the body is its own.
    columns
        Column names, where the predictions are a DataFrame.
    """

    n_bytes: int
    columns: list[str] | None = None
    error: WorkerError | None = None


class Reply(msgspec.Struct, frozen=True):
    """A worker's answer, without its body.

    Attributes
    ----------
    number
        Of the message that it answers.
    load_ms, predict_ms
        What it took; a model that was loaded already took 0.
    is_new
        Whether this message loaded the model.
    loaded
        Bytes of each model that the worker holds now, by key.
    answers
        One a call, in order.
    row_by_row
        Whether a row's answer was found not to depend on the rows beside it.
    compiled
        What a graph that was asked for is.
    error
        Why the model could not be loaded.
    """

    number: int = -1
    load_ms: float = 0.0
    predict_ms: float = 0.0
    is_new: bool = False
    loaded: dict[str, int] = {}
    answers: list[AnswerHead] = []
    row_by_row: bool = False
    modules: list[str] = []
    compiled: CompileReply | None = None
    error: WorkerError | None = None


class _Event(msgspec.Struct, frozen=True):
    event: str
    worker: int = -1
    pid: int = -1
    reason: str = ""
    python: str = ""
    failed: list[str] = []


class SupervisorProcess:
    """A running supervisor; made by :meth:`start`.

    Attributes
    ----------
    interpreter
        The interpreter that it and its workers run under.
    alive
        Whether it can start workers.
    max_answer_bytes
        What a worker may answer at most.
    """

    def __init__(
        self,
        interpreter: str,
        popen: subprocess.Popen[bytes],
        control: socket.socket,
        max_answer_bytes: int,
    ) -> None:
        self.interpreter = interpreter
        self.max_answer_bytes = max_answer_bytes
        self.alive = True
        self._popen = popen
        self._control = control
        self._workers: dict[int, WorkerProcess] = {}
        self._ids = itertools.count(1)
        self._sending = asyncio.Lock()
        self._ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._preloaded: asyncio.Queue[list[str]] = asyncio.Queue()
        self._events: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, interpreter: str, limits: WorkerLimits, log_path: Path
    ) -> SupervisorProcess:
        """Start ``interpreter`` as a supervisor and wait until it answers.

        Raises
        ------
        EnvironmentUnusable
            If the interpreter is not there, or does not come up.
        """
        ours, theirs = socket.socketpair()
        try:
            popen = await asyncio.to_thread(_spawn, interpreter, theirs, limits, log_path)
        except OSError as error:
            ours.close()
            raise EnvironmentUnusable(
                f"The interpreter {interpreter!r} cannot be started ({error.strerror}). "
                "Deploy again from a kernel whose environment exists.",
                interpreter=interpreter,
            ) from error
        finally:
            theirs.close()
        self = cls(interpreter, popen, ours, limits.max_answer_bytes)
        self._events = asyncio.create_task(self._read_events())
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), START_TIMEOUT_S)
        except (asyncio.TimeoutError, ConnectionError) as error:
            await self.aclose()
            raise EnvironmentUnusable(
                f"The interpreter {interpreter!r} does not come up as a worker; the end of "
                f"{log_path.name} in the data folder's log says why: "
                f"{_tail(log_path)}",
                interpreter=interpreter,
            ) from error
        return self

    async def start_worker(self) -> WorkerProcess:
        """Start a fresh worker and wait until it is there.

        Raises
        ------
        WorkerDied
            If the supervisor does not start it; it is given up then.
        """
        ours, theirs = socket.socketpair()
        worker_id = next(self._ids)
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            worker = WorkerProcess(self, worker_id, ours, reader, writer)
            self._workers[worker_id] = worker
            await self._order({"do": "start", "worker": worker_id}, theirs)
        finally:
            theirs.close()
        try:
            # It may be importing something first.
            await asyncio.wait_for(asyncio.shield(worker.started), PRELOAD_TIMEOUT_S + 10)
        except asyncio.TimeoutError:
            self.give_up()
            raise _died("the supervisor does not start it") from None
        return worker

    async def preload(self, modules: Sequence[str]) -> bool:
        """Import ``modules`` in the supervisor, so that its future workers have them.

        Returns
        -------
        bool
            Whether the supervisor is still of use: one that does not come back from an import is
            given up.
        """
        if not modules or not self.alive:
            return self.alive
        await self._order({"do": "preload", "modules": list(modules)})
        try:
            await asyncio.wait_for(self._preloaded.get(), PRELOAD_TIMEOUT_S)
        except asyncio.TimeoutError:
            self.give_up()
        return self.alive

    def give_up(self) -> None:
        """Kill a supervisor that does not do as it is told; its workers die with it."""
        self.alive = False
        self._popen.kill()

    async def kill_worker(self, worker_id: int, reason: str) -> None:
        """Kill a worker at once."""
        await self._order({"do": "kill", "worker": worker_id, "reason": reason})

    async def aclose(self) -> None:
        """Kill the workers, end the supervisor and wait for it."""
        self.alive = False
        if self._events is not None:
            self._events.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._events
        self._control.close()
        for worker in self._workers.values():
            worker.ended(CLOSED)
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        try:
            self._popen.wait(2)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    async def _order(self, order: dict[str, object], sock: socket.socket | None = None) -> None:
        if not self.alive:
            raise _died("closed")
        data = frame(json.dumps(order).encode())
        async with self._sending:
            try:
                sent = 0
                if sock is not None:
                    sent = socket.send_fds(self._control, [data], [sock.fileno()])
                await asyncio.get_running_loop().sock_sendall(self._control, data[sent:])
            except OSError as error:
                raise _died("the supervisor is gone") from error

    async def _read_events(self) -> None:
        self._control.setblocking(False)
        # A second handle, so that the transport owns one and `_order` the other.
        reader, writer = await asyncio.open_unix_connection(sock=self._control.dup())
        decoder = msgspec.json.Decoder(_Event)
        try:
            while True:
                header, _ = await _read_frame(reader, 0)
                self._handle(decoder.decode(header))
        except (asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError):
            self.alive = False
            if not self._ready.done():
                self._ready.set_exception(ConnectionError("the supervisor ended"))
            self._preloaded.put_nowait([])
            for worker in list(self._workers.values()):
                worker.ended("the supervisor is gone")
        finally:
            writer.close()

    def _handle(self, event: _Event) -> None:
        match event.event:
            case "ready":
                self._ready.set_result(event.python)
            case "started":
                self._workers[event.worker].has_started(event.pid)
            case "preloaded":
                self._preloaded.put_nowait(event.failed)
            case "exit":
                self._workers.pop(event.worker).ended(event.reason)


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
        parent: SupervisorProcess,
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
            header, body = await _read_frame(self._reader, self._parent.max_answer_bytes)
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
        self._writer.write(message_frame(number, message))
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
        return _died(reason)


def _died(reason: str) -> MLServeError:
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


async def _read_frame(reader: asyncio.StreamReader, max_body_bytes: int) -> tuple[bytes, bytes]:
    header_bytes, body_bytes = PREFIX.unpack(await reader.readexactly(PREFIX.size))
    if header_bytes > MAX_HEADER_BYTES or body_bytes > max_body_bytes:
        raise msgspec.DecodeError("a frame of this size is not one")
    header = await reader.readexactly(header_bytes)
    return header, await reader.readexactly(body_bytes) if body_bytes else b""


def _spawn(
    interpreter: str, theirs: socket.socket, limits: WorkerLimits, log_path: Path
) -> subprocess.Popen[bytes]:
    """Start the process; its output goes to the log, and the server's credentials stay here."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN_VARIABLES)
    }
    log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o600)
    try:
        return subprocess.Popen(
            command(interpreter, "main", str(theirs.fileno()), json.dumps(asdict(limits))),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[theirs.fileno()],
            env=environment,
            cwd=log_path.parent,
        )
    finally:
        os.close(log)


def _tail(log_path: Path) -> str:
    lines = log_path.read_text(errors="replace").strip().splitlines() if log_path.exists() else []
    return lines[-1] if lines else "it said nothing"
