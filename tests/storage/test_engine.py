from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from mlserve_jupyter.errors import SettingsInvalid, StorageFull, StorageUnavailable
from mlserve_jupyter.storage import engine as engine_module
from mlserve_jupyter.storage.engine import open_engine, reading, shown_url, writing
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.tables import models, registry_state
from tests.storage.databases import opened, settings_in


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with opened(settings_in(tmp_path)) as engine:
        yield engine


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o377])
def test_folder_and_files_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with opened(settings_in(tmp_path)) as engine, writing(engine) as connection:
            connection.execute(registry_state.update().values(epoch=7))
            folder = tmp_path / "data"
            assert mode(folder) == 0o700
            assert {path.name: mode(path) for path in folder.iterdir()} == {
                "mlserve.db": 0o600,
                "mlserve.db-wal": 0o600,
                "mlserve.db-shm": 0o600,
            }
    finally:
        os.umask(before)


def test_a_folder_and_a_file_that_others_could_read_are_closed_to_them(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with opened(settings):
        pass
    settings.data_dir.chmod(0o755)
    (settings.data_dir / "mlserve.db").chmod(0o644)
    with opened(settings):
        assert mode(settings.data_dir) == 0o700
        assert mode(settings.data_dir / "mlserve.db") == 0o600


def test_an_acknowledged_write_is_synced_and_one_of_the_log_is_not(engine: Engine) -> None:
    with writing(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    with writing(engine, durable=False) as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
    with writing(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


@pytest.mark.parametrize("replaced", [False, True])
def test_a_database_file_that_is_gone_or_another_is_neither_written_nor_made_anew(
    engine: Engine, tmp_path: Path, replaced: bool
) -> None:
    path = Path(str(engine.url.database))
    kept = path.rename(tmp_path / "kept.db")
    if replaced:
        path.write_bytes(kept.read_bytes())
    gone = pytest.raises(StorageUnavailable, match="mlserve.db was deleted or replaced")
    with gone, writing(engine):
        pass
    engine.dispose()  # from here on, each connection is a new one
    with pytest.raises(StorageUnavailable, match="put it back as it was"), reading(engine):
        pass
    assert path.exists() is replaced
    kept.rename(path)
    with writing(engine) as connection:
        connection.execute(registry_state.update().values(epoch=7))


def test_a_failing_block_is_rolled_back(engine: Engine) -> None:
    def fail_after_a_write() -> None:
        with writing(engine) as connection:
            connection.execute(registry_state.update().values(epoch=7))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_a_write()
    with reading(engine) as connection:
        assert connection.execute(sa.select(registry_state.c.epoch)).scalar_one() == 0


def test_a_reader_does_not_wait_for_a_writer_and_sees_one_state(engine: Engine) -> None:
    epoch = sa.select(registry_state.c.epoch)
    with reading(engine) as reader:
        assert reader.execute(epoch).scalar_one() == 0
        with writing(engine) as writer:
            writer.execute(registry_state.update().values(epoch=7))
            assert reader.execute(epoch).scalar_one() == 0
        assert reader.execute(epoch).scalar_one() == 0
    with reading(engine) as reader:
        assert reader.execute(epoch).scalar_one() == 7


def test_a_writer_that_waits_too_long_for_another_is_told_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "BUSY_TIMEOUT_S", 0.1)
    with (
        opened(settings_in(tmp_path)) as engine,
        writing(engine),
        pytest.raises(StorageUnavailable, match=r"mlserve\.db.*locked"),
        writing(engine),
    ):
        pass


def test_two_writers_that_read_first_both_succeed_one_after_the_other(engine: Engine) -> None:
    for _ in range(2):
        with writing(engine) as connection:
            epoch = connection.execute(sa.select(registry_state.c.epoch)).scalar_one()
            connection.execute(registry_state.update().values(epoch=epoch + 1))
    with reading(engine) as connection:
        assert connection.execute(sa.select(registry_state.c.epoch)).scalar_one() == 2


def test_row_33_a_full_database_is_storage_full_and_keeps_what_it_had(engine: Engine) -> None:
    def write_too_much() -> None:
        with writing(engine) as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
            connection.exec_driver_sql("CREATE TABLE big (x)")
            connection.exec_driver_sql("INSERT INTO big VALUES (zeroblob(10000000))")

    with pytest.raises(StorageFull, match=r"mlserve\.db"):
        write_too_much()
    with reading(engine) as connection:
        assert "big" not in sa.inspect(connection).get_table_names()


def test_a_row_that_refers_to_nothing_is_refused(engine: Engine) -> None:
    now = datetime.now(timezone.utc)
    row = {"name": "clf", "description": "", "created_at": now, "updated_at": now}
    orphan = models.insert().values(id=new_id(), owner_id=new_id(), **row)

    def write() -> None:
        with writing(engine) as connection:
            connection.execute(orphan)

    with pytest.raises(IntegrityError):
        write()
    with reading(engine) as connection:
        assert not connection.execute(sa.select(models)).all()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StorageUnavailable, match=str(tmp_path / "data")):
        open_engine(settings_in(tmp_path))


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes, which are longer than the header of a database " * 20)
    with pytest.raises(StorageUnavailable, match=r"notes\.txt.*not a database"):
        open_engine(settings_in(tmp_path, database_url=f"sqlite:///{path}"))
    assert path.read_text().startswith("my notes")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file::memory:"])
def test_a_database_in_memory_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsInvalid, match="must name a file"):
        open_engine(settings_in(tmp_path, database_url=url))


def test_a_text_that_is_no_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="postgresql"):
        open_engine(settings_in(tmp_path, database_url="mlserve.db"))


def test_a_driver_that_is_not_installed_is_named_without_the_password(tmp_path: Path) -> None:
    url = "postgresql+pg8000://me:secret@host/name"
    with pytest.raises(SettingsInvalid, match="pg8000") as caught:
        open_engine(settings_in(tmp_path, database_url=url))
    assert "secret" not in str(caught.value)


def test_messages_show_a_path_or_a_url_without_the_password(engine: Engine) -> None:
    assert shown_url(engine.url).endswith("data/mlserve.db")
    assert "secret" not in shown_url(sa.make_url("postgresql://me:secret@host/name"))


def test_errors_of_the_database_do_not_repeat_what_was_sent(engine: Engine) -> None:
    with pytest.raises(sa.exc.SQLAlchemyError) as caught, engine.connect() as connection:
        connection.execute(sa.text("SELECT :it FROM nowhere"), {"it": "planted-secret"})
    assert "planted-secret" not in str(caught.value)


def test_the_database_is_a_plain_sqlite_file(tmp_path: Path) -> None:
    with opened(settings_in(tmp_path)):
        connection = sqlite3.connect(tmp_path / "data" / "mlserve.db")
        try:
            assert connection.execute("SELECT epoch FROM registry_state").fetchall() == [(0,)]
        finally:
            connection.close()


def test_new_ids_are_uuids_that_grow_with_time() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [id[:13] for id in ids] == sorted(id[:13] for id in ids)
    assert {id[14] for id in ids} == {"7"}
    assert {id[19] for id in ids} <= set("89ab")
