"""Months of archived predictions on PostgreSQL: taken out of the table, looked through, dropped.

A month is first detached, so that nobody writes to it. Rows that are in no archive, since they came
late, then go back into the table; only after that it is dropped, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlserve_jupyter.analytics.archive_rows import Row, delete_labels
from mlserve_jupyter.storage.lock_retries import wait_briefly
from mlserve_jupyter.storage.partitions import Partition
from mlserve_jupyter.storage.tables import predictions

_PREFIX = "archived_"
_ID = [column.name for column in predictions.columns].index("id")


def detach(connection: Connection, partition: Partition) -> None:
    """Take a partition out of the table; from now on it is a detached one.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        It is in use; nothing was done.
    """
    old, new = _quoted(partition.name), _quoted(f"{_PREFIX}{partition.name}")
    wait_briefly(connection)
    connection.execute(sa.text(f"ALTER TABLE predictions DETACH PARTITION {old}"))
    connection.execute(sa.text(f"ALTER TABLE {old} RENAME TO {new}"))
    span = f"{partition.begins_at.isoformat()}/{partition.ends_at.isoformat()}"
    connection.execute(sa.text(f"COMMENT ON TABLE {new} IS '{span}'"))


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


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
