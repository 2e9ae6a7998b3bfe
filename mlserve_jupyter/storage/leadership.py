"""The one process of many that does what must be done once: a lock that ends with its process.

On PostgreSQL it is an advisory lock of a session, on SQLite a lock (``flock``) on a file beside the
database. The operating system, or the database server, takes either back however the process ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.errors import Conflict, MLServeError, StorageUnavailable
from mlserve_jupyter.storage.engine import translated_errors
from mlserve_jupyter.storage.folders import disk_errors, open_and_own

LEASE_S = 20.0
"""A leader that could not confirm its lock for this long stops to believe in it."""

CONFIRM_S = 2.0
"""How often a leader confirms its lock, and the others ask for it."""

_FIRST_WITH_IDLE_TIMEOUT = (14,)


class Leadership(Protocol):
    """A lock that at most one process of those on a database holds."""

    def acquire(self) -> bool:
        """Return whether this process holds the lock now; never waits until another gives it up.

        Called again by its holder, it confirms the lock.

        Raises
        ------
        StorageUnavailable
            The database or the file cannot be used.
        """

    def is_held(self) -> bool:
        """Return whether the lock was confirmed lately; asks nobody, so from any thread."""

    def release(self) -> None:
        """Give the lock up."""


def leadership_of(engine: Engine, name: str, lease_s: float = LEASE_S) -> Leadership:
    """Return a lock of a database, not acquired.

    Parameters
    ----------
    engine
        From :func:`mlserve_jupyter.storage.engine.open_engine`.
    name
        What is to be done by one process at a time.
    lease_s
        Without an answer of a database server for so long, the lock counts as lost; the server
        takes it back after one and a half times that.
    """
    if engine.dialect.name == "sqlite":
        # One file may be known by several paths, by symbolic links.
        return _FileLock(Path(f"{os.path.realpath(str(engine.url.database))}-{name}.lock"))
    digest = hashlib.sha256(f"mlserve {name}".encode()).digest()
    return _AdvisoryLock(engine, int.from_bytes(digest[:8], "big", signed=True), lease_s)


@contextmanager
def leading(engine: Engine, name: str) -> Iterator[Callable[[], bool]]:
    """Hold a lock in the block, and confirm it all the time.

    Yields
    ------
    callable
        Says whether the lock is still held; asked between the steps of what is done.

    Raises
    ------
    Conflict
        Another process holds it.
    StorageUnavailable
        The database or the file cannot be used.
    """
    lock = leadership_of(engine, name)
    if not lock.acquire():
        raise Conflict(
            f"Another process is at work on the {name} of this database: wait until it is done."
        )
    is_done = Event()

    def confirm() -> None:
        while not is_done.wait(CONFIRM_S):
            # Lost is lost, even if it could be had again.
            with contextlib.suppress(MLServeError):
                if lock.is_held():
                    lock.acquire()

    thread = Thread(target=confirm, name=f"mlserve-lock-{name}", daemon=True)
    thread.start()
    try:
        yield lock.is_held
    finally:
        is_done.set()
        thread.join(CONFIRM_S)
        lock.release()


class _FileLock:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self) -> bool:
        if self._fd is None:
            with disk_errors(self._path):
                self._fd = open_and_own(self._path, os.O_CREAT | os.O_RDWR)
        return self._fd is not None

    def is_held(self) -> bool:
        return self._fd is not None

    def release(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


class _AdvisoryLock:
    """Held by a connection that is used for nothing else, and asked again and again.

    A server that hears nothing of it ends the session (``idle_session_timeout``), since the host of
    a leader may vanish without a word.
    """

    def __init__(
        self,
        engine: Engine,
        key: int,
        lease_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._key = key
        self._lease_s = lease_s
        self._clock = clock
        self._connection: Connection | None = None
        self._confirmed_at_s = -1e9

    def acquire(self) -> bool:
        asked_at_s = self._clock()
        try:
            with translated_errors(self._engine):
                if self._connection is not None:
                    self._connection.execute(sa.text("SELECT 1"))
                else:
                    self._connection = self._connect()
        except StorageUnavailable:
            self.release()
            raise
        if self._connection is None:
            return False
        self._confirmed_at_s = asked_at_s
        return True

    def is_held(self) -> bool:
        return self._clock() - self._confirmed_at_s < self._lease_s

    def release(self) -> None:
        connection, self._connection = self._connection, None
        self._confirmed_at_s = -1e9
        if connection is not None:
            with contextlib.suppress(Exception):  # the lock goes with the connection
                connection.invalidate()
                connection.close()

    def _connect(self) -> Connection | None:
        """Return a connection that holds the lock, or None where another one does."""
        connection = self._engine.connect()
        try:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.detach()  # the pool is for those who work
            if (connection.dialect.server_version_info or ()) >= _FIRST_WITH_IDLE_TIMEOUT:
                idle_ms = round(1500 * self._lease_s)
                connection.execute(sa.text(f"SET idle_session_timeout = {idle_ms}"))
            if connection.scalar(sa.select(sa.func.pg_try_advisory_lock(self._key))):
                return connection
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        connection.close()
        return None
