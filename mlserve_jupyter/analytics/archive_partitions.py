"""Months of archived predictions on PostgreSQL: taken out of the table, looked through, dropped.

A month is first detached, so that nobody writes to it. Rows that are in no archive, since they came
late, then go back into the table; only after that it is dropped, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlserve_jupyter.analytics.archive_rows import Row, delete_labels
from mlserve_jupyter.storage.tables import predictions

_LOCK_TIMEOUT_S = 2
_PREFIX = "archived_"
_ID = [column.name for column in predictions.columns].index("id")

_READ = r"""
SELECT relname,
       CAST((regexp_match(bounds, 'FROM \(''([^'']+)''\)'))[1] AS timestamptz) AS begins_at,
       CAST((regexp_match(bounds, 'TO \(''([^'']+)''\)'))[1] AS timestamptz) AS ends_at
FROM (
    SELECT relname, pg_get_expr(relpartbound, oid) AS bounds
    FROM pg_inherits JOIN pg_class ON oid = inhrelid
    WHERE inhparent = to_regclass('predictions')
) AS partitions
WHERE bounds LIKE 'FOR VALUES FROM%'
ORDER BY 2
"""


class Partition(NamedTuple):
    """A month of predictions."""

    name: str
    begins_at: datetime
    ends_at: datetime


def read_partitions(connection: Connection) -> list[Partition]:
    """Return the partitions but the default one, the oldest first; none on SQLite."""
    if connection.dialect.name == "sqlite":
        return []
    return [
        Partition(name, _utc(begins_at), _utc(ends_at))
        for name, begins_at, ends_at in connection.execute(sa.text(_READ))
    ]


def detach(connection: Connection, partition: Partition) -> None:
    """Take a partition out of the table; from now on it is a detached one.

    It also refers to no model any more, so that one can be deleted meanwhile.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        Others used the table all the time; nothing was done.
    """
    old, new = _quoted(partition.name), _quoted(f"{_PREFIX}{partition.name}")
    connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S}s'"))
    connection.execute(sa.text(f"ALTER TABLE predictions DETACH PARTITION {old}"))
    connection.execute(sa.text(f"ALTER TABLE {old} RENAME TO {new}"))
    span = f"{partition.begins_at.isoformat()}/{partition.ends_at.isoformat()}"
    connection.execute(sa.text(f"COMMENT ON TABLE {new} IS '{span}'"))
    for foreign_key in sa.inspect(connection).get_foreign_keys(f"{_PREFIX}{partition.name}"):
        constraint = _quoted(str(foreign_key["name"]))
        connection.execute(sa.text(f"ALTER TABLE {new} DROP CONSTRAINT {constraint}"))


def detached_partitions(connection: Connection) -> list[Partition]:
    """Return what was detached and not dropped yet; none on SQLite."""
    if connection.dialect.name == "sqlite":
        return []
    inspector = sa.inspect(connection)
    found = []
    for name in inspector.get_table_names():
        if name.startswith(f"{_PREFIX}predictions"):
            span = str(inspector.get_table_comment(name)["text"]).split("/")
            found.append(Partition(name, *map(datetime.fromisoformat, span)))
    return found


def drop_detached(
    connection: Connection, partition: Partition, archived: Iterable[Sequence[Row]]
) -> int:
    """Drop a detached partition, in a transaction of the caller's.

    Parameters
    ----------
    archived
        All rows that archives have of its span.

    Returns
    -------
    int
        How many rows were in none of them, and are in the table of predictions again.
    """
    table = _quoted(partition.name)
    connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
    connection.execute(sa.text("CREATE TEMPORARY TABLE archived_ids (id uuid) ON COMMIT DROP"))
    for rows in archived:
        connection.execute(
            sa.text("INSERT INTO archived_ids SELECT unnest(CAST(:ids AS uuid[]))"),
            {"ids": [row[_ID] for row in rows]},
        )
        delete_labels(connection, rows)
    connection.execute(sa.text("ANALYZE archived_ids"))
    names = ", ".join(column.name for column in predictions.columns)
    late = connection.execute(
        sa.text(
            f"INSERT INTO predictions ({names}) SELECT {names} FROM {table} AS late "
            "WHERE NOT EXISTS (SELECT FROM archived_ids WHERE archived_ids.id = late.id) "
            "AND EXISTS (SELECT FROM model_versions WHERE model_versions.id = late.version_id)"
        )
    )
    connection.execute(sa.text(f"DROP TABLE {table}"))
    return late.rowcount


def _utc(at: datetime) -> datetime:
    return at.astimezone(timezone.utc)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
