"""The door to the database: how it is opened, read and written, and how its failures are named.

Importing this module imports SQLAlchemy, so only what works on the database should.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError
from sqlalchemy.exc import OperationalError as SQLAlchemyOperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from mlserve_jupyter.errors import (
    InvalidRequest,
    MLServeError,
    SettingsInvalid,
    StorageFull,
    StorageUnavailable,
)
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.folders import make_private_folder
from mlserve_jupyter.storage.sqlite_file import open_sqlite, turn_wal_on

BUSY_TIMEOUT_S = 10.0
"""How long a writer waits for the writer before it."""

_NEARLY_FULL_BYTES = 2**20
_POSTGRES_DISK_FULL = "53100"
_POSTGRES_NUL_IN_JSON = "22P05"
_POSTGRES_TRANSIENT = ("08", "25P03", "40", "53", "55", "57", "58")
_SQLITE_UNAVAILABLE = (
    "attempt to write a readonly database",
    "database disk image is malformed",
    "database is locked",
    "database table is locked",
    "disk i/o error",
    "file is not a database",
    "locking protocol",
    "unable to open database file",
)


def open_engine(settings: Settings) -> Engine:
    """Open the database that ``settings`` name, and create an SQLite file that is not there.

    The schema is another step: :func:`mlserve_jupyter.storage.schema.prepare_schema`.

    Parameters
    ----------
    settings
        ``data_dir`` is created with mode 0700 if need be; ``resolved_database_url`` is opened.

    Returns
    -------
    Engine
        Thread-safe. ``dispose()`` closes its connections.

    Raises
    ------
    SettingsInvalid
        The URL cannot be read, its driver is not installed, or it is an in-memory database.
    StorageUnavailable
        The folder or the file cannot be used.
    StorageFull
        No space is left for the file.
    """
    url = _read_url(settings.resolved_database_url)
    make_private_folder(settings.data_dir)
    if url.get_backend_name() == "sqlite":
        return _open_sqlite(url)
    return _open_server(url, settings)


@contextmanager
def writing(
    engine: Engine, *, durable: bool = True, timeout_s: float | None = None
) -> Iterator[Connection]:
    """Give a connection in a writing transaction, committed at the end of the block.

    On SQLite it begins with ``BEGIN IMMEDIATE``: one that reads first and writes later could
    otherwise fail at once, without waiting, where another process wrote in between.

    Parameters
    ----------
    engine
        From :func:`open_engine`.
    durable
        Whether a commit must survive a loss of power. False saves SQLite an fsync; the commit
        still survives the death of the process.
    timeout_s
        What each statement may take on PostgreSQL, infinity for no limit; None for
        ``database_statement_timeout_s``.

    Raises
    ------
    StorageUnavailable
        The database does not answer in time, or another writer held it for over ten seconds.
    StorageFull
        No space is left.
    """
    with translated_errors(engine), engine.connect() as connection:
        connection = connection.execution_options(mlserve_writing=True, mlserve_durable=durable)
        with connection.begin():
            if timeout_s is not None:
                allow_statements(connection, timeout_s)
            yield connection


@contextmanager
def reading(engine: Engine, *, timeout_s: float | None = None) -> Iterator[Connection]:
    """Give a connection in a transaction that only reads, and on SQLite sees one state.

    Parameters
    ----------
    engine
        From :func:`open_engine`.
    timeout_s
        As of :func:`writing`.

    Raises
    ------
    StorageUnavailable
        The database does not answer in time.
    """
    with translated_errors(engine), engine.connect() as connection, connection.begin():
        if timeout_s is not None:
            allow_statements(connection, timeout_s)
        yield connection


@contextmanager
def translated_errors(engine: Engine) -> Iterator[None]:
    """Turn the driver's "full", "locked" and "gone" into this package's errors.

    So is a text that PostgreSQL cannot keep. All others, such as a violated constraint, pass.
    """
    try:
        yield
    except PoolTimeoutError as error:
        raise StorageUnavailable(
            f"{_name(engine)} has all its connections in use; try again.",
            reason=shown_url(engine.url),
        ) from error
    except ValueError as error:  # psycopg2's, before it sends anything
        if "NUL" not in str(error):
            raise
        raise _no_text() from error
    except DBAPIError as error:
        translated = _translate(engine, error)
        if translated is None:
            raise
        raise translated from error


def allow_statements(connection: Connection, timeout_s: float) -> None:
    """Let each statement of the current transaction take so long on PostgreSQL, or for ever."""
    if connection.dialect.name == "postgresql":
        from mlserve_jupyter.storage.postgres import set_statement_timeout

        set_statement_timeout(connection, timeout_s)


def check_space(engine: Engine) -> None:
    """Return if there is space to write; a database server watches its own.

    Raises
    ------
    StorageFull
        The disk of the SQLite file has next to none.
    """
    if engine.dialect.name == "sqlite" and _is_nearly_full(engine):
        raise _no_space(engine)


def shown_url(url: URL) -> str:
    """Return ``url`` for messages: a path for SQLite, and never a password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.render_as_string(hide_password=True)


def missing_file(settings: Settings) -> Path | None:
    """Return the SQLite file that :func:`open_engine` would make; None if there is nothing to make.

    Raises
    ------
    SettingsInvalid
        The URL cannot be read.
    """
    url = _read_url(settings.resolved_database_url)
    if url.get_backend_name() != "sqlite" or Path(str(url.database)).exists():
        return None
    return Path(str(url.database))


def _read_url(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise SettingsInvalid(
            "database_url is not a database URL: use one such as sqlite:////folder/mlserve.db or "
            "postgresql+psycopg2://user@host/name.",
        ) from error
    if url.get_backend_name() == "sqlite" and (
        not url.database or url.database == ":memory:" or url.database.startswith("file:")
    ):
        raise SettingsInvalid(
            "database_url must name a file, such as sqlite:////folder/mlserve.db: what is kept in "
            "memory would be gone with the server.",
        )
    return url


def _open_sqlite(url: URL) -> Engine:
    engine = open_sqlite(url, BUSY_TIMEOUT_S)
    try:
        with translated_errors(engine):
            turn_wal_on(engine, BUSY_TIMEOUT_S)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _open_server(url: URL, settings: Settings) -> Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg2")  # SQLAlchemy's own choice is another one
    if url.drivername != "postgresql+psycopg2":
        raise SettingsInvalid(
            f"The database {shown_url(url)!r} is of no kind that is known here: use SQLite, or "
            "PostgreSQL as postgresql+psycopg2://user@host/name.",
        )
    try:
        from mlserve_jupyter.storage.postgres import open_postgres
    except ModuleNotFoundError as error:
        raise SettingsInvalid(
            f"The driver of the database {shown_url(url)!r} is not installed: "
            "pip install 'mlserve_jupyter[postgres]'.",
        ) from error
    return open_postgres(url, settings)


def _translate(engine: Engine, error: DBAPIError) -> MLServeError | None:
    """Return this package's error for the driver's, or None where it is not one of storage."""
    shown, said = shown_url(engine.url), " ".join(str(error.orig).split())
    unavailable = StorageUnavailable(
        f"{_name(engine)} does not answer; try again. This server's log says why.",
        reason=f"{shown}: {said}",
    )
    if engine.dialect.name == "sqlite":
        text = str(error.orig).lower()
        if "database or disk is full" in text:
            return _no_space(engine)
        if not any(phrase in text for phrase in _SQLITE_UNAVAILABLE):
            return None
        if "disk i/o error" in text and _is_nearly_full(engine):
            return _no_space(engine)
        return unavailable
    # The driver's own attribute; other drivers than psycopg2 may not have it.
    code: Any = getattr(error.orig, "pgcode", None)
    if code == _POSTGRES_DISK_FULL:
        return _no_space(engine)
    if code == _POSTGRES_NUL_IN_JSON:
        return _no_text()
    if isinstance(code, str):
        return unavailable if code.startswith(_POSTGRES_TRANSIENT) else None
    gone = isinstance(error, (SQLAlchemyOperationalError, InterfaceError))
    return unavailable if gone or error.connection_invalidated else None


def _no_text() -> InvalidRequest:
    return InvalidRequest(
        "A text holds the character NUL, which the database cannot keep: leave it out."
    )


def _name(engine: Engine) -> str:
    """Return what callers may know of where a database is."""
    is_file = engine.dialect.name == "sqlite" and engine.url.database
    return f"The database {Path(str(engine.url.database)).name}" if is_file else "The database"


def _no_space(engine: Engine) -> StorageFull:
    return StorageFull(f"{_name(engine)} has no space left: free some on its disk, and try again.")


def _is_nearly_full(engine: Engine) -> bool:
    folder = Path(str(engine.url.database)).parent
    try:
        return shutil.disk_usage(folder).free < _NEARLY_FULL_BYTES
    except FileNotFoundError:
        return False
