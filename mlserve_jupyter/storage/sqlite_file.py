"""How an SQLite file is opened: private, with a write-ahead log, and no other in its place."""

from __future__ import annotations

import os
import sqlite3
import time
from math import isfinite
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from mlserve_jupyter.errors import StorageUnavailable
from mlserve_jupyter.storage.folders import make_private_folder


def open_sqlite(url: URL, busy_timeout_s: float) -> Engine:
    """Return the engine of a file, which is made if it is not there.

    Parameters
    ----------
    url
        Of a file.
    busy_timeout_s
        How long a writer waits for the writer before it.

    Raises
    ------
    StorageUnavailable
        The folder or the file cannot be used.
    """
    path = Path(str(url.database)).absolute()
    if not path.parent.exists():
        make_private_folder(path.parent)
    _make_private_file(path)
    engine = sa.create_engine(
        url.set(database=str(path)),
        connect_args={"isolation_level": None, "timeout": busy_timeout_s},
        pool_timeout=busy_timeout_s,
        hide_parameters=True,  # errors go to logs, and parameters are what users have sent
        json_serializer=_as_it_is,
        json_deserializer=_as_text,
    )
    opened = _OpenedFile(path)
    event.listen(engine, "do_connect", opened.check)
    event.listen(engine, "begin", opened.check)
    event.listen(engine, "connect", _set_up_connection)
    event.listen(engine, "begin", _begin)
    return engine


def turn_wal_on(engine: Engine, timeout_s: float) -> None:
    """Switch the file to write-ahead logging, which it then keeps.

    The switch needs the file for itself, and SQLite does not wait for it in all cases, so two
    processes that open a new file at once have to take turns here.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        The file is no database, or cannot be had within ``timeout_s``.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        raw = engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode=WAL").close()
            return
        except sqlite3.DatabaseError as error:
            if "locked" not in str(error) or time.monotonic() > deadline_s:
                raise DBAPIError("PRAGMA journal_mode=WAL", None, error) from error
            time.sleep(0.02)
        finally:
            raw.close()


def _make_private_file(path: Path) -> None:
    """Create the database file with mode 0600; SQLite gives ``-wal`` and ``-shm`` the same."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        for suffix in ("", "-wal", "-shm"):
            file = Path(f"{path}{suffix}")
            if file.exists() and file.stat().st_mode & 0o777 != 0o600:
                file.chmod(0o600)
    except OSError as error:
        raise StorageUnavailable(
            f"The database {path} cannot be opened ({error.strerror}): let this user read and "
            "write it, or set data_dir to another folder.",
        ) from error


class _OpenedFile:
    """Refuses to work on a file that was deleted or replaced after it was opened.

    SQLite itself goes on writing to the deleted file, and each new connection would begin an
    empty one; what is written to either is lost.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity = self._identify()

    def check(self, *of_the_event: object) -> None:
        if self._identify() != self._identity:
            raise StorageUnavailable(
                f"The database {self._path} was deleted or replaced while this server ran, so "
                "nothing is written to it: put it back as it was, or restart the server.",
            )

    def _identify(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _set_up_connection(connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
    connection.execute("PRAGMA foreign_keys=ON")


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("mlserve_writing"):
        level = "FULL" if options.get("mlserve_durable", True) else "NORMAL"
        connection.exec_driver_sql(f"PRAGMA synchronous={level}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("BEGIN")


def _as_text(value: str | float) -> str:
    """Return the JSON text of a column, whose affinity has turned text of one number into it."""
    if isinstance(value, str):
        return value
    return repr(value) if isfinite(value) else "null"


def _as_it_is(text: str) -> str:
    """Leave JSON to the rooms above, which know its types: columns carry it as text."""
    return text
