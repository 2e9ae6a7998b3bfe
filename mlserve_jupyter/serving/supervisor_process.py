"""A running supervisor, as the server sees it: the server's end of its control socket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import msgspec

from mlserve_jupyter.errors import EnvironmentUnusable
from mlserve_jupyter.serving.bootstrap import command
from mlserve_jupyter.serving.protocol import WorkerLimits, frame
from mlserve_jupyter.serving.replies import read_frame
from mlserve_jupyter.serving.worker_process import CLOSED, WorkerProcess, died
from mlserve_jupyter.threads import in_answering_thread

START_TIMEOUT_S = 60.0
PRELOAD_TIMEOUT_S = 30.0

_HIDDEN_VARIABLES = ("JUPYTER", "JPY", "MLSERVE")


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
            popen = await in_answering_thread(_spawn, interpreter, theirs, limits, log_path)
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
            raise died("the supervisor does not start it") from None
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
            raise died("closed")
        data = frame(json.dumps(order).encode())
        async with self._sending:
            try:
                sent = 0
                if sock is not None:
                    sent = socket.send_fds(self._control, [data], [sock.fileno()])
                await asyncio.get_running_loop().sock_sendall(self._control, data[sent:])
            except OSError as error:
                raise died("the supervisor is gone") from error

    async def _read_events(self) -> None:
        self._control.setblocking(False)
        # A second handle, so that the transport owns one and `_order` the other.
        reader, writer = await asyncio.open_unix_connection(sock=self._control.dup())
        decoder = msgspec.json.Decoder(_Event)
        try:
            while True:
                header, _ = await read_frame(reader, 0)
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
            command(
                interpreter,
                "supervisor.main",
                str(theirs.fileno()),
                json.dumps(asdict(limits)),
            ),
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
