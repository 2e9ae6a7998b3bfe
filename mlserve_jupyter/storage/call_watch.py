"""Ends calls to a database server that would never return.

libpq waits for an answer without end. Where the network is gone, the operating system notices;
where a server, or a proxy before it, stands still and keeps its connections, nobody does. Here a
thread shuts the socket of a call that has run for longer than it may, and the call fails as if the
server had gone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from math import inf
from threading import Condition, Thread

_IDLE_S = 60.0
"""The thread ends after so long without a call, and begins again with the next."""


class CallWatch:
    """Watches calls, each by the socket that it waits on.

    Its thread is there only while there are calls, so there is nothing to close.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._calls: dict[int, tuple[float, int]] = {}  # by number: deadline, socket
        self._numbers = count()
        self._thread: Thread | None = None
        self._wakes_at_s = inf

    @contextmanager
    def watching(
        self, fd: int, limit_s: float, when_shut: Callable[[], None] | None = None
    ) -> Iterator[None]:
        """Shut the socket if the block takes longer than ``limit_s``; never for infinity.

        Parameters
        ----------
        when_shut
            Called at the block's end if that was done.
        """
        if limit_s == inf:
            yield
            return
        number = self._begin(fd, time.monotonic() + limit_s)
        try:
            yield
        finally:
            # Under the lock: the socket's number may be another's as soon as the call is over.
            with self._changed:
                deadline_s, _ = self._calls.pop(number)
            if deadline_s == inf and when_shut is not None:
                when_shut()

    def shut_all(self) -> None:
        """Shut the sockets of all calls under way that have a limit, as if they had reached it."""
        with self._changed:
            for number, (_, fd) in list(self._calls.items()):
                _shut(fd)
                self._calls[number] = (inf, fd)

    def _begin(self, fd: int, deadline_s: float) -> int:
        with self._changed:
            number = next(self._numbers)
            self._calls[number] = (deadline_s, fd)
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._run, name="mlserve-call-watch", daemon=True)
                self._thread.start()
            elif deadline_s < self._wakes_at_s:
                self._changed.notify()
        return number

    def _run(self) -> None:
        with self._changed:
            while True:
                now_s = time.monotonic()
                for number, (deadline_s, fd) in list(self._calls.items()):
                    if deadline_s <= now_s:
                        _shut(fd)
                        self._calls[number] = (inf, fd)
                self._wakes_at_s = min((at_s for at_s, _ in self._calls.values()), default=inf)
                waited = self._changed.wait(min(self._wakes_at_s - now_s, _IDLE_S))
                if not waited and not self._calls:
                    self._thread = None
                    return


def _shut(fd: int) -> None:
    """End a connection whose descriptor belongs to libpq, which still has to close it."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as connection:
        connection.shutdown(socket.SHUT_RDWR)
