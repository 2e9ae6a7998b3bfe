"""What the processes of one server have in common: counters, and doors to ask each other through.

Each process has a door, made by the parent before all of them. Who asks makes a pair of sockets and
pushes one end through the door; the answer comes out of the other. No file is needed, and nobody
else can ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mlserve_jupyter.accounts.counters import Counters, SharedCounters, SharedMemory

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0
"""How long a sibling may take; its event loop may be busy."""

MAX_ANSWER_BYTES = 64 * 2**20

Answer = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True)
class Member:
    """What one process has of the family.

    Attributes
    ----------
    counters
        Of requests and attempts, in memory that all share.
    """

    counters: Counters
    siblings: Siblings


class Family:
    """Made by the parent before it forks the first process.

    Parameters
    ----------
    n_processes
        How many there are.
    """

    def __init__(self, n_processes: int) -> None:
        self._memory = SharedMemory(n_processes)
        self._doors = Doors(n_processes)

    def member(self, index: int) -> Member:
        """Return what the process at a place has; one that replaces another takes its place."""
        return Member(SharedCounters(self._memory, index), Siblings(self._doors, index))


class Doors:
    """The doors of all processes; every process inherits all of them.

    Parameters
    ----------
    n_processes
        How many there are.
    """

    def __init__(self, n_processes: int) -> None:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(n_processes)]
        self.outside = [outside for outside, _ in pairs]
        self.inside = [inside for _, inside in pairs]
        for sock in (*self.outside, *self.inside):
            sock.setblocking(False)


class Siblings:
    """The other processes of this server.

    Parameters
    ----------
    doors
        Made before this process was forked.
    index
        Which door is this process's own; one that replaces another has its index.
    """

    def __init__(self, doors: Doors, index: int) -> None:
        self.index = index
        self._doors = doors
        self._answering: set[asyncio.Task[None]] = set()

    def listen(self, answer: Answer) -> None:
        """Answer those who ask from now on."""
        own = self._doors.inside[self.index]
        asyncio.get_running_loop().add_reader(own.fileno(), self._take_questions, own, answer)

    def close(self) -> None:
        """Answer no more."""
        asyncio.get_running_loop().remove_reader(self._doors.inside[self.index].fileno())
        for task in self._answering:
            task.cancel()

    async def ask(self) -> dict[int, bytes]:
        """Return what the others answer, by their index; without those that do not."""
        others = [index for index in range(len(self._doors.outside)) if index != self.index]
        answers = await asyncio.gather(*(self._ask(index) for index in others))
        return {i: answer for i, answer in zip(others, answers, strict=True) if answer is not None}

    async def _ask(self, index: int) -> bytes | None:
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            with theirs:
                try:
                    socket.send_fds(self._doors.outside[index], [b"?"], [theirs.fileno()])
                except OSError:  # a process that hangs, behind a door that is full
                    return None
            try:
                return await asyncio.wait_for(_read(ours), TIMEOUT_S)
            except (OSError, asyncio.TimeoutError):
                log.warning("Server process %d does not say what it measures.", index)
                return None

    def _take_questions(self, own: socket.socket, answer: Answer) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                _, fds, _, _ = socket.recv_fds(own, 16, 1)
                for fd in fds:
                    task = asyncio.ensure_future(_write(fd, answer))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)


async def _read(sock: socket.socket) -> bytes | None:
    """Read to the end; None where nothing came."""
    loop = asyncio.get_running_loop()
    found = bytearray()
    while chunk := await loop.sock_recv(sock, 2**16):
        found += chunk
        if len(found) > MAX_ANSWER_BYTES:
            return None
    return bytes(found) or None


async def _write(fd: int, answer: Answer) -> None:
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        return
    with sock:
        sock.setblocking(False)
        # Who has asked may have given up.
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            sending = asyncio.get_running_loop().sock_sendall(sock, await answer())
            await asyncio.wait_for(sending, TIMEOUT_S)
