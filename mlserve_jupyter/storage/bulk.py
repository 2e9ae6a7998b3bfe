"""Many rows into a table at once, as one JSON document that the database takes apart.

A driver's ``executemany`` gives Python's interpreter lock away and takes it again at each row. A
thread that writes beside a busy event loop would wait for the loop, and the loop for the thread, at
each of them; here both wait once for all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.engine import Connection
from sqlalchemy.exc import StatementError

_POSTGRES = PGDialect()  # type: ignore[no-untyped-call]
_ENCODER = msgspec.json.Encoder()


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
    statement = _statement(table, connection.dialect.name)
    try:
        document = _ENCODER.encode(rows).decode()
    except TypeError as error:
        raise StatementError(str(error), str(statement), None, error) from error
    connection.execute(statement, {"rows": document})


def timestamp_text(at: datetime) -> str:
    """Return a datetime with a time zone as :func:`insert_rows` takes it."""
    return at.astimezone(timezone.utc).isoformat(" ", "microseconds")


@lru_cache
def _statement(table: sa.Table, dialect: str) -> sa.TextClause:
    names = ", ".join(column.name for column in table.columns)
    if dialect == "sqlite":
        values = ", ".join(_of_sqlite(i, column) for i, column in enumerate(table.columns))
        source = "json_each(:rows)"
    else:
        values = ", ".join(_of_postgres(i, column) for i, column in enumerate(table.columns))
        source = "json_array_elements(CAST(:rows AS json)) AS each(value)"
    return sa.text(f"INSERT INTO {table.name} ({names}) SELECT {values} FROM {source}")


def _of_sqlite(i: int, column: sa.Column[Any]) -> str:
    """Return a column's value in the form in which SQLAlchemy keeps it there."""
    value = f"json_extract(value, '$[{i}]')"
    if isinstance(column.type, sa.Uuid):
        return f"replace({value}, '-', '')"
    if isinstance(column.type, sa.types.TypeDecorator) and isinstance(
        column.type.impl_instance, sa.DateTime
    ):
        return f"substr({value}, 1, 26)"
    return value


def _of_postgres(i: int, column: sa.Column[Any]) -> str:
    if isinstance(column.type, sa.String):
        return f"value ->> {i}"  # cast to its length, it would be cut
    kind = column.type.compile(_POSTGRES)
    return f"CAST(value ->> {i} AS {kind})"
