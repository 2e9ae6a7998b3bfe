"""Old calls to archive, and what is left of them where."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.accounts.audit import SERVER
from mlserve_jupyter.analytics.archive_file import read_rows
from mlserve_jupyter.analytics.archives import Archive, day_of, read_archives
from mlserve_jupyter.analytics.retention import Retention
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.monitoring_tables import labels
from mlserve_jupyter.storage.object_store import ObjectStore, open_object_store
from mlserve_jupyter.storage.tables import audit_log, predictions
from tests.analytics.calls import WAIT_S, call, opened_log

TODAY = day_of(datetime.now(timezone.utc))
DAY = timedelta(days=1)
CUTOFF = TODAY - 90 * DAY
OLD = CUTOFF - 3 * DAY
"""The first of three days that are archived."""


def log_calls(
    engine: Engine, settings: Settings, served: ServedVersion, *times: datetime, **others: Any
) -> None:
    """Let calls of these times be logged; numbered, so that each is another one."""
    with opened_log(engine, settings) as log:
        for number, at in enumerate(times):
            log.append(call(served, number, created_at=at, **others))
        assert log.flush(WAIT_S)


def times_on(day: datetime, n: int) -> list[datetime]:
    """Return times of a day, the first and the last microsecond of it among them."""
    last = day + DAY - timedelta(microseconds=1)
    return [day + (last - day) * i / max(n - 1, 1) for i in range(n)]


def add_label(engine: Engine, served: ServedVersion, request_id: str, labels_json: str) -> None:
    with writing(engine) as connection:
        connection.execute(
            labels.insert().values(
                model_id=served.model_id,
                request_id=request_id,
                labels=labels_json,
                created_at=datetime.now(timezone.utc),
            )
        )


@contextmanager
def retention_of(
    engine: Engine,
    settings: Settings,
    objects: ObjectStore | None = None,
    may_go_on: Callable[[], bool] = lambda: True,
) -> Iterator[Retention]:
    own = open_object_store(settings)
    try:
        yield Retention(
            engine, objects or own, settings.data_dir / "archiving", SERVER.write, may_go_on
        )
    finally:
        own.close()


def archive(
    engine: Engine, settings: Settings, before: datetime = CUTOFF, objects: Any = None
) -> list[Archive]:
    with retention_of(engine, settings, objects) as retention:
        return retention.archive(before)


def rows_of(engine: Engine) -> dict[str, dict[str, Any]]:
    """Return the log by id, with JSON as values: its text is kept as each database likes."""
    with reading(engine) as connection:
        found = [dict(row._mapping) for row in connection.execute(sa.select(predictions))]
    for row in found:
        for name in ("inputs", "outputs"):
            row[name] = None if row[name] is None else msgspec.json.decode(row[name])
    return {row["id"]: row for row in found}


def ids_in_files(
    engine: Engine, settings: Settings, folder: Path, known: Collection[str] = ()
) -> list[str]:
    """Return the ids in all files that were verified, but those of archives that are known."""
    folder.mkdir(exist_ok=True)
    objects = open_object_store(settings)
    found = []
    try:
        for kept in read_archives(engine):
            if kept.sha256 is not None and kept.id not in known:
                path = folder / kept.id
                objects.get(kept.key, path, kept.sha256)
                found += [str(row[0]) for rows in read_rows(path) for row in rows]
    finally:
        objects.close()
    return found


def keys_in_store(settings: Settings) -> list[str]:
    objects = open_object_store(settings)
    try:
        return [stored.key for stored in objects.list("archives")]
    finally:
        objects.close()


def events(engine: Engine) -> list[tuple[str, str]]:
    """Return action and target of what the audit log has of archives."""
    query = (
        sa.select(audit_log.c.action, audit_log.c.target)
        .where(audit_log.c.action.like("predictions.%"))
        .order_by(audit_log.c.id)
    )
    with reading(engine) as connection:
        return [(action, target) for action, target in connection.execute(query)]
