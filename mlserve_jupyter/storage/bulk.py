"""Many rows into a table at once.

SQLite gets statements of up to a thousand rows, PostgreSQL one JSON document that it takes apart.
A driver's ``executemany`` gives Python's interpreter lock away and takes it again at each row. A
thread that writes beside a busy event loop would wait for the loop, and the loop for the thread, at
each of them; here both wait once for many rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.engine import Connection
from sqlalchemy.exc import StatementError

_POSTGRES = PGDialect()  # type: ignore[no-untyped-call]
_ENCODER = msgspec.json.Encoder()

_ROWS_AT_ONCE = (1024, 256, 64, 16, 4, 1)
"""Rows of a statement: few sizes, since each is compiled once a connection and kept."""

_SQLITE_VALUES = 32_766 if sqlite3.sqlite_version_info >= (3, 32) else 999
"""Values that a statement may have (https://www.sqlite.org/limits.html, 9)."""


def insert_rows(connection: Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows.

    Parameters
    ----------
    rows
        One value a column in the table's order, hence ``Any``: strings (UUIDs and JSON too),
        numbers, booleans, None; and of a datetime what :func:`timestamp_text` gives.

    Raises
    ------
    sqlalchemy.exc.StatementError
        For one value that cannot be kept; no row is then.
    """
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        _insert_into_sqlite(connection, table, rows)
    else:
        _insert_into_postgres(connection, table, rows)


def timestamp_text(at: datetime) -> str:
    """Return a datetime with a time zone as :func:`insert_rows` takes it."""
    return at.astimezone(timezone.utc).isoformat(" ", "microseconds")


def _insert_into_sqlite(
    connection: Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]
) -> None:
    try:
        kept = _as_sqlite_keeps_them(table, rows)
        n_done = 0
        for n_rows in _ROWS_AT_ONCE:
            if n_rows * len(table.columns) > _SQLITE_VALUES:
                continue
            while len(kept) - n_done >= n_rows:
                values = tuple(chain.from_iterable(kept[n_done : n_done + n_rows]))
                connection.exec_driver_sql(_sqlite_statement(table, n_rows), values)
                n_done += n_rows
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise StatementError(str(error), _sqlite_statement(table, 1), None, error) from error


def _as_sqlite_keeps_them(
    table: sa.Table, rows: Sequence[tuple[Any, ...]]
) -> list[tuple[Any, ...]]:
    """Return rows with each value in the form in which SQLAlchemy keeps it there."""
    columns: list[Iterable[Any]] = list(zip(*rows, strict=True))
    for i, column in enumerate(table.columns):
        form = _sqlite_form(column)
        if form is not None:
            columns[i] = [None if value is None else form(value) for value in columns[i]]
    return list(zip(*columns, strict=True))


def _sqlite_form(column: sa.Column[Any]) -> Callable[[str], str] | None:
    if isinstance(column.type, sa.Uuid):
        return lambda text: text.replace("-", "")
    if isinstance(column.type, sa.types.TypeDecorator) and isinstance(
        column.type.impl_instance, sa.DateTime
    ):
        return lambda text: text[:26]  # without its time zone
    return None


@lru_cache
def _sqlite_statement(table: sa.Table, n_rows: int) -> str:
    names = ", ".join(column.name for column in table.columns)
    row = f"({', '.join('?' * len(table.columns))})"
    return f"INSERT INTO {table.name} ({names}) VALUES {', '.join([row] * n_rows)}"


def _insert_into_postgres(
    connection: Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]
) -> None:
    statement = _postgres_statement(table)
    try:
        document = _ENCODER.encode(rows).decode()
    except TypeError as error:
        raise StatementError(str(error), str(statement), None, error) from error
    connection.execute(statement, {"rows": document})


@lru_cache
def _postgres_statement(table: sa.Table) -> sa.TextClause:
    names = ", ".join(column.name for column in table.columns)
    values = ", ".join(_of_postgres(i, column) for i, column in enumerate(table.columns))
    return sa.text(
        f"INSERT INTO {table.name} ({names}) SELECT {values} "
        "FROM json_array_elements(CAST(:rows AS json)) AS each(value)"
    )


def _of_postgres(i: int, column: sa.Column[Any]) -> str:
    if isinstance(column.type, sa.String):
        return f"value ->> {i}"  # cast to its length, it would be cut
    kind = column.type.compile(_POSTGRES)
    return f"CAST(value ->> {i} AS {kind})"
