"""How many calls a process has handed to its log, in a file that outlives the process.

Counting is a write to the operating system's memory, a few microseconds, which keeps what was
counted even where the process is killed. The next process compares it with what is in the table.
The file is not mapped: whoever empties a mapped file kills the process that writes to it.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlserve_jupyter.storage.folders import disk_errors, make_private_folder, open_and_own
from mlserve_jupyter.storage.ids import new_id

_LAYOUT = struct.Struct("=8sQQQ")
_MAGIC = b"mlslog01"
_SUFFIX = ".seq"


class ProcessCounter:
    """The file of the process that makes it, which owns it until :meth:`close`.

    Parameters
    ----------
    folder
        Of the files of all processes; made with mode 0700 if need be.

    Attributes
    ----------
    process_id
        A new UUID; the file's name.
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
        self._fd = fd
        with disk_errors(path):
            os.fchmod(fd, 0o600)
            self._pid = os.getpid()
            self._started_ms = time.time_ns() // 1_000_000
            self._n_appended = 0
            self._write()
            os.fsync(fd)

    def increment(self) -> int:
        """Count one call and return its sequence number, which begins with 1.

        Not for two threads at once.
        """
        self._n_appended += 1
        # A disk that fails now costs at most the count of what a kill would lose.
        with contextlib.suppress(OSError):
            self._write()
        return self._n_appended

    def close(self) -> None:
        """Give the file up; it stays, to be settled."""
        os.close(self._fd)

    def _write(self) -> None:
        """Write the whole record, so that a file that somebody has emptied is whole again."""
        record = _LAYOUT.pack(_MAGIC, self._pid, self._started_ms, self._n_appended)
        os.pwrite(self._fd, record, 0)


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
        content = os.read(fd, _LAYOUT.size)
        if len(content) == _LAYOUT.size and content.startswith(_MAGIC):
            _, pid, started_ms, n_appended = _LAYOUT.unpack(content)
            yield EndedProcess(path.stem, pid, started_ms, n_appended)
        else:
            yield None
        path.unlink()
    finally:
        os.close(fd)


def counter_files(folder: Path) -> list[Path]:
    """Return the files of all processes, dead or alive."""
    return sorted(folder.glob(f"*{_SUFFIX}"))
