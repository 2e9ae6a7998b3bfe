"""Many rows into a table at once.

SQLite gets statements of up to a thousand rows, PostgreSQL one ``COPY``. A driver's ``executemany``
gives Python's interpreter lock away and takes it again at each row. A thread that writes beside a
busy event loop would wait for the loop, and the loop for the thread, at each of them; here both
wait once for many rows.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from functools import lru_cache
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import StatementError

_COPY_SPECIAL = re.compile(r"[\\\t\n\r]")
_COPY_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})

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
    from mlserve_jupyter.storage.postgres import copy_in

    statement = _copy_statement(table)
    try:
        content = "".join([_copy_line(row) for row in rows]).encode()
    except (TypeError, UnicodeEncodeError) as error:
        raise StatementError(str(error), statement, None, error) from error
    copy_in(connection, statement, content)


@lru_cache
def _copy_statement(table: sa.Table) -> str:
    return f"COPY {table.name} ({', '.join(column.name for column in table.columns)}) FROM STDIN"


def _copy_line(row: tuple[Any, ...]) -> str:
    """Return a row in the text format (https://www.postgresql.org/docs/current/sql-copy.html)."""
    return "\t".join([_copy_field(value) for value in row]) + "\n"


def _copy_field(value: object) -> str:
    if isinstance(value, str):
        return value.translate(_COPY_ESCAPES) if _COPY_SPECIAL.search(value) else value
    if value is None:
        return "\\N"
    if isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, bytes):
        return "\\\\x" + value.hex()
    raise TypeError(f"a value of type {type(value).__name__} cannot be inserted")
