"""The parent: it starts the server processes, replaces those that die, and passes signals on."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tornado.netutil import bind_sockets

from mlserve_jupyter.errors import MLServeError, SettingsInvalid
from mlserve_jupyter.server.standalone.options import (
    HostOptions,
    changed,
    reloadable,
    with_reloadable,
)
from mlserve_jupyter.server.standalone.process import STOPPING, Orders, run_forked, send_orders
from mlserve_jupyter.server.standalone.siblings import Family, Member

log = logging.getLogger(__name__)

BACKLOG = 2048
FIRST_BACK_OFF_S = 0.2
MAX_BACK_OFF_S = 30.0
STEADY_S = 60.0
"""A process that has lived so long is started again at once when it dies."""
KILL_AFTER_S = 30.0
"""What a process may take to close, beyond its times of grace and of draining."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


@dataclass
class _Child:
    """The place of one server process."""

    listening: list[socket.socket] = field(default_factory=list)
    pid: int | None = None
    control: socket.socket | None = None
    started_at_s: float = 0.0
    start_at_s: float = 0.0
    back_off_s: float = 0.0


class Parent:
    """Supervises the server processes.

    Parameters
    ----------
    orders
        What they serve. With port 0, the operating system chooses one.
    reread
        Reads the configuration anew for SIGHUP.

    Raises
    ------
    SettingsInvalid
        If the port cannot be had.
    """

    def __init__(self, orders: Orders, reread: Callable[[], Orders]) -> None:
        port = _free_port(orders.options)
        self._orders = replace(orders, options=replace(orders.options, port=port))
        self._reread = reread
        self._children = [_Child() for _ in range(orders.options.workers)]
        n_children = len(self._children)
        self._family = Family(n_children) if n_children > 1 else None
        self._signals: list[int] = []
        self._wake_read, self._wake_write = os.pipe()
        for fd in (self._wake_read, self._wake_write):
            os.set_blocking(fd, False)
        self._is_leaving = False
        self._kill_at_s = float("inf")
        self._code = 0

    @property
    def options(self) -> HostOptions:
        """The options in force."""
        return self._orders.options

    def run(self) -> int:
        """Serve until told to stop; returns the exit code."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda number, _: self._signals.append(number))
        while True:
            self._start_due()
            self._wait()
            while self._signals:
                self._handle(self._signals.pop(0))
            self._reap()
            if time.monotonic() > self._kill_at_s:
                log.error("The server processes did not end in time, and are killed.")
                self._kill()
            if self._is_leaving and all(child.pid is None for child in self._children):
                return self._code

    def _wait(self) -> None:
        now_s = time.monotonic()
        due = [self._kill_at_s]
        if not self._is_leaving:
            due += [child.start_at_s for child in self._children if child.pid is None]
        timeout_s = min(max(0.0, min(due) - now_s), 60.0)
        if not self._signals:
            select.select([self._wake_read], [], [], timeout_s)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def _start_due(self) -> None:
        if self._is_leaving:
            return
        for child in self._children:
            if child.pid is None and child.start_at_s <= time.monotonic():
                self._start(child)

    def _start(self, child: _Child) -> None:
        if not child.listening:
            child.listening = _listen(self.options)
        ours, theirs = socket.socketpair()
        child.started_at_s = time.monotonic()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._close_all_but(child)
            run_forked(self._orders, child.listening, theirs, self._member_of(child))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        theirs.close()
        child.pid, child.control = pid, ours
        log.info("Server process %d started.", pid)

    def _member_of(self, child: _Child) -> Member | None:
        if self._family is None:
            return None
        index = next(index for index, each in enumerate(self._children) if each is child)
        return self._family.member(index)

    def _close_all_but(self, own: _Child) -> None:
        """In a new process: close what belongs to the others, so that it ends with them."""
        os.close(self._wake_read)
        for child in self._children:
            if child.control is not None:
                child.control.close()
            if child is not own:
                for sock in child.listening:
                    sock.close()

    def _reap(self) -> None:
        for child in self._children:
            if child.pid is None:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._note_end(child, os.waitstatus_to_exitcode(status))

    def _note_end(self, child: _Child, code: int) -> None:
        pid, child.pid = child.pid, None
        if child.control is not None:
            child.control.close()
            child.control = None
        if self._is_leaving:
            self._code = self._code or (0 if code == 0 else 1)
            return
        now_s = time.monotonic()
        if now_s - child.started_at_s > STEADY_S:
            child.back_off_s = 0.0
        child.start_at_s = now_s + child.back_off_s
        reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        log.error("Server process %s ended (%s); next in %g s.", pid, reason, child.back_off_s)
        if child.back_off_s > 1.0:
            # Its share of new connections goes to the others meanwhile.
            _close_sockets(child)
        child.back_off_s = min(max(FIRST_BACK_OFF_S, child.back_off_s * 2), MAX_BACK_OFF_S)

    def _handle(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._reload()
        elif number in (signal.SIGTERM, signal.SIGINT):
            if self._is_leaving:
                log.warning("Told to stop again: stopping hard.")
                self._kill()
            else:
                self._stop(number)

    def _stop(self, number: int) -> None:
        options = self.options
        self._is_leaving = True
        limit_s = options.drain_grace_s + options.drain_timeout_s + KILL_AFTER_S
        self._kill_at_s = time.monotonic() + limit_s
        log.info("Stopping: %d processes answer what they have accepted.", self._n_alive)
        for child in self._children:
            _close_sockets(child)
            if child.pid is not None:
                os.kill(child.pid, number)

    @property
    def _n_alive(self) -> int:
        return sum(child.pid is not None for child in self._children)

    def _kill(self) -> None:
        self._kill_at_s = float("inf")
        self._code = 1
        for child in self._children:
            if child.pid is not None:
                os.kill(child.pid, signal.SIGKILL)

    def _reload(self) -> None:
        try:
            new = self._reread()
        except MLServeError as error:
            log.error("The new configuration is refused, and the old one goes on: %s", error)
            return
        asked = replace(new.options, port=new.options.port or self.options.port)
        names = reloadable(self.options, asked)
        if needs_restart := sorted(changed(self.options, asked) - names):
            log.warning("These settings need a restart: %s.", ", ".join(needs_restart))
        self._orders = Orders(with_reloadable(self.options, asked), new.key)
        logging.getLogger().setLevel(self.options.log_level)
        log.info("Reloaded: %s.", ", ".join(sorted(names)) or "nothing has changed")
        for child in self._children:
            if child.control is not None:
                with contextlib.suppress(OSError):  # it is about to be found dead
                    send_orders(child.control, self._orders)


def _close_sockets(child: _Child) -> None:
    for sock in child.listening:
        sock.close()
    child.listening = []


def _free_port(options: HostOptions) -> int:
    """Return the port, of which nobody else has a share yet.

    Raises
    ------
    SettingsInvalid
        If somebody has.
    """
    try:
        sockets = bind_sockets(options.port, options.ip or None, backlog=1)
    except OSError as error:
        raise SettingsInvalid(
            f"The server cannot listen on {options.ip}:{options.port}: {error.strerror}. "
            "Choose another one with --port or --ip."
        ) from error
    port = int(sockets[0].getsockname()[1])
    for sock in sockets:
        sock.close()
    return port


def _listen(options: HostOptions) -> list[socket.socket]:
    return bind_sockets(options.port, options.ip or None, backlog=BACKLOG, reuse_port=True)
