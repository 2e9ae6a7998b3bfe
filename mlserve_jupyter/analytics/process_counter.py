"""How many calls a process has handed to its log, in files that outlive the process.

A call is counted by a store to memory: no system call, and nothing that a slow disk could hold up.
The memory is a file of the operating system's shared memory (``/dev/shm``), which stays when the
process is killed; a mapped file of a disk would make a store wait whenever its page was being
written. Now and then the log's thread copies the count to a file of the data folder, which stays
also where the shared memory goes: at the end of a container, or of the machine.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from mlserve_jupyter.storage.folders import disk_errors, make_private_folder, open_and_own
from mlserve_jupyter.storage.ids import new_id

_LAYOUT = struct.Struct("=8sQQQ")  # of both files
_COUNT_CELL = 3
"""Where the count is, in units of eight bytes."""

_MAGIC = b"mlslog01"
_SUFFIX = ".seq"
_SHARED_MEMORY = Path("/dev/shm")


class ProcessCounter:
    """The files of the process that makes them, which owns them until :meth:`close`.

    Where there is no shared memory, a killed process's calls since the last :meth:`keep` go
    uncounted.

    Parameters
    ----------
    folder
        Of the files of all processes; made with mode 0700 if need be.

    Attributes
    ----------
    process_id
        A new UUID; the files' name.
    """

    def __init__(self, folder: Path) -> None:
        make_private_folder(folder)
        while True:
            self.process_id = new_id()
            path = folder / f"{self.process_id}{_SUFFIX}"
            with disk_errors(path):
                fd = open_and_own(path, os.O_CREAT | os.O_EXCL | os.O_RDWR)
            # Another process may have taken the new file for a dead one's before it was owned.
            if fd is not None:
                break
        record = _LAYOUT.pack(_MAGIC, os.getpid(), time.time_ns() // 1_000_000, 0)
        with disk_errors(path):
            os.fchmod(fd, 0o600)
            os.pwrite(fd, record, 0)
            os.fsync(fd)
        self._n_appended = 0
        self._memory = _make_shared_memory(self.process_id, record)
        self._cells = memoryview(self._memory).cast("Q")
        self._fd: int | None = fd
        self._using_fd = Lock()

    def increment(self) -> int:
        """Count one call and return its sequence number, which begins with 1.

        Not for two threads at once.
        """
        self._n_appended += 1
        self._cells[_COUNT_CELL] = self._n_appended
        return self._n_appended

    def keep(self) -> None:
        """Copy the count to the data folder; not for the event loop, since a disk may be slow."""
        # A disk that fails now costs nothing while the shared memory is there.
        with self._using_fd, contextlib.suppress(OSError):
            if self._fd is not None:
                os.pwrite(self._fd, self._memory[: _LAYOUT.size], 0)

    def close(self) -> None:
        """Give the files up; they stay, to be settled. Nothing may be counted any more."""
        self.keep()
        with self._using_fd:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None


@dataclass(frozen=True)
class EndedProcess:
    """What the file of a process that is gone says.

    Attributes
    ----------
    pid, started_ms
        Of the process, for messages; ``started_ms`` is Unix time.
    n_appended
        Calls that it handed to its log.
    """

    process_id: str
    pid: int
    started_ms: int
    n_appended: int


@contextmanager
def ended_process(path: Path) -> Iterator[EndedProcess | None]:
    """Own the file of a process that is gone for the block, and remove it at its end.

    It stays where the block raises. None where the process lives, where another process is at
    it, or where it ended before it had written anything.
    """
    fd = open_and_own(path, os.O_RDWR)
    if fd is None:
        yield None
        return
    try:
        records = [_decode(os.read(fd, _LAYOUT.size), path.stem), _read_shared_memory(path.stem)]
        yield max(filter(None, records), key=lambda each: each.n_appended, default=None)
        with contextlib.suppress(OSError):
            _shared_memory_of(path.stem).unlink()
        path.unlink()
    finally:
        os.close(fd)


def counter_files(folder: Path) -> list[Path]:
    """Return the files of all processes, dead or alive."""
    return sorted(folder.glob(f"*{_SUFFIX}"))


def _shared_memory_of(process_id: str) -> Path:
    return _SHARED_MEMORY / f"mlserve-{process_id}{_SUFFIX}"


def _make_shared_memory(process_id: str, record: bytes) -> mmap.mmap:
    """Return memory that begins with ``record``: shared if there is any, else the process's own."""
    path = _shared_memory_of(process_id)
    try:
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        memory = mmap.mmap(-1, mmap.PAGESIZE)
    else:
        try:
            # Taken now: a store to a page that there is no room for would kill the process.
            os.posix_fallocate(fd, 0, mmap.PAGESIZE)
            memory = mmap.mmap(fd, mmap.PAGESIZE)
        except OSError:
            path.unlink()
            memory = mmap.mmap(-1, mmap.PAGESIZE)
        finally:
            os.close(fd)
    memory[: len(record)] = record
    return memory


def _read_shared_memory(process_id: str) -> EndedProcess | None:
    """Read a file of a folder that everybody may write to, if it is this user's."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    content = b""
    with contextlib.suppress(OSError):
        fd = os.open(_shared_memory_of(process_id), flags)
        try:
            if os.fstat(fd).st_uid == os.geteuid():
                content = os.read(fd, _LAYOUT.size)
        finally:
            os.close(fd)
    return _decode(content, process_id)


def _decode(content: bytes, process_id: str) -> EndedProcess | None:
    if len(content) < _LAYOUT.size or not content.startswith(_MAGIC):
        return None
    _, pid, started_ms, n_appended = _LAYOUT.unpack(content)
    return EndedProcess(process_id, pid, started_ms, n_appended)
