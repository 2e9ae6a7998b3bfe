"""On PostgreSQL a month of predictions goes as one, when all of it is in files."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics import retention
from mlserve_jupyter.analytics.archive_partitions import detach, detached_partitions
from mlserve_jupyter.analytics.archives import is_due, read_archives
from mlserve_jupyter.api.resources import UpdateVersion
from mlserve_jupyter.errors import StorageUnavailable
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.partitions import Partition, make_partitions, read_partitions
from tests.analytics.archives import (
    DAY,
    archive,
    events,
    ids_in_files,
    log_calls,
    retention_of,
    rows_of,
    times_on,
)
from tests.registry.deploys import Deploys
from tests.storage.databases import opened, settings_in

MARCH = datetime(2025, 3, 1, tzinfo=timezone.utc)
APRIL = datetime(2025, 4, 1, tzinfo=timezone.utc)
MONTH = Partition("predictions_y2025m03", MARCH, APRIL)


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> Settings:
    return settings_in(tmp_path, database_url=postgres_url, log_flush_s=0.01)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    with opened(settings) as engine:
        with writing(engine) as connection:
            connection.execute(
                sa.text(
                    f"CREATE TABLE {MONTH.name} PARTITION OF predictions "
                    f"FOR VALUES FROM ('{MARCH.isoformat()}') TO ('{APRIL.isoformat()}')"
                )
            )
        yield engine


def old_partitions(engine: Engine) -> list[Partition]:
    with reading(engine) as connection:
        return [month for month in read_partitions(connection) if month.ends_at <= APRIL]


def is_dropped(engine: Engine) -> bool:
    with reading(engine) as connection:
        names = sa.inspect(connection).get_table_names()
    return not any(MONTH.name in name for name in names)


def test_a_month_is_dropped_when_all_its_days_are_in_files(
    engine: Engine, settings: Settings, deploy: Deploys, tmp_path: Path
) -> None:
    log_calls(engine, settings, deploy(), *times_on(MARCH, 3), *times_on(APRIL - DAY, 3))
    before = rows_of(engine)
    assert old_partitions(engine) == [MONTH]
    assert len(archive(engine, settings, before=APRIL - DAY)) == 1
    assert rows_of(engine) == before, "the month is not over"
    assert [kept.state for kept in read_archives(engine)] == ["verified"]
    assert len(archive(engine, settings, before=APRIL)) == 1
    assert not rows_of(engine)
    assert is_dropped(engine)
    assert sorted(ids_in_files(engine, settings, tmp_path / "files")) == sorted(before)
    assert {kept.state for kept in read_archives(engine)} == {"archived"}
    assert not is_due(engine, APRIL)
    assert [action for action, _ in events(engine)] == [
        "predictions.archive", "predictions.archive", "predictions.remove", "predictions.remove",
    ]  # fmt: skip


def test_what_came_late_into_a_month_is_kept_and_gets_a_file(
    engine: Engine, settings: Settings, deploy: Deploys, tmp_path: Path
) -> None:
    served = deploy()
    log_calls(engine, settings, served, *times_on(MARCH, 3))
    archive(engine, settings, before=MARCH + DAY)
    late = MARCH + timedelta(hours=3)
    log_calls(engine, settings, served, late)
    before = rows_of(engine)
    archive(engine, settings, before=APRIL)
    assert [row["created_at"] for row in rows_of(engine).values()] == [late]
    assert is_dropped(engine)
    assert MONTH in make_partitions(engine), "it has one again, for this one row"
    archive(engine, settings, before=APRIL)
    assert is_dropped(engine)
    assert not rows_of(engine)
    assert sorted(ids_in_files(engine, settings, tmp_path / "files")) == sorted(before)


def test_a_month_that_was_detached_is_dropped_by_the_next_run(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()
    log_calls(engine, settings, served, *times_on(MARCH, 3))
    archive(engine, settings, before=MARCH + DAY)
    late = MARCH + timedelta(hours=3)
    log_calls(engine, settings, served, late)
    with writing(engine) as connection:
        detach(connection, MONTH)
    with reading(engine) as connection:
        [detached] = detached_partitions(connection)
    assert detached[1:] == MONTH[1:]
    assert is_due(engine, MARCH)
    archive(engine, settings, before=MARCH)
    assert is_dropped(engine)
    assert [row["created_at"] for row in rows_of(engine).values()] == [late]


def test_a_model_can_be_deleted_while_its_month_is_detached(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()
    log_calls(engine, settings, served, *times_on(MARCH, 3))
    archive(engine, settings, before=MARCH + DAY)
    with writing(engine) as connection:
        detach(connection, MONTH)
    deploy.registry.update_version(served.model_id, 1, UpdateVersion(status="archived"))
    deploy.registry.delete_model(served.model_id)
    archive(engine, settings, before=APRIL)
    assert is_dropped(engine)


def test_restored_days_keep_their_month_until_their_time_is_over(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    log_calls(engine, settings, deploy(), *times_on(MARCH, 3), *times_on(MARCH + DAY, 3))
    before = rows_of(engine)
    archive(engine, settings, before=MARCH + 2 * DAY)
    with retention_of(engine, settings) as of_database:
        of_database.restore(MARCH, MARCH + DAY, kept_until=datetime.now(timezone.utc) + DAY)
    archive(engine, settings, before=APRIL)
    assert rows_of(engine) == before
    with retention_of(engine, settings) as of_database:
        of_database.restore(MARCH, MARCH + DAY, kept_until=datetime.now(timezone.utc))
    archive(engine, settings, before=APRIL)
    assert is_dropped(engine)
    with retention_of(engine, settings) as of_database:
        of_database.restore(MARCH, APRIL, kept_until=datetime.now(timezone.utc))
    assert rows_of(engine) == before
    archive(engine, settings, before=APRIL)
    assert not rows_of(engine)


@pytest.mark.slow
def test_a_month_that_is_in_use_all_the_time_is_left_for_later(
    engine: Engine, settings: Settings, deploy: Deploys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LOCK_FOR_S", 1.0)
    log_calls(engine, settings, deploy(), *times_on(MARCH, 3))
    before = rows_of(engine)
    with reading(engine) as connection:
        connection.execute(sa.text(f"SELECT count(*) FROM {MONTH.name}"))
        with pytest.raises(StorageUnavailable):
            archive(engine, settings, before=APRIL)
    assert rows_of(engine) == before
    archive(engine, settings, before=APRIL)
    assert is_dropped(engine)
