"""The partitions of ``predictions`` on PostgreSQL: one a month, made before it begins.

What belongs to no month that has one goes to the default partition, so that no call is lost where
nobody made them in time; it is moved when its month gets one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timezone
from math import inf
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.lock_retries import wait_briefly, with_lock_retries
from mlserve_jupyter.storage.tables import predictions

log = logging.getLogger(__name__)

MONTHS_AHEAD = 3
"""Partitions are made for the current month and so many more."""

MAKE_EVERY_S = 3600.0
"""How often it is looked whether there are any to make."""

DEFAULT_PARTITION = "predictions_default"

_LOCK_FOR_S = 60.0

_LAST_MONTH = datetime(9999, 11, 1, tzinfo=timezone.utc)
"""The last one that ends at a time that can be told; rows of a later one stay in the default."""

# Any constant will do: it keeps those apart who change the partitions of one database.
_ADVISORY_LOCK = 0x6D6C7061727473

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

_MONTHS_IN_DEFAULT = f"""
SELECT DISTINCT date_trunc('month', created_at AT TIME ZONE 'UTC')
FROM {DEFAULT_PARTITION} ORDER BY 1
"""


class Partition(NamedTuple):
    """A range of time, and the table that has its predictions."""

    name: str
    begins_at: datetime
    ends_at: datetime


def read_partitions(connection: Connection) -> list[Partition]:
    """Return the partitions but the default one, the oldest first; none on SQLite."""
    if connection.dialect.name == "sqlite":
        return []
    return [
        Partition(name, begins_at.astimezone(timezone.utc), ends_at.astimezone(timezone.utc))
        for name, begins_at, ends_at in connection.execute(sa.text(_READ))
    ]


def keep_partitions(engine: Engine) -> None:
    """Make the partitions that are missing, as :func:`make_partitions`; done now and then."""
    for partition in make_partitions(engine):
        log.info("Predictions have a partition %s.", partition.name)


def make_partitions(engine: Engine, now: datetime | None = None) -> Sequence[Partition]:
    """Make the partitions of this month, of those to come, and of rows in the default partition.

    Others go on reading and writing meanwhile; only those who use the default partition wait.

    Parameters
    ----------
    engine
        Of a database whose schema is prepared. Nothing is done on SQLite.
    now
        The time, for tests; None for that of the clock.

    Returns
    -------
    sequence of Partition
        Those that were made.

    Raises
    ------
    StorageUnavailable
        The database does not answer, or others used the table all the time.
    """
    if engine.dialect.name == "sqlite":
        return []
    this = _month_of(now or datetime.now(timezone.utc))
    with reading(engine, timeout_s=inf) as connection:
        left_over = [
            month.replace(tzinfo=timezone.utc)
            for month in connection.scalars(sa.text(_MONTHS_IN_DEFAULT))
        ]
    ahead = [_month_after(this, n) for n in range(MONTHS_AHEAD + 1)]
    wanted = sorted(month for month in {*left_over, *ahead} if month <= _LAST_MONTH)
    made = []
    for month in wanted:
        partition = Partition(f"predictions_y{month:%Y}m{month:%m}", month, _month_after(month, 1))
        if with_lock_retries(lambda wanted=partition: _make(engine, wanted), _LOCK_FOR_S):  # type: ignore[misc]
            made.append(partition)
    return made


def _make(engine: Engine, partition: Partition) -> bool:
    """Make a partition with what the default one has of it; False where there is one already."""
    columns = ", ".join(column.name for column in predictions.columns)
    bounds = {"begins_at": partition.begins_at, "ends_at": partition.ends_at}
    with writing(engine, timeout_s=inf) as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        if any(_overlap(partition, other) for other in read_partitions(connection)):
            return False
        wait_briefly(connection)
        # Attached afterwards, since CREATE TABLE … PARTITION OF would lock the whole of it.
        connection.execute(
            sa.text(f"CREATE TABLE {partition.name} (LIKE predictions INCLUDING DEFAULTS)")
        )
        # From here on nothing comes into it, so that what is moved is all there is.
        connection.execute(sa.text(f"LOCK TABLE {DEFAULT_PARTITION} IN SHARE ROW EXCLUSIVE MODE"))
        moved = connection.execute(
            sa.text(
                f"WITH moved AS (DELETE FROM {DEFAULT_PARTITION} WHERE created_at >= :begins_at "
                f"AND created_at < :ends_at RETURNING {columns}) "
                f"INSERT INTO {partition.name} ({columns}) SELECT {columns} FROM moved"
            ),
            bounds,
        ).rowcount
        connection.execute(
            sa.text(
                f"ALTER TABLE predictions ATTACH PARTITION {partition.name} "
                f"FOR VALUES FROM ('{partition.begins_at}') TO ('{partition.ends_at}')"
            )
        )
    if moved:
        log.info("%d predictions are in the new partition %s.", moved, partition.name)
    return True


def _overlap(one: Partition, other: Partition) -> bool:
    return one.begins_at < other.ends_at and other.begins_at < one.ends_at


def _month_of(at: datetime) -> datetime:
    return at.astimezone(timezone.utc).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _month_after(month: datetime, n: int) -> datetime:
    years, index = divmod(month.month - 1 + n, 12)
    return month.replace(year=month.year + years, month=index + 1)
