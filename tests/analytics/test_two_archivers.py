"""Two that archive at once, since one has lost its lock without a word, lose no prediction."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics import archive_file
from mlserve_jupyter.analytics.archive_folder import ArchiveFolder
from mlserve_jupyter.analytics.archive_partitions import detached_partitions
from mlserve_jupyter.analytics.archives import read_archives
from mlserve_jupyter.analytics.retention import Retention
from mlserve_jupyter.errors import ArtifactCorrupt, Conflict, MLServeError
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.leadership import leadership_of, leading
from mlserve_jupyter.storage.monitoring_tables import archives
from mlserve_jupyter.storage.object_store import ObjectStore, StoredObject, open_object_store
from mlserve_jupyter.storage.partitions import make_partitions
from tests.analytics.archives import (
    CUTOFF,
    DAY,
    OLD,
    archive,
    events,
    ids_in_files,
    keys_in_store,
    log_calls,
    retention_of,
    rows_of,
    times_on,
)
from tests.registry.deploys import Deploys
from tests.storage.databases import opened

MONTHS_AGO = CUTOFF - 70 * DAY
"""A day of a month that is old enough to be dropped whole."""

Work = Callable[[Retention], object]

When = Callable[[Sequence[str]], bool]
"""Tells a step by all steps so far, it too."""


def sweep(other: Retention) -> None:
    other._sweep()


def archive_all(other: Retention) -> None:
    other.archive(CUTOFF)


def restore_for_a_day(other: Retention) -> None:
    other.restore(MONTHS_AGO, CUTOFF, datetime.now(timezone.utc) + DAY)


def restore_for_no_time(other: Retention) -> None:
    other.restore(MONTHS_AGO, CUTOFF, datetime.now(timezone.utc))


def archive_and_restore(other: Retention) -> None:
    archive_all(other)
    restore_for_a_day(other)


def test_who_was_swept_away_before_its_file_was_verified_deletes_nothing(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    log_calls(engine, settings, deploy(), *times_on(OLD, 5))
    before = rows_of(engine)
    with pytest.raises(Conflict, match=f"Another process works on the archive of {OLD.date()}"):
        run_with_another(settings, archive_all, sweep, when=_verifies)
    assert rows_of(engine) == before
    assert not read_archives(engine)
    assert not keys_in_store(settings), "a file that nobody knows is left"
    assert not events(engine)
    assert len(archive(engine, settings)) == 1
    assert not rows_of(engine)


def test_a_lock_that_the_database_took_back_unnoticed_costs_no_prediction(
    engine: Engine, settings: Settings, deploy: Deploys, tmp_path: Path
) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("a lock of a file does not get lost")
    log_calls(engine, settings, deploy(), *times_on(OLD, 5))
    before = rows_of(engine)
    sessions = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_locks "
        "WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid() AND database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database())"
    )

    def lead_as_well(other: Retention) -> None:
        with writing(engine) as connection:
            assert connection.execute(sessions).all() == [(True,)]
        lock = leadership_of(engine, "archives")
        while not lock.acquire():
            pass
        other._sweep()
        lock.release()

    with leading(engine, "archives") as may_go_on, pytest.raises(MLServeError):
        run_with_another(settings, archive_all, lead_as_well, when=_verifies, may_go_on=may_go_on)
    assert rows_of(engine) == before
    assert len(archive(engine, settings)) == 1
    assert sorted(ids_in_files(engine, settings, tmp_path / "files")) == sorted(before)


def test_what_another_process_of_this_host_works_on_is_left_to_it(
    engine: Engine, settings: Settings, deploy: Deploys, tmp_path: Path
) -> None:
    log_calls(engine, settings, deploy(), *times_on(OLD, 5))
    before = rows_of(engine)

    def sweep_here(other: Retention) -> None:
        other._folder = ArchiveFolder(settings.data_dir / "archiving")
        with pytest.raises(Conflict, match="as well, so that this one stops"):
            other.archive(CUTOFF)

    assert run_with_another(settings, archive_all, sweep_here, when=_verifies)
    assert not rows_of(engine)
    assert sorted(ids_in_files(engine, settings, tmp_path / "files")) == sorted(before)


def test_no_row_goes_if_the_file_is_gone_when_it_has_been_verified(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    log_calls(engine, settings, deploy(), *times_on(OLD, 5))
    before = rows_of(engine)

    def delete(other: Retention) -> None:
        other._objects.delete(keys_in_store(settings)[0])

    with pytest.raises(ArtifactCorrupt, match="not in the artifact store any more"):
        run_with_another(settings, archive_all, delete, when=_fetches_again)
    assert rows_of(engine) == before


def test_a_file_of_two_names_has_one_lock(settings: Settings, tmp_path: Path) -> None:
    with opened(Settings(data_dir=tmp_path / "direct")) as engine:
        link = tmp_path / "current.db"
        os.symlink(str(engine.url.database), link)
        other = Settings(data_dir=tmp_path / "linked", database_url=f"sqlite:///{link}")
        with opened(other) as linked, leading(engine, "archives"):
            assert not leadership_of(linked, "archives").acquire()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("is_partitioned", [False, True])
@pytest.mark.parametrize(
    ("does", "meanwhile"),
    [
        (archive_all, sweep),
        (archive_all, archive_all),
        (archive_all, restore_for_a_day),
        (archive_all, archive_and_restore),
        (archive_and_restore, archive_all),
        (restore_for_no_time, archive_all),
        (restore_for_a_day, restore_for_no_time),
    ],
)
def test_between_any_two_steps_of_one_another_may_do_all_it_does(
    engine: Engine,
    settings: Settings,
    deploy: Deploys,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_partitioned: bool,
    does: Work,
    meanwhile: Work,
) -> None:
    if is_partitioned and engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no partitions")
    monkeypatch.setattr(archive_file, "READ_ROWS", 1)  # each row goes in a transaction of its own
    settings = replace(settings, artifacts_url="")
    served = deploy()
    n_steps, is_over = 0, True
    while is_over:
        n_steps += 1
        log_calls(engine, settings, served, *times_on(MONTHS_AGO, 3))
        if is_partitioned:
            make_partitions(engine)
        all_ids = set(rows_of(engine))
        if does in (restore_for_no_time, restore_for_a_day):
            archive(engine, settings)
        try:
            is_over = run_with_another(settings, does, meanwhile, when=_after(n_steps))
        except Conflict:
            is_over = True
        _check_all_are_somewhere(engine, settings, tmp_path, all_ids)
        with writing(engine) as connection:
            is_kept = archives.c.kept_until.is_not(None)
            now = datetime.now(timezone.utc)
            connection.execute(archives.update().where(is_kept).values(kept_until=now))
        archive(engine, settings)
        assert not rows_of(engine), f"step {n_steps}"
        in_files = ids_in_files(engine, settings, tmp_path / "files")
        assert sorted(in_files) == sorted(all_ids), f"step {n_steps}"
        assert {kept.state for kept in read_archives(engine)} == {"archived"}
        keys = [kept.key for kept in read_archives(engine)]
        assert sorted(keys_in_store(settings)) == sorted(keys), "a file that nobody knows is left"
        with writing(engine) as connection:
            connection.execute(archives.delete())
        shutil.rmtree(settings.data_dir / "archives")
    assert n_steps > 7


def run_with_another(
    settings: Settings,
    does: Work,
    meanwhile: Work,
    *,
    when: When,
    may_go_on: Callable[[], bool] = lambda: True,
) -> bool:
    """Let one work, and once, before the step that ``when`` tells, another.

    Returns
    -------
    bool
        Whether that step came.
    """
    past: list[str] = []
    is_over = False
    with opened(settings) as engine, opened(settings) as of_another:
        own = open_object_store(settings)

        def step(name: str) -> None:
            nonlocal is_over
            past.append(name)
            if not is_over and when(past):
                is_over = True
                with retention_of(of_another, settings) as other:
                    other._folder = ArchiveFolder(settings.data_dir.parent / "of another host")
                    meanwhile(other)

        event.listen(engine, "checkout", lambda *of_the_event: step("transaction"))
        try:
            with retention_of(engine, settings, _Watched(own, step), may_go_on) as retention:
                does(retention)
        finally:
            own.close()
    return is_over


class _Watched:
    """An object store that says what it is about to do."""

    def __init__(self, objects: ObjectStore, step: Callable[[str], None]) -> None:
        self._objects, self._step = objects, step

    def put(self, key: str, source: Path) -> str:
        self._step("put")
        return self._objects.put(key, source)

    def get(self, key: str, target: Path, sha256: str) -> None:
        self._step("get")
        self._objects.get(key, target, sha256)

    def put_bytes(self, key: str, content: bytes) -> None:
        self._objects.put_bytes(key, content)

    def list(self, prefix: str) -> list[StoredObject]:
        return self._objects.list(prefix)

    def move(self, key: str, new_key: str) -> None:
        self._objects.move(key, new_key)

    def delete(self, key: str) -> None:
        self._step("delete")
        self._objects.delete(key)

    def close(self) -> None:
        self._objects.close()


def _after(n_steps: int) -> When:
    return lambda past: len(past) == n_steps


def _verifies(past: Sequence[str]) -> bool:
    return past[-2:] == ["get", "transaction"]


def _fetches_again(past: Sequence[str]) -> bool:
    return past[-1] == "get" and past.count("get") == 2


def _check_all_are_somewhere(
    engine: Engine, settings: Settings, tmp_path: Path, all_ids: set[str]
) -> None:
    left = set(rows_of(engine))
    in_files = ids_in_files(engine, settings, tmp_path / "files")
    assert len(in_files) == len(set(in_files)), "a call is in two files"
    assert left | set(in_files) | _detached(engine) == all_ids, "a call is nowhere"
    if [kept.state for kept in read_archives(engine)] == ["restored"]:
        assert left == all_ids, "what was restored is gone"


def _detached(engine: Engine) -> set[str]:
    with reading(engine) as connection:
        return {
            str(id)
            for partition in detached_partitions(connection)
            for id in connection.scalars(sa.text(f"SELECT id FROM {partition.name}"))
        }
