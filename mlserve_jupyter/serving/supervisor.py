"""The parent of one environment's workers: it starts them, watches them and outlives none.

The server starts one supervisor an interpreter and sends it, over a control socket, the socket of
each worker to be. A supervisor imports the libraries that models need once; each worker is then
forked from it in milliseconds and shares their memory. It never loads an artifact, so what it says
of a worker's end can be trusted.

When the server is gone the control socket ends, and the supervisor kills its workers and leaves.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import random
import resource
import select
import signal
import socket
import subprocess
import sys
import warnings
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from mlserve_jupyter.serving import worker
from mlserve_jupyter.serving.bootstrap import command
from mlserve_jupyter.serving.protocol import PREFIX, WorkerLimits, send_reply

WATCH_INTERVAL_S = 0.1
MAX_LOG_BYTES = 16 * 2**20
MAX_ORPHAN_GENERATIONS = 100
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main(control_fd: str, limits_json: str) -> None:
    """Run a supervisor on the inherited socket ``control_fd``."""
    control = socket.socket(fileno=int(control_fd))
    Supervisor(control, WorkerLimits(**json.loads(limits_json))).run()


def spawned_worker(fd: str, limits_json: str) -> None:
    """Run a worker in an interpreter of its own, on the inherited socket ``fd``."""
    _become_worker(socket.socket(fileno=int(fd)), WorkerLimits(**json.loads(limits_json)), None)


@dataclass
class _Child:
    worker_id: int
    pid: int
    popen: subprocess.Popen[bytes] | None
    reason: str | None = None


class Supervisor:
    """See the module.

    Parameters
    ----------
    control
        Socket to the server: frames of JSON both ways; a worker's socket comes with ``start``.
    limits
        What the workers are held to.
    """

    def __init__(self, control: socket.socket, limits: WorkerLimits) -> None:
        self._control = control
        self._limits = limits
        self._children: dict[int, _Child] = {}
        self._wakeup_read, wakeup_write = socket.socketpair()
        for end in (self._wakeup_read, wakeup_write):
            end.setblocking(False)
        signal.set_wakeup_fd(wakeup_write.fileno(), warn_on_full_buffer=False)
        self._wakeup_write = wakeup_write
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # Ctrl-C in the server's terminal reaches the whole group; the server decides what follows.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def run(self) -> None:
        """Serve until the server is gone, then take all workers along."""
        send_reply(self._control, {"event": "ready", "python": sys.version.split()[0]})
        _adopt_orphans()
        try:
            while self._serve_once():
                pass
        finally:
            for child in self._children.values():
                self._kill(child, "closed")
            self._kill_orphans(set())

    def _serve_once(self) -> bool:
        timeout_s = WATCH_INTERVAL_S if self._children else None
        readable, _, _ = select.select([self._control, self._wakeup_read], [], [], timeout_s)
        if self._wakeup_read in readable:
            with contextlib.suppress(BlockingIOError):
                while self._wakeup_read.recv(4096):
                    pass
        if self._control in readable:
            received = _receive_with_fd(self._control)
            if received is None:
                return False
            self._handle(*received)
        self._reap()
        self._watch_memory()
        _bound_log()
        return True

    def _handle(self, order: dict[str, Any], fd: int | None) -> None:
        match order["do"]:
            case "start" if fd is not None:
                child = self._start(order["worker"], fd)
                self._children[child.worker_id] = child
                self._tell({"event": "started", "worker": child.worker_id, "pid": child.pid})
            case "kill":
                if (child_or_none := self._children.get(order["worker"])) is not None:
                    self._kill(child_or_none, order["reason"])
            case "preload":
                self._tell({"event": "preloaded", "failed": _preload(order["modules"])})

    def _start(self, worker_id: int, fd: int) -> _Child:
        if self._limits.start_method == "spawn":
            return self._spawn(worker_id, fd)
        gc.collect()
        gc.freeze()
        parent = os.getpid()
        with warnings.catch_warnings():
            # Python warns of forks beside threads; the only ones here are those of BLAS, which
            # prepares them for a fork itself.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            self._leave_to_child()
            _become_worker(socket.socket(fileno=fd), self._limits, parent)
        os.close(fd)
        return _Child(worker_id, pid, None)

    def _spawn(self, worker_id: int, fd: int) -> _Child:
        popen = subprocess.Popen(
            command(
                sys.executable,
                "supervisor.spawned_worker",
                str(fd),
                json.dumps(asdict(self._limits)),
            ),
            pass_fds=[fd],
        )
        os.close(fd)
        return _Child(worker_id, popen.pid, popen)

    def _leave_to_child(self) -> None:
        """Close, in a forked child, what belongs to the supervisor."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self._control, self._wakeup_read, self._wakeup_write):
            end.close()

    def _reap(self) -> None:
        for child in list(self._children.values()):
            if child.popen is not None:
                code = child.popen.poll()
                if code is None:
                    continue
            else:
                # Only this child is waited for, and its group is killed while its id is still its.
                if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    continue
                _kill_group(child.pid)
                code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
            del self._children[child.worker_id]
            self._tell(
                {
                    "event": "exit",
                    "worker": child.worker_id,
                    "reason": child.reason or _exit_reason(code),
                }
            )
            self._kill_orphans({child.pid for child in self._children.values()})

    def _kill_orphans(self, wanted: set[int]) -> None:
        """Kill what ended workers have left behind, in whatever session it hides."""
        for _ in range(MAX_ORPHAN_GENERATIONS):
            orphans = set(_children_of(os.getpid())) - wanted
            for pid in orphans:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            for pid in orphans:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)
            if not orphans:
                return

    def _watch_memory(self) -> None:
        if not self._limits.memory_bytes:
            return
        for child in self._children.values():
            if child.reason is None and _tree_bytes(child.pid) > self._limits.memory_bytes:
                self._kill(child, "memory")

    def _kill(self, child: _Child, reason: str) -> None:
        child.reason = reason
        _kill_group(child.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)

    def _tell(self, event: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):
            send_reply(self._control, event)


def _become_worker(sock: socket.socket, limits: WorkerLimits, parent: int | None) -> NoReturn:
    """Turn this process into a worker; never returns."""
    code = 1
    try:
        os.setsid()
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if parent is not None and os.getppid() != parent:
                os._exit(1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if limits.memory_bytes and sys.platform == "linux":
            # A request for more than the limit in one go becomes a MemoryError inside the model;
            # slow growth is the supervisor's to see.
            resource.setrlimit(resource.RLIMIT_DATA, (limits.memory_bytes, limits.memory_bytes))
        random.seed()
        if (numpy := sys.modules.get("numpy")) is not None:
            numpy.random.seed()
        worker.main(sock, limits)
        code = 0
    except BaseException as error:
        # Nothing may unwind into the supervisor's frames of a forked child.
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _preload(modules: list[str]) -> list[str]:
    """Import ``modules``; return those that could not be, which a worker will report by itself."""
    failed = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in modules:
            try:
                importlib.import_module(name)
            except BaseException:
                # Importing may raise anything, SystemExit among it; the supervisor goes on.
                failed.append(name)
    return failed


def _kill_group(pid: int) -> None:
    """Kill what a worker has started; a worker leads its own group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _exit_reason(code: int) -> str:
    if code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit {code}"


def _adopt_orphans() -> None:
    """Become the parent of what ended workers leave behind, instead of the system's first."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _tree_bytes(pid: int) -> int:
    """Resident memory of a process and its children without what lies in files; 0 if unknown."""
    total = 0
    pending = [pid]
    while pending:
        pid = pending.pop()
        total += _own_bytes(pid)
        pending += _children_of(pid)
    return total


def _own_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status") as status:
            lines = dict(line.split(":", 1) for line in status)
    except OSError:
        return 0
    return sum(int(lines.get(name, "0").split()[0]) for name in ("RssAnon", "RssShmem")) * 1024


def _children_of(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as children:
                found += [int(child) for child in children.read().split()]
    return found


def _bound_log() -> None:
    """Empty the log that the workers write to when it has grown too long."""
    status = os.fstat(2)
    if status.st_size > MAX_LOG_BYTES:
        os.ftruncate(2, 0)


def _receive_with_fd(control: socket.socket) -> tuple[dict[str, Any], int | None] | None:
    """Wait for the server's next order and the socket that may come with it."""
    prefix, fds, _, _ = socket.recv_fds(control, PREFIX.size, 1)
    while prefix and len(prefix) < PREFIX.size:
        prefix += control.recv(PREFIX.size - len(prefix))
    if len(prefix) < PREFIX.size:
        return None
    header_bytes, _ = PREFIX.unpack(prefix)
    header = b""
    while len(header) < header_bytes:
        chunk = control.recv(header_bytes - len(header))
        if not chunk:
            return None
        header += chunk
    order: dict[str, Any] = json.loads(header)
    return order, fds[0] if fds else None
