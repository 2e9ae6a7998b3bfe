"""Which days of predictions are archived, and which are to be. Imports no pyarrow."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.analytics.archive_partitions import detached_partitions
from mlserve_jupyter.storage.engine import reading
from mlserve_jupyter.storage.monitoring_tables import archives
from mlserve_jupyter.storage.tables import predictions

DAY = timedelta(days=1)
BEGINNING = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Archive:
    """A day in a file.

    Attributes
    ----------
    key
        Of the file in the artifact store.
    state
        ``writing``, ``verified`` (the rows are in the table as well), ``archived``, ``restoring``
        or ``restored`` until ``kept_until``.
    """

    id: str
    begins_at: datetime
    ends_at: datetime
    key: str
    state: str
    created_at: datetime
    sha256: str | None
    size_bytes: int | None
    n_rows: int | None
    kept_until: datetime | None

    @property
    def day(self) -> str:
        """Its day, such as ``2026-05-01``."""
        return self.begins_at.date().isoformat()


def read_archives(engine: Engine, states: Collection[str] | None = None) -> list[Archive]:
    """Return the archives in some states, or in all, the oldest day first."""
    query = sa.select(archives).order_by(archives.c.begins_at, archives.c.id)
    if states is not None:
        query = query.where(archives.c.state.in_(states))
    with reading(engine) as connection:
        return [Archive(**row._mapping) for row in connection.execute(query)]


def is_due(engine: Engine, before: datetime) -> bool:
    """Return whether there may be something to archive or to remove; a few short queries."""
    now = datetime.now(timezone.utc)
    with reading(engine) as connection:
        first = oldest_prediction(connection, BEGINNING)
        unfinished = connection.scalar(
            sa.select(sa.func.count())
            .select_from(archives)
            .where((archives.c.state.in_(["writing", "verified"])) | (archives.c.kept_until <= now))
        )
        detached = detached_partitions(connection)
    return bool(unfinished or detached) or (first is not None and day_of(first) <= before - DAY)


def day_of(at: datetime) -> datetime:
    """Return when the day of a time began, in UTC."""
    return at.astimezone(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)


def oldest_prediction(connection: Connection, since: datetime) -> datetime | None:
    """Return when the first call since then came."""
    at = predictions.c.created_at
    found = connection.scalar(sa.select(sa.func.min(at)).where(at >= since))
    assert found is None or isinstance(found, datetime)
    return found
