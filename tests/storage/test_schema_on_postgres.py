"""The migrations on a real PostgreSQL: up, down, at once, and while others use the tables."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import Engine

from mlserve_jupyter.api.resources import UpdateModel
from mlserve_jupyter.errors import StorageUnavailable
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage import schema as module
from mlserve_jupyter.storage.bulk import insert_rows
from mlserve_jupyter.storage.engine import open_engine, reading, writing
from mlserve_jupyter.storage.partitions import read_partitions
from mlserve_jupyter.storage.schema import prepare_schema, revision_of
from mlserve_jupyter.storage.tables import metadata, predictions
from tests.registry.deploys import Deploys
from tests.storage.databases import processes, settings_in
from tests.storage.postgres_process import PostgresProcess
from tests.storage.prediction_rows import prediction_row
from tests.storage.test_schema import alembic_config

pytestmark = pytest.mark.slow

NOW = datetime.now(timezone.utc)


@pytest.fixture
def engine(postgres_url: str, tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(settings_in(tmp_path, database_url=postgres_url))
    yield engine
    engine.dispose()


def go_to(engine: Engine, revision: str) -> None:
    config = alembic_config()
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        there = MigrationContext.configure(connection).get_current_revision()
        is_up = there is None or (revision not in ("base",) and there < revision)
        (command.upgrade if is_up else command.downgrade)(config, revision)


def old_calls(engine: Engine, folder: Path, *times: datetime) -> None:
    """Log calls of a deployed version in a database of the revision before the partitions."""
    served = Deploys(engine, folder / "models")()
    rows = [prediction_row(at, model_id=served.model_id, version_id=served.id) for at in times]
    with writing(engine) as connection:
        insert_rows(connection, predictions, rows)


def test_the_migrations_make_what_the_tables_say(engine: Engine) -> None:
    prepare_schema(engine)

    def is_ours(thing: Any, name: str | None, kind: str, *others: object) -> bool:
        return kind != "table" or not str(name).startswith("predictions_")

    with reading(engine) as connection:
        options = {"compare_type": True, "include_object": is_ours}
        context = MigrationContext.configure(connection, opts=options)
        differences = [
            each
            for each in compare_metadata(context, metadata)
            if not (each[0] == "remove_index" and each[1].name == "ix_predictions_inputs")
        ]
        assert differences == []


def test_the_schema_goes_down_to_nothing_and_up_again(engine: Engine) -> None:
    for _ in range(2):
        prepare_schema(engine)
        go_to(engine, "base")
        with reading(engine) as connection:
            assert sa.inspect(connection).get_table_names() == ["alembic_version"]
            functions = connection.scalars(
                sa.text("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
            )
            assert functions.all() == []


def test_a_model_of_the_release_before_is_not_kept_warm(engine: Engine, tmp_path: Path) -> None:
    go_to(engine, "0004")
    deploys = Deploys(engine, tmp_path / "models")
    served = deploys()
    prepare_schema(engine)
    assert not deploys.registry.snapshot().by_id(served.model_id).keep_warm
    deploys.registry.update_model(served.model_id, UpdateModel(keep_warm=True))
    [kept] = deploys.registry.snapshot().kept_warm()
    assert kept == served
    go_to(engine, "0004")
    assert "keep_warm" not in {each["name"] for each in sa.inspect(engine).get_columns("models")}
    prepare_schema(engine)
    assert not deploys.registry.snapshot().by_id(served.model_id).keep_warm


def test_a_log_from_before_the_partitions_is_kept_up_and_down(
    engine: Engine, tmp_path: Path
) -> None:
    go_to(engine, "0003")
    times = [
        NOW - timedelta(days=100),
        NOW - timedelta(days=1),
        NOW,
        NOW + timedelta(days=40),
        NOW + timedelta(days=4000),
    ]
    old_calls(engine, tmp_path, *times)
    everything = sa.select(predictions).order_by(predictions.c.id)
    with reading(engine) as connection:
        before = connection.execute(everything).all()
    prepare_schema(engine)
    with reading(engine) as connection:
        assert connection.execute(everything).all() == before
        partitions = read_partitions(connection)
        assert partitions[0].name == "predictions_before"
        assert partitions[0].begins_at <= times[0]
        in_default = connection.scalars(sa.text("SELECT created_at FROM predictions_default"))
        assert in_default.all() == [times[-1]]
        indexes = sa.inspect(connection).get_indexes("predictions_before")
        assert len(indexes) == len(sa.inspect(connection).get_indexes("predictions"))
    go_to(engine, "0003")
    with reading(engine) as connection:
        assert connection.execute(everything).all() == before
    prepare_schema(engine)


def test_processes_that_start_at_once_make_one_schema(
    postgres: PostgresProcess, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path, database_url=postgres.new_database())
    started = processes.Barrier(4)
    children = [
        processes.Process(target=_prepare_together, args=(settings, started)) for _ in range(4)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * 4


def _prepare_together(settings: Settings, started: Any) -> None:
    started.wait(60)
    engine = open_engine(settings)
    prepare_schema(engine)
    engine.dispose()


def test_an_upgrade_under_load_gets_its_locks_and_loses_no_row(
    engine: Engine, tmp_path: Path
) -> None:
    go_to(engine, "0003")
    served = Deploys(engine, tmp_path / "models")()
    stop = threading.Event()
    written: list[str] = []
    slowest_s: list[float] = []

    def write() -> None:
        while not stop.is_set():
            row = prediction_row(
                datetime.now(timezone.utc), model_id=served.model_id, version_id=served.id
            )
            begun_s = time.monotonic()
            with writing(engine) as connection:
                insert_rows(connection, predictions, [row])
            slowest_s.append(time.monotonic() - begun_s)
            written.append(row[0])

    def read() -> None:
        while not stop.is_set():
            with reading(engine) as connection:
                connection.execute(sa.select(sa.func.count()).select_from(predictions))
                time.sleep(0.2)  # its lock is held for as long

    threads = [threading.Thread(target=each) for each in (write, write, read, read)]
    for thread in threads:
        thread.start()
    try:
        while len(written) < 50:
            time.sleep(0.01)
        prepare_schema(engine)
        n_written = len(written)
        while len(written) < n_written + 50:
            time.sleep(0.01)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert revision_of(engine) == module.HEAD_REVISION
    with reading(engine) as connection:
        assert set(connection.scalars(sa.select(predictions.c.id))) == set(written)
    assert max(slowest_s) < 30


def test_an_upgrade_that_never_gets_its_locks_gives_up_and_changes_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOCK_FOR_S", 1.0)
    go_to(engine, "0003")
    with reading(engine) as reader:
        reader.execute(sa.select(predictions))
        begun_s = time.monotonic()
        with pytest.raises(StorageUnavailable, match="lock timeout"):
            prepare_schema(engine)
        assert time.monotonic() - begun_s < 30
        assert revision_of(engine) == "0003"
    prepare_schema(engine)
    assert revision_of(engine) == module.HEAD_REVISION
