"""Old predictions go into files that hold each of them as it was, and come back from there."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.archive_file import ArchiveWriter
from mlserve_jupyter.analytics.archive_rows import read_groups
from mlserve_jupyter.analytics.archives import is_due, read_archives
from mlserve_jupyter.api.resources import UpdateVersion
from mlserve_jupyter.errors import ArtifactCorrupt, StorageFull, StorageUnavailable, Unavailable
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading
from mlserve_jupyter.storage.monitoring_tables import labels
from mlserve_jupyter.storage.object_store import ObjectStore, StoredObject, open_object_store
from mlserve_jupyter.storage.tables import prediction_counts, predictions
from tests.analytics.archives import (
    CUTOFF,
    DAY,
    OLD,
    TODAY,
    add_label,
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

ODD = {
    "inputs": '{"instances":[[9007199254740993,"NaN",-0.0,1e-300,"é\\u0001\\"\\n😀"]]}'.encode(),
    "outputs": b'{"a":[null,true,[]]}',
    "error": "ValueError: 😀",
    "queue_ms": 0.1,
    "total_ms": 1e-300,
}


def test_whole_days_before_the_cutoff_go_into_files_and_no_row_more(
    engine: Engine, settings: Settings, deploy: Deploys, tmp_path: Path
) -> None:
    served, other = deploy("clf"), deploy("other")
    young = [CUTOFF, CUTOFF + timedelta(hours=1), datetime.now(timezone.utc)]
    log_calls(engine, settings, served, *times_on(OLD, 5), *young)
    log_calls(engine, settings, other, *times_on(OLD, 2), *times_on(OLD + 2 * DAY, 3))
    before = rows_of(engine)
    assert is_due(engine, CUTOFF)
    done = archive(engine, settings)
    assert [(kept.begins_at, kept.n_rows) for kept in done] == [(OLD, 7), (OLD + 2 * DAY, 3)]
    assert sorted(keys_in_store(settings)) == sorted(kept.key for kept in done)
    left = rows_of(engine)
    assert sorted(row["created_at"] for row in left.values()) == sorted(young)
    in_files = ids_in_files(engine, settings, tmp_path / "files")
    assert sorted([*in_files, *left]) == sorted(before)
    assert {kept.state for kept in read_archives(engine)} == {"archived"}
    assert not list((settings.data_dir / "archiving").iterdir())
    assert not is_due(engine, CUTOFF)
    assert archive(engine, settings) == []
    days = [f"predictions {day.date()}" for day in (OLD, OLD + 2 * DAY)]
    assert events(engine) == [
        (f"predictions.{verb}", day) for day in days for verb in ("archive", "remove")
    ]


def test_how_often_a_model_was_called_stays(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    log_calls(engine, settings, deploy(), *times_on(OLD, 5))
    archive(engine, settings)
    with reading(engine) as connection:
        assert connection.scalar(sa.select(prediction_counts.c.n_predictions)) == 5
        assert connection.scalar(sa.select(sa.func.count()).select_from(predictions)) == 0


def test_a_file_says_all_by_itself(
    engine: Engine, settings: Settings, deploy: Deploys, tmp_path: Path
) -> None:
    served = deploy()
    log_calls(engine, settings, served, *times_on(OLD, 2))
    add_label(engine, served, "r1", "[true]")
    [done] = archive(engine, settings)
    objects = open_object_store(settings)
    objects.get(done.key, tmp_path / "file.parquet", str(done.sha256))
    objects.close()
    first, second = pq.read_table(tmp_path / "file.parquet").to_pylist()
    assert first["owner"] == "owner"
    assert first["model"] == "clf"
    assert first["version"] == 1
    assert first["created_at"] == OLD
    assert first["request_id"] == "r0"
    assert first["labels"] is None
    assert second["labels"] == "[true]"
    assert done.size_bytes == (tmp_path / "file.parquet").stat().st_size


def test_what_is_restored_is_what_was_there_to_the_last_bit(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()
    log_calls(engine, settings, served, *times_on(OLD, 4), **ODD)
    log_calls(engine, settings, served, *times_on(OLD + DAY, 1), inputs=None, outputs=None)
    add_label(engine, served, "r2", '[1, null, "é"]')
    before = rows_of(engine)
    archive(engine, settings)
    assert not _labels(engine)
    assert not rows_of(engine)
    with retention_of(engine, settings) as retention:
        back = retention.restore(OLD, OLD + DAY, kept_until=datetime.now(timezone.utc) + DAY)
        assert [restored.n_rows for _, restored in back] == [4]
        assert rows_of(engine) == {
            id: row for id, row in before.items() if row["created_at"] < OLD + DAY
        }
        assert _labels(engine) == {"r2"}
        retention.restore(OLD, OLD + 2 * DAY, kept_until=datetime.now(timezone.utc) + DAY)
        assert rows_of(engine) == before
    assert not archive(engine, settings), "what is restored stays for a time"
    assert rows_of(engine) == before


def test_what_was_restored_goes_again_without_a_second_file(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    log_calls(engine, settings, deploy(), *times_on(OLD, 4))
    archive(engine, settings)
    keys = keys_in_store(settings)
    with retention_of(engine, settings) as retention:
        retention.restore(OLD, OLD + DAY, kept_until=datetime.now(timezone.utc))
    assert len(rows_of(engine)) == 4
    assert is_due(engine, CUTOFF)
    assert archive(engine, settings) == []
    assert not rows_of(engine)
    assert keys_in_store(settings) == keys
    assert [kept.state for kept in read_archives(engine)] == ["archived"]


def test_what_is_restored_is_of_models_that_are_there(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    log_calls(engine, settings, deploy("kept"), *times_on(OLD, 2))
    gone = deploy("gone")
    log_calls(engine, settings, gone, *times_on(OLD, 3))
    archive(engine, settings)
    deploy.registry.update_version(gone.model_id, 1, UpdateVersion(status="archived"))
    deploy.registry.delete_model(gone.model_id)
    with retention_of(engine, settings) as retention:
        [(_, restored)] = retention.restore(OLD, OLD + DAY, datetime.now(timezone.utc) + DAY)
    assert restored == (2, 3)
    assert len(rows_of(engine)) == 2


def test_a_call_that_is_logged_late_gets_a_file_of_its_own(
    engine: Engine, settings: Settings, deploy: Deploys, tmp_path: Path
) -> None:
    served = deploy()
    log_calls(engine, settings, served, *times_on(OLD, 2))
    archive(engine, settings)
    log_calls(engine, settings, served, OLD + timedelta(hours=1))
    [late] = archive(engine, settings)
    assert late.n_rows == 1
    assert not rows_of(engine)
    assert len(ids_in_files(engine, settings, tmp_path / "files")) == 3


def test_a_call_that_is_logged_while_its_day_is_archived_stays(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()
    log_calls(engine, settings, served, *times_on(OLD, 2))
    late = OLD + timedelta(hours=1)
    store = _Store(settings, before_put=lambda: log_calls(engine, settings, served, late))
    archive(engine, settings, objects=store)
    assert [row["created_at"] for row in rows_of(engine).values()] == [late]


def test_a_label_that_came_while_its_call_was_archived_stays(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()
    log_calls(engine, settings, served, *times_on(OLD, 2))
    add_label(engine, served, "r0", "[1]")
    store = _Store(settings, before_put=lambda: add_label(engine, served, "r1", "[2]"))
    archive(engine, settings, objects=store)
    assert _labels(engine) == {"r1"}


@pytest.mark.parametrize("error", [StorageUnavailable, StorageFull])
@pytest.mark.parametrize("fails", ["put", "get"])
def test_no_row_goes_while_the_store_does_not_work(
    engine: Engine, settings: Settings, deploy: Deploys, fails: str, error: type[Exception]
) -> None:
    log_calls(engine, settings, deploy(), *times_on(OLD, 3), *times_on(OLD + DAY, 3))
    before = rows_of(engine)
    store = _Store(settings, **{fails: error("not today")})
    for _ in range(2):
        with pytest.raises(error):
            archive(engine, settings, objects=store)
        assert rows_of(engine) == before
    assert len(archive(engine, settings)) == 2
    assert len(keys_in_store(settings)) == 2, "what failed was not cleared away"
    assert not rows_of(engine)


def test_no_row_goes_if_the_file_reads_otherwise_than_it_was_written(
    engine: Engine, settings: Settings, deploy: Deploys, tmp_path: Path
) -> None:
    served = deploy()
    log_calls(engine, settings, served, *times_on(OLD, 3))
    [rows] = read_groups(engine, OLD, OLD + DAY)
    other = ArchiveWriter(tmp_path / "other.parquet")
    other.write([rows[0], rows[1], (*rows[2][:-8], "-1", *rows[2][-7:])])
    other.close()
    before = rows_of(engine)
    with pytest.raises(ArtifactCorrupt, match="does not read as it was written"):
        archive(engine, settings, objects=_Store(settings, instead=tmp_path / "other.parquet"))
    assert rows_of(engine) == before


def test_no_row_goes_if_the_file_has_changed_since_it_was_verified(
    engine: Engine, settings: Settings, deploy: Deploys, tmp_path: Path
) -> None:
    served = deploy()
    log_calls(engine, settings, served, *times_on(OLD, 3), *times_on(OLD + DAY, 3))
    before = rows_of(engine)
    archive(engine, settings)
    with retention_of(engine, settings) as retention:
        retention.restore(OLD, OLD + 2 * DAY, datetime.now(timezone.utc))
    (tmp_path / "other").write_bytes(b"something else")
    store = _Store(settings)
    store.put(read_archives(engine)[0].key, tmp_path / "other")
    with pytest.raises(ArtifactCorrupt):
        archive(engine, settings)
    assert rows_of(engine) == {
        id: row for id, row in before.items() if row["created_at"] < OLD + DAY
    }, "the other day goes, this one stays"


def test_what_is_stopped_at_any_step_is_gone_on_with(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    log_calls(engine, settings, deploy(), *times_on(OLD, 3))
    before = rows_of(engine)
    n_steps = 0
    while not _is_done_within(n_steps, engine, settings):
        assert rows_of(engine) == before
        n_steps += 1
    assert n_steps > 3
    assert not rows_of(engine)
    assert len(keys_in_store(settings)) == 1


def _is_done_within(n_steps: int, engine: Engine, settings: Settings) -> bool:
    answers = iter([True] * n_steps)
    with retention_of(engine, settings, may_go_on=lambda: next(answers, False)) as retention:
        try:
            retention.archive(CUTOFF)
        except Unavailable as error:
            if "was stopped" not in error.message:
                raise
            return False
    return True


def test_rows_of_the_last_day_that_can_be_told_stop_nothing(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    last = datetime.max.replace(tzinfo=timezone.utc)
    log_calls(engine, settings, deploy(), *times_on(OLD, 2), last)
    assert is_due(engine, CUTOFF)
    assert len(archive(engine, settings)) == 1
    assert [row["created_at"] for row in rows_of(engine).values()] == [last]
    assert not is_due(engine, CUTOFF)


def test_today_is_never_archived(engine: Engine, settings: Settings, deploy: Deploys) -> None:
    log_calls(engine, settings, deploy(), datetime.now(timezone.utc))
    assert not archive(engine, settings, before=TODAY)
    assert len(rows_of(engine)) == 1


def _labels(engine: Engine) -> set[str]:
    with reading(engine) as connection:
        return set(connection.scalars(sa.select(labels.c.request_id)))


class _Store:
    """A store that does not always do what it should."""

    def __init__(
        self,
        settings: Settings,
        *,
        put: Exception | None = None,
        get: Exception | None = None,
        instead: Path | None = None,
        before_put: object = None,
    ) -> None:
        self._own: ObjectStore = open_object_store(settings)
        self._put, self._get, self._instead, self._before_put = put, get, instead, before_put

    def put(self, key: str, source: Path) -> str:
        if self._put is not None:
            raise self._put
        if callable(self._before_put):
            self._before_put()
        return self._own.put(key, self._instead or source)

    def get(self, key: str, target: Path, sha256: str) -> None:
        if self._get is not None:
            raise self._get
        self._own.get(key, target, sha256)

    def put_bytes(self, key: str, content: bytes) -> None:
        self._own.put_bytes(key, content)

    def list(self, prefix: str) -> list[StoredObject]:
        return self._own.list(prefix)

    def move(self, key: str, new_key: str) -> None:
        self._own.move(key, new_key)

    def delete(self, key: str) -> None:
        self._own.delete(key)

    def close(self) -> None:
        self._own.close()
