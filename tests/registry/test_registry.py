from __future__ import annotations

import hashlib
import json
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from mlserve_jupyter.api.resources import UpdateModel, UpdateVersion
from mlserve_jupyter.errors import (
    ArtifactRejected,
    Conflict,
    InvalidName,
    ModelNotFound,
    StorageFull,
    StorageUnavailable,
    VersionNotFound,
)
from mlserve_jupyter.registry.registry import Registry
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.tables import model_versions, models, registry_state
from tests.registry.deploys import VERIFICATION, Deploys, manifest_of
from tests.storage.databases import opened, processes, settings_in
from tests.stores import Stores


def folders(deploy: Deploys) -> list[str]:
    root = deploy.store.root
    return sorted(str(path.relative_to(root)) for path in root.glob("*/*/*"))


def test_what_was_published_is_what_a_new_snapshot_reads(deploy: Deploys, engine: Engine) -> None:
    served = deploy(content=b"bytes", description="About it")
    catalog = Registry(engine, deploy.store).snapshot()
    assert catalog.resolve(deploy.user, "clf") == served
    assert served.path.read_bytes() == b"bytes"
    assert served.sha256 == hashlib.sha256(b"bytes").hexdigest()
    model = catalog.model(deploy.user, "clf")
    assert (model.description, model.owner) == ("About it", "owner")
    metadata = json.loads((served.path.parent / "metadata.json").read_bytes())
    assert metadata["sha256"] == served.sha256
    assert metadata["signature"]["inputs"]["columns"][0]["maximum"] == 2**60


def test_versions_count_up_per_model(deploy: Deploys) -> None:
    assert [deploy(name).version for name in ("a", "b", "a", "a")] == [1, 1, 2, 3]


def test_a_new_version_keeps_the_description_unless_it_brings_one(deploy: Deploys) -> None:
    for description, expected in (("one", "one"), ("", "one"), ("two", "two")):
        deploy(description=description)
        assert deploy.registry.snapshot().model(deploy.user, "clf").description == expected


def test_every_change_raises_the_epoch_and_no_reading_does(deploy: Deploys) -> None:
    registry = deploy.registry
    epochs = [registry.epoch()]
    served = deploy()
    epochs.append(registry.epoch())
    registry.update_version(served.model_id, 1, UpdateVersion(status="archived"))
    epochs.append(registry.epoch())
    registry.update_model(served.model_id, UpdateModel(description="new"))
    epochs.append(registry.epoch())
    assert registry.snapshot().epoch == registry.epoch() == epochs[-1]
    registry.delete_model(served.model_id)
    epochs.append(registry.epoch())
    assert epochs == sorted(set(epochs))


def test_a_snapshot_stays_as_it_is_and_the_next_one_reads_only_what_is_new(
    deploy: Deploys, engine: Engine
) -> None:
    first = deploy()
    before = deploy.registry.snapshot()
    statements: list[str] = []
    deploy()
    deploy.registry.update_version(first.model_id, 1, UpdateVersion(note="changed"))

    @event.listens_for(engine, "before_cursor_execute")
    def note(conn: object, cursor: object, statement: str, parameters: tuple[object, ...],
             context: object, executemany: bool) -> None:  # fmt: skip
        if "signature" in statement:
            statements.append(f"{len(parameters)} versions")

    after = deploy.registry.snapshot()
    deploy.registry.snapshot()
    assert statements == ["1 versions"]
    assert len(before.model(deploy.user, "clf").versions) == 1
    assert before.resolve(deploy.user, "clf", 1).note == "first"
    assert after.resolve(deploy.user, "clf", 1).note == "changed"
    assert (
        after.resolve(deploy.user, "clf", 1).signature
        is before.resolve(deploy.user, "clf", 1).signature
    )


def test_bytes_that_the_manifest_does_not_announce_are_refused(deploy: Deploys) -> None:
    staged = deploy.store.stage("pkl")
    staged.write(b"other")
    with pytest.raises(ArtifactRejected, match="5 bytes"):
        deploy.registry.publish(deploy.user, manifest_of("clf", b"model"), staged, VERIFICATION)
    assert not list((deploy.store.root / ".staging").iterdir())
    assert len(deploy.registry.snapshot()) == 0


def test_a_name_that_is_no_name_is_refused_and_nothing_stays(deploy: Deploys) -> None:
    with pytest.raises(InvalidName):
        deploy("../../up")
    assert not list((deploy.store.root / ".staging").iterdir())
    assert len(deploy.registry.snapshot()) == 0


def test_a_deploy_whose_rename_fails_leaves_nothing(
    deploy: Deploys, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy()
    epoch = deploy.registry.epoch()

    def full(*args: object) -> None:
        raise StorageFull("full")

    monkeypatch.setattr(deploy.store, "publish", full)
    with pytest.raises(StorageFull):
        deploy()
    with pytest.raises(StorageFull):
        deploy("other")
    monkeypatch.undo()
    assert deploy.registry.epoch() == epoch
    assert [model.name for model in deploy.registry.snapshot().list_models(deploy.user).items] == [
        "clf"
    ]
    assert len(folders(deploy)) == 1
    assert not list((deploy.store.root / ".staging").iterdir())
    assert deploy().version == 2


def test_a_deploy_whose_commit_fails_leaves_neither_row_nor_folder(
    deploy: Deploys, engine: Engine
) -> None:
    deploy()

    def fail(connection: object) -> None:
        event.remove(engine, "commit", fail)
        raise OperationalError("COMMIT", None, Exception("disk I/O error"))

    event.listen(engine, "commit", fail)
    with pytest.raises(StorageUnavailable):
        deploy()
    assert folders(deploy) == [f"{deploy.user.id}/clf/v1"]
    assert deploy.registry.snapshot().resolve(deploy.user, "clf").version == 1
    assert deploy().version == 2


def test_a_deploy_whose_commit_succeeds_and_says_otherwise_keeps_its_folder(
    deploy: Deploys, engine: Engine
) -> None:
    def fail(connection: sa.Connection) -> None:
        event.remove(engine, "commit", fail)
        connection.connection.commit()
        raise OperationalError("COMMIT", None, Exception("disk I/O error"))

    event.listen(engine, "commit", fail)
    with pytest.raises(StorageUnavailable):
        deploy()
    served = deploy.registry.snapshot().resolve(deploy.user, "clf")
    assert served.path.read_bytes() == b"model"


def test_every_status_may_follow_every_other(deploy: Deploys) -> None:
    served = deploy()
    for status in ("deprecated", "archived", "active", "archived", "deprecated", "active"):
        changes = UpdateVersion(status=status)  # type: ignore[arg-type]
        assert deploy.registry.update_version(served.model_id, 1, changes).status == status
        found = deploy.registry.snapshot().version(deploy.user, "clf", 1)
        assert (found.status, found.note) == (status, "first")
    assert deploy.registry.update_version(served.model_id, 1, UpdateVersion(note="")).note == ""


def test_changes_to_what_is_not_there_are_refused(deploy: Deploys) -> None:
    served = deploy()
    epoch = deploy.registry.epoch()
    with pytest.raises(VersionNotFound, match="no version 2"):
        deploy.registry.update_version(served.model_id, 2, UpdateVersion(note="x"))
    with pytest.raises(ModelNotFound):
        deploy.registry.update_model(new_id(), UpdateModel(description="x"))
    with pytest.raises(ModelNotFound):
        deploy.registry.delete_model(new_id())
    assert deploy.registry.epoch() == epoch


def test_a_model_with_an_active_version_is_not_deleted(deploy: Deploys) -> None:
    served = deploy()
    deploy()
    deploy.registry.update_version(served.model_id, 1, UpdateVersion(status="archived"))
    with pytest.raises(Conflict, match=r"'clf' still has active versions \(2\)"):
        deploy.registry.delete_model(served.model_id)
    assert len(folders(deploy)) == 2


def test_a_deleted_model_is_gone_from_database_and_disk_and_its_name_is_free(
    deploy: Deploys, engine: Engine
) -> None:
    kept = deploy("kept")
    served = deploy()
    deploy.registry.update_version(served.model_id, 1, UpdateVersion(status="deprecated"))
    deploy.registry.delete_model(served.model_id)
    assert folders(deploy) == [f"{deploy.user.id}/kept/v1"]
    with reading(engine) as connection:
        assert connection.scalars(sa.select(models.c.name)).all() == ["kept"]
        assert connection.scalars(sa.select(model_versions.c.id)).all() == [kept.id]
    assert deploy(content=b"again").version == 1


def test_a_sweep_removes_orphans_and_keeps_what_is_served(deploy: Deploys, engine: Engine) -> None:
    kept, lost = deploy(), deploy("lost")
    with writing(engine) as connection:
        connection.execute(model_versions.delete().where(model_versions.c.id == lost.id))
    assert deploy.registry.sweep() == [lost.path.parent]
    assert kept.path.exists()
    assert deploy.registry.sweep() == []


def test_a_server_with_another_database_takes_no_artifact(deploy: Deploys, tmp_path: Path) -> None:
    served = deploy()
    with opened(settings_in(tmp_path / "other")) as other_engine:
        other = Deploys(other_engine, deploy.store)
        assert other.registry.sweep() == []
        other(content=b"theirs")
        assert other.registry.sweep() == []
    assert served.path.read_bytes() == b"model"


def test_a_database_put_back_to_an_older_state_loses_no_newer_artifact(
    deploy: Deploys, engine: Engine
) -> None:
    deploy()
    newer = [deploy(content=content) for content in (b"second", b"third")]
    with writing(engine) as connection:
        connection.execute(model_versions.delete().where(model_versions.c.version > 1))
    assert deploy(content=b"instead").version == 2
    deploy.registry.sweep()
    aside = (deploy.store.root / ".orphans" / deploy.user.id / "clf").glob("v*/model.pkl")
    assert {path.read_bytes() for path in aside} == {b"second", b"third"}
    assert newer[0].path.read_bytes() == b"instead"


def test_processes_that_deploy_the_same_name_at_once_get_one_number_each(
    deploy: Deploys, stores: Stores, tmp_path: Path
) -> None:
    started = processes.Barrier(3)
    children = [
        processes.Process(target=_deploy_often, args=(stores.settings(tmp_path), started, number))
        for number in range(3)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0, 0]
    model = deploy.registry.snapshot().model(deploy.user, "clf")
    assert list(model.versions) == list(range(15, 0, -1))
    for served in model.versions.values():
        assert hashlib.sha256(served.path.read_bytes()).hexdigest() == served.sha256
    assert len({served.sha256 for served in model.versions.values()}) == 15
    assert deploy.registry.epoch() == 15


def _deploy_often(settings: Settings, started: Barrier, number: int) -> None:
    with opened(settings) as engine:
        deploy = Deploys(engine, settings.artifacts_dir)
        started.wait(60)
        for round in range(5):
            deploy(content=f"{number} {round}".encode())


def test_the_state_has_one_row_for_ever(engine: Engine) -> None:
    with reading(engine) as connection:
        assert connection.execute(sa.select(registry_state)).all() == [(1, 0)]
