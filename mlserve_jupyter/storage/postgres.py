"""How a PostgreSQL is opened: the pool, and what no wait for it takes longer than.

Importing this module imports psycopg2.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from math import inf
from typing import Any

import psycopg2.extensions
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Dialect, Engine, ExecutionContext
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.call_watch import CallWatch
from mlserve_jupyter.storage.presence import Presence

POOL_TIMEOUT_S = 10.0
"""How long a caller waits for a connection of the pool."""

IDLE_IN_TRANSACTION_S = 60.0
"""A client that has gone silent within a transaction loses it, and with it the locks it holds."""

_GRACE_S = 2.0
"""What the answer of a server that ends a statement by itself may take to arrive."""


def open_postgres(url: URL, settings: Settings) -> Engine:
    """Return the engine of a PostgreSQL; nothing is sent yet.

    Parameters
    ----------
    url
        ``postgresql+psycopg2://…``; its query may hold libpq's own parameters, which win.
    settings
        Those that begin with ``database_``.
    """
    engine = sa.create_engine(
        url,
        connect_args=_connect_arguments(url, settings),
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_pool_overflow,
        pool_recycle=settings.database_pool_recycle_s,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=True,
        use_native_hstore=False,
        hide_parameters=True,  # errors go to logs, and parameters are what users have sent
        json_serializer=_as_it_is,
        json_deserializer=_as_it_is,
    )

    watch = CallWatch()
    presence = Presence(watch.shut_all)

    def connect(
        dialect: Dialect, entry: ConnectionPoolEntry, arguments: list[Any], options: dict[str, Any]
    ) -> Any:
        return presence.connect(partial(dialect.connect, *arguments, **options))

    def is_connected(connection: Any, entry: ConnectionPoolEntry) -> None:
        connection.watching = partial(watch.watching, when_shut=presence.lost)
        may_ping(connection, entry)

    def may_ping(connection: Any, entry: ConnectionPoolEntry) -> None:
        if connection is not None:  # else it was given up
            connection.limit_s = settings.database_connect_timeout_s

    def may_run_statements(
        connection: Any, entry: ConnectionPoolEntry, proxy: PoolProxiedConnection
    ) -> None:
        connection.limit_s = settings.database_statement_timeout_s + _GRACE_S

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "connect", is_connected, insert=True)
    event.listen(engine, "checkin", may_ping)
    event.listen(engine, "checkout", may_run_statements)
    event.listen(engine, "do_execute", _copy)
    event.listen(engine, "engine_disposed", lambda _: presence.close())
    return engine


def set_statement_timeout(connection: Connection, timeout_s: float) -> None:
    """Let each statement of the current transaction take so long; infinity is no limit."""
    limit_ms = 0 if timeout_s == inf else max(1, round(timeout_s * 1000))
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = {limit_ms}")
    watched: Any = connection.connection.dbapi_connection
    watched.limit_s = timeout_s + _GRACE_S


def copy_in(connection: Connection, statement: str, content: bytes) -> None:
    """Run a ``COPY … FROM STDIN`` on what it would read.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        As of any other statement.
    """
    connection.exec_driver_sql(statement, (content,), {"mlserve_copy": True})


def _connect_arguments(url: URL, settings: Settings) -> dict[str, Any]:
    """Return psycopg2's arguments, whose types differ; those of the URL are left to it."""
    idle_s, n_probes = _keepalives(settings.database_dead_after_s)
    dead_after_ms = round(settings.database_dead_after_s * 1000)
    session = {
        "statement_timeout": round(settings.database_statement_timeout_s * 1000),
        "lock_timeout": round(settings.database_lock_timeout_s * 1000),
        "idle_in_transaction_session_timeout": round(IDLE_IN_TRANSACTION_S * 1000),
        # So that the server lets go of a client that it cannot reach, and of its locks.
        "tcp_keepalives_idle": idle_s,
        "tcp_keepalives_interval": 1,
        "tcp_keepalives_count": n_probes,
        "timezone": "UTC",
    }
    options = " ".join(f"-c {name}={value}" for name, value in session.items())
    wanted = {
        "connect_timeout": max(
            2, round(settings.database_connect_timeout_s)
        ),  # libpq knows no less
        "keepalives_idle": idle_s,
        "keepalives_interval": 1,
        "keepalives_count": n_probes,
        "tcp_user_timeout": dead_after_ms,
        "application_name": "mlserve",
    }
    given = {name: value for name, value in wanted.items() if name not in url.query}
    return {
        **given,
        "options": f"{options} {url.query.get('options', '')}".strip(),
        "connection_factory": _Connection,
    }


def _keepalives(dead_after_s: float) -> tuple[int, int]:
    """Return after how many silent seconds the first probe is sent, and how many a second apart."""
    idle_s = max(1, round(dead_after_s * 0.4))
    return idle_s, max(1, round(dead_after_s) - idle_s)


def _copy(cursor: Any, statement: str, parameters: Any, context: ExecutionContext | None) -> bool:
    """Run a statement of :func:`copy_in` in SQLAlchemy's place, which handles its errors."""
    if context is None or not context.execution_options.get("mlserve_copy"):
        return False
    [content] = parameters
    cursor.copy_expert(statement, io.BytesIO(content), size=len(content) + 1)
    return True


def _as_it_is(text: str) -> str:
    """Leave JSON to the rooms above, which know its types: columns carry it as text."""
    return text


class _Connection(psycopg2.extensions.connection):
    """A connection whose calls end.

    Attributes
    ----------
    limit_s
        How long a call may take.
    watching
        Watches a call, as :meth:`CallWatch.watching` does.
    """

    limit_s: float = inf
    watching: Callable[[int, float], AbstractContextManager[None]]

    # The overloads of its type are one function that takes them all.
    def cursor(self, name: Any = None, **options: Any) -> Any:  # type: ignore[override]
        options.setdefault("cursor_factory", _Cursor if name is None else _ServerSideCursor)
        return super().cursor(name, **options)

    def commit(self) -> None:
        with self.watching(self.fileno(), self.limit_s):
            super().commit()

    def rollback(self) -> None:
        with self.watching(self.fileno(), self.limit_s):
            super().rollback()


def _watched(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a cursor's method that ends; the arguments are those of psycopg2, hence ``Any``."""

    def watched(self: Any, *arguments: Any, **options: Any) -> Any:
        connection = self.connection
        with connection.watching(connection.fileno(), connection.limit_s):
            return call(self, *arguments, **options)

    return watched


class _Cursor(psycopg2.extensions.cursor):
    """A cursor that has all its rows when a statement is done."""

    execute = _watched(psycopg2.extensions.cursor.execute)
    executemany = _watched(psycopg2.extensions.cursor.executemany)
    copy_expert = _watched(psycopg2.extensions.cursor.copy_expert)


class _ServerSideCursor(_Cursor):
    """A cursor that asks the server for its next rows."""

    fetchone = _watched(psycopg2.extensions.cursor.fetchone)
    fetchmany = _watched(psycopg2.extensions.cursor.fetchmany)
    fetchall = _watched(psycopg2.extensions.cursor.fetchall)
    close = _watched(psycopg2.extensions.cursor.close)
