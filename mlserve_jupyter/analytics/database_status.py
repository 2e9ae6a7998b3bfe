"""How large the database is, how fast it grows, and when its disk will be full."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta, timezone
from math import inf
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import OperationalError

from mlserve_jupyter.analytics.archives import BEGINNING, DAY, oldest_prediction, read_archives
from mlserve_jupyter.settings import GIB, Settings
from mlserve_jupyter.storage.engine import reading, shown_url
from mlserve_jupyter.storage.schema import HEAD_REVISION, advice_of, revision_of
from mlserve_jupyter.storage.tables import metadata, predictions

GROWTH_SPAN = timedelta(days=7)
"""The growth is that of so long, or of as long as there are predictions."""

MAX_COUNTED_BYTES = GIB
"""The pages of a larger SQLite file are not counted, which takes a minute for 10 GiB."""

_SAMPLE_ROWS = 500
_SHORTEST_SPAN = timedelta(hours=1)

_POSTGRES_TABLES = """
SELECT coalesce(parent.relname, own.relname) AS name,
       sum(pg_total_relation_size(own.oid)) AS size_bytes,
       sum(greatest(own.reltuples, coalesce(stat.n_live_tup, 0), 0)) AS n_rows
FROM pg_class AS own
LEFT JOIN pg_inherits ON pg_inherits.inhrelid = own.oid
LEFT JOIN pg_class AS parent ON parent.oid = pg_inherits.inhparent
LEFT JOIN pg_stat_user_tables AS stat ON stat.relid = own.oid
WHERE own.relkind = 'r' AND own.relnamespace = CAST(current_schema() AS regnamespace)
GROUP BY 1
"""


class TableStatus(msgspec.Struct, frozen=True):
    """A table with its indexes, and with its partitions.

    Attributes
    ----------
    n_rows
        About how many there are; the database's own estimate.
    """

    name: str
    size_bytes: int
    n_rows: int


class ArchivesStatus(msgspec.Struct, frozen=True):
    """What lies in the artifact store.

    Attributes
    ----------
    n_unfinished
        Days that are being written or restored, or whose rows are in the table as well.
    """

    n_days: int
    n_rows: int
    size_bytes: int
    first_day: str | None
    last_day: str | None
    n_unfinished: int


class DatabaseStatus(msgspec.Struct, frozen=True):
    """The whole.

    Attributes
    ----------
    database
        Its path, or its URL without the password.
    revision, head_revision, advice
        Of the schema as it is (None for an empty database), and as this release has it; with
        another one, all that stands after ``retention_days`` is None.
    free_bytes
        What it may still take: on SQLite the disk and the free pages of the file, elsewhere what
        the caller has said; None if nobody knows.
    sizes_are_estimated
        The sizes of the tables are projected from their latest rows, since the file is large.
    oldest_prediction_at
        None if there is none.
    predictions_per_day, growth_bytes_per_day
        Of the last seven days.
    growth_span_days
        How much of these the log covers: the less, the less its rates say.
    days_until_full
        At that rate, see :func:`days_until_full`; None for never, or if ``free_bytes`` is.
    retention_days
        0 if predictions are kept for ever.
    """

    database: str
    revision: str | None
    head_revision: str
    advice: str | None
    size_bytes: int
    free_bytes: int | None
    tables: list[TableStatus]
    sizes_are_estimated: bool
    retention_days: int
    oldest_prediction_at: datetime | None = None
    predictions_per_day: float | None = None
    growth_bytes_per_day: float | None = None
    growth_span_days: float | None = None
    days_until_full: float | None = None
    archives: ArchivesStatus | None = None


def read_status(
    engine: Engine, settings: Settings, capacity_bytes: int | None = None
) -> DatabaseStatus:
    """Look at a database, whatever its revision.

    Parameters
    ----------
    capacity_bytes
        What the database may take in all, where it is on a server.

    Raises
    ------
    StorageUnavailable
        It does not answer.
    """
    with reading(engine, timeout_s=inf) as connection:
        size_bytes, unused_bytes = _size(connection)
        tables, sizes_are_estimated = _tables(connection, size_bytes - unused_bytes)
    if capacity_bytes is not None:
        free_bytes: int | None = max(capacity_bytes - size_bytes, 0) + unused_bytes
    elif engine.dialect.name == "sqlite":
        folder = Path(str(engine.url.database)).parent
        free_bytes = shutil.disk_usage(folder).free + unused_bytes
    else:
        free_bytes = None
    status = DatabaseStatus(
        database=shown_url(engine.url),
        revision=revision_of(engine),
        head_revision=HEAD_REVISION,
        advice=advice_of(engine),
        size_bytes=size_bytes,
        free_bytes=free_bytes,
        tables=tables,
        sizes_are_estimated=sizes_are_estimated,
        retention_days=settings.retention_days,
    )
    if status.revision != HEAD_REVISION:
        return status
    return _with_growth(engine, settings, status)


def days_until_full(
    free_bytes: float,
    growth_bytes_per_day: float,
    days_until_removed: float,
    archive_bytes_per_day: float,
) -> float | None:
    """Return when a disk will be full if all goes on as it does; None for never.

    Parameters
    ----------
    growth_bytes_per_day
        Of the table, until as much is removed as comes.
    days_until_removed
        When that is; infinite if nothing is.
    archive_bytes_per_day
        What archives on the same disk take from then on.
    """
    if growth_bytes_per_day <= 0:
        return None
    until_removed = growth_bytes_per_day * days_until_removed
    if free_bytes <= until_removed:
        return free_bytes / growth_bytes_per_day
    if archive_bytes_per_day <= 0:
        return None
    return days_until_removed + (free_bytes - until_removed) / archive_bytes_per_day


def _with_growth(engine: Engine, settings: Settings, status: DatabaseStatus) -> DatabaseStatus:
    now = datetime.now(timezone.utc)
    with reading(engine, timeout_s=inf) as connection:
        oldest_at = oldest_prediction(connection, BEGINNING)
        n_recent = _count_since(connection, now - GROWTH_SPAN)
    archives = _archives(engine)
    span = min(GROWTH_SPAN, max(now - (oldest_at or now), _SHORTEST_SPAN))
    per_day = n_recent / (span / DAY)
    table = next(table for table in status.tables if table.name == predictions.name)
    growth = per_day * table.size_bytes / table.n_rows if table.n_rows else 0.0
    in_days = None
    if status.free_bytes is not None:
        age_days = (now - (oldest_at or now)) / DAY
        rest_days = max(settings.retention_days - age_days, 0.0)
        on_one_disk = engine.dialect.name == "sqlite" and not settings.artifacts_url
        in_days = days_until_full(
            status.free_bytes,
            growth,
            rest_days if settings.retention_days else float("inf"),
            archives.size_bytes / archives.n_days if on_one_disk and archives.n_days else 0.0,
        )
    return msgspec.structs.replace(
        status,
        oldest_prediction_at=oldest_at,
        predictions_per_day=per_day,
        growth_bytes_per_day=growth,
        growth_span_days=min(GROWTH_SPAN, now - (oldest_at or now)) / DAY,
        days_until_full=in_days,
        archives=archives,
    )


def _size(connection: Connection) -> tuple[int, int]:
    """Return what the database takes, and what of it can be used again."""
    if connection.dialect.name == "sqlite":
        page_bytes, n_pages, n_free = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("page_size", "page_count", "freelist_count")
        )
        return page_bytes * n_pages, page_bytes * n_free
    size = connection.scalar(sa.text("SELECT pg_database_size(current_database())"))
    return int(size or 0), 0


def _tables(connection: Connection, used_bytes: int) -> tuple[list[TableStatus], bool]:
    """Return our tables, the largest first, and whether their sizes are estimates."""
    is_estimated = False
    if connection.dialect.name == "sqlite":
        there = set(sa.inspect(connection).get_table_names()) & set(metadata.tables)
        n_rows = {name: _count_of_rowids(connection, name) for name in there}
        sizes = _counted(connection) if used_bytes <= MAX_COUNTED_BYTES else None
        is_estimated = sizes is None
        if sizes is None:
            sizes = _projected(connection, n_rows, used_bytes)
        found = [TableStatus(name, sizes.get(name, 0), n_rows[name]) for name in there]
    else:
        found = [
            TableStatus(name, int(size_bytes), int(n_rows))
            for name, size_bytes, n_rows in connection.execute(sa.text(_POSTGRES_TABLES))
            if name in metadata.tables
        ]
    return sorted(found, key=lambda table: (-table.size_bytes, table.name)), is_estimated


def _count_of_rowids(connection: Connection, name: str) -> int:
    query = f"SELECT coalesce(max(rowid) - min(rowid) + 1, 0) FROM {name}"
    return int(connection.exec_driver_sql(query).scalar_one())


def _counted(connection: Connection) -> dict[str, int] | None:
    """Count the pages of each table and its indexes; None where SQLite was built without."""
    query = (
        "SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_master USING (name) "
        "WHERE aggregate = TRUE GROUP BY 1"
    )
    try:
        return {name: int(size) for name, size in connection.exec_driver_sql(query)}
    except OperationalError:
        return None


def _projected(connection: Connection, n_rows: dict[str, int], used_bytes: int) -> dict[str, int]:
    """Share what is used out among the tables, by their latest rows' lengths."""
    weights = {}
    for name, n in n_rows.items():
        lengths = " + ".join(
            f'coalesce(length(CAST("{column.name}" AS BLOB)), 0)'
            for column in metadata.tables[name].columns
        )
        mean = connection.exec_driver_sql(
            f"SELECT coalesce(avg({lengths}), 0) "
            f"FROM (SELECT * FROM {name} ORDER BY rowid DESC LIMIT {_SAMPLE_ROWS})"
        ).scalar_one()
        weights[name] = n * float(mean)
    total = sum(weights.values()) or 1.0
    return {name: round(used_bytes * weight / total) for name, weight in weights.items()}


def _count_since(connection: Connection, since: datetime) -> int:
    query = sa.select(sa.func.count()).where(predictions.c.created_at >= since)
    return int(connection.execute(query).scalar_one())


def _archives(engine: Engine) -> ArchivesStatus:
    found = read_archives(engine)
    days = [archive.day for archive in found if archive.state != "writing"]
    return ArchivesStatus(
        n_days=len(set(days)),
        n_rows=sum(archive.n_rows or 0 for archive in found),
        size_bytes=sum(archive.size_bytes or 0 for archive in found),
        first_day=min(days, default=None),
        last_day=max(days, default=None),
        n_unfinished=sum(archive.state != "archived" for archive in found),
    )
