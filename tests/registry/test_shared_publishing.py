"""Deploys whose artifacts lie where other hosts find them: row and files appear together or not."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Barrier, Thread

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from mlserve_jupyter.api.compiled import CompiledRecord
from mlserve_jupyter.errors import StorageUnavailable
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.registry.registry import Registry
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.blobs import GRAPH_NAME, VersionKey, open_artifacts
from mlserve_jupyter.storage.object_store import FolderObjects
from mlserve_jupyter.storage.shared_artifacts import SharedArtifacts
from tests.registry.deploys import Deploys
from tests.storage.databases import opened, processes, settings_in
from tests.stores import Stores

MAX_STEPS = 250


def settings_of(folder: Path) -> Settings:
    return settings_in(folder, artifacts_url=f"file://{folder}/mounted")


def deploys_on(engine: Engine, settings: Settings) -> Deploys:
    return Deploys(engine, open_artifacts(settings))


def sent(folder: Path) -> dict[str, set[str]]:
    """Return the names of the files in the store, by the id of the version."""
    files: dict[str, set[str]] = {}
    for path in (folder / "mounted" / "models").glob("*/*/v*/*/*"):
        files.setdefault(path.parent.name, set()).add(path.name)
    return files


def key_of(served: ServedVersion) -> VersionKey:
    return VersionKey(served.owner_id, served.model, served.version, served.id)


@pytest.fixture
def settings(stores: Stores, tmp_path: Path) -> Settings:
    return stores.settings(tmp_path, artifacts_url=f"file://{tmp_path}/mounted")


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    with opened(settings) as engine:
        yield engine


@pytest.fixture
def deploy(engine: Engine, settings: Settings) -> Deploys:
    return deploys_on(engine, settings)


def test_a_deploy_is_in_the_store_before_it_has_a_row_and_on_this_machine_at_once(
    deploy: Deploys, engine: Engine, tmp_path: Path
) -> None:
    served = deploy(content=b"first")
    assert sent(tmp_path) == {served.id: {"model.pkl", "metadata.json"}}
    assert served.path.read_bytes() == b"first"
    path = tmp_path / "mounted" / "models" / served.owner_id / "clf" / "v1" / served.id
    assert (path / "model.pkl").read_bytes() == b"first"
    assert not list((deploy.store.root / ".staging").iterdir())


def test_a_store_that_is_away_refuses_the_deploy_and_nothing_is_left(
    deploy: Deploys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(store: FolderObjects, key: str, content: bytes) -> None:
        raise StorageUnavailable("The artifact store does not answer.")

    with monkeypatch.context() as patch:
        patch.setattr(FolderObjects, "put_bytes", away)
        with pytest.raises(StorageUnavailable, match="artifact store"):
            deploy()
    assert sent(tmp_path) == {}
    assert len(deploy.registry.snapshot()) == 0
    assert not list((deploy.store.root / ".staging").iterdir())
    assert deploy().version == 1


def test_a_database_that_refuses_leaves_nothing_in_the_store(
    deploy: Deploys, engine: Engine, tmp_path: Path
) -> None:
    deploy()

    def refuse(*args: object) -> None:
        raise StorageUnavailable("The database does not answer.")

    before = sent(tmp_path)
    event.listen(engine, "commit", refuse)
    with pytest.raises(StorageUnavailable, match="database"):
        deploy()
    event.remove(engine, "commit", refuse)
    # Whether that commit had arrived could not be asked either, so a sweep has to find it.
    Registry(engine, deploy.store).sweep_sent(lambda: True)
    assert set(before) <= set(sent(tmp_path))
    assert deploy().version == 2


def test_deploys_of_one_model_at_once_get_a_number_and_files_of_their_own(
    deploy: Deploys, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 3
    all_have_sent = Barrier(n)
    send = SharedArtifacts.send
    first: set[str] = set()

    def send_together(store: SharedArtifacts, staged: object, key: VersionKey, m: bytes) -> None:
        send(store, staged, key, m)  # type: ignore[arg-type]
        if key.version == 1:
            first.add(key.id)
            all_have_sent.wait(30)

    monkeypatch.setattr(SharedArtifacts, "send", send_together)
    served: list[ServedVersion] = []
    threads = [
        Thread(target=lambda i=i: served.append(deploy(content=b"%d" % i)))  # type: ignore[misc]
        for i in range(n)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(first) == n, "all have hoped for the same number"
    assert sorted(version.version for version in served) == [1, 2, 3]
    assert sent(tmp_path).keys() == {version.id for version in served}
    for version in served:
        deploy.store.remove(key_of(version))
        store = deploy.store
        assert isinstance(store, SharedArtifacts)
        store.fetch(key_of(version), "model.pkl", version.sha256, version.size_bytes)
        assert hashlib.sha256(version.path.read_bytes()).hexdigest() == version.sha256


def test_a_graph_that_is_compiled_later_is_in_the_store_before_the_row_tells_of_it(
    deploy: Deploys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = deploy()
    record = CompiledRecord(native={}, sha256=hashlib.sha256(b"graph").hexdigest(), size_bytes=5)
    compiled = deploy.registry.set_compiled(served.model_id, 1, record, b"graph")
    assert compiled.runtime == "onnx"
    assert sent(tmp_path)[served.id] == {"model.pkl", "metadata.json", GRAPH_NAME}
    assert served.path.with_name(GRAPH_NAME).read_bytes() == b"graph"


def test_deleting_a_model_empties_the_store_of_it(deploy: Deploys, tmp_path: Path) -> None:
    from mlserve_jupyter.api.resources import UpdateVersion

    others = deploy("other")
    for _ in range(2):
        served = deploy()
    for version in (1, 2):
        deploy.registry.update_version(served.model_id, version, UpdateVersion(status="archived"))
    deploy.registry.delete_model(served.model_id)
    assert sent(tmp_path).keys() == {others.id}
    assert not served.path.exists()


@pytest.mark.slow
def test_row_28_a_deploy_killed_at_any_step_leaves_nothing_in_part(tmp_path: Path) -> None:
    template = settings_of(tmp_path / "template")
    with opened(template) as engine:
        deploys_on(engine, template)(content=b"old")
    outcomes = []
    for step in range(1, MAX_STEPS):
        folder = tmp_path / str(step)
        shutil.copytree(template.data_dir.parent, folder)
        ours, theirs = processes.Pipe(duplex=False)
        child = processes.Process(target=_deploy_and_die, args=(folder, step, theirs))
        child.start()
        theirs.close()
        child.join(60)
        died_at = ours.recv() if child.exitcode else None
        outcomes.append((died_at, check_whole(folder)))
        shutil.rmtree(folder)
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
    steps = [step for step, _ in outcomes]
    assert steps[-1] is None, "the last run was not killed"
    assert {"open", "os.rename", "COMMIT", "after COMMIT"} <= set(steps)
    n_versions = [n for _, n in outcomes]
    assert n_versions == sorted(n_versions), "once it is published it stays so"
    assert n_versions[0] == 1
    assert n_versions[-1] == 2


def check_whole(folder: Path) -> int:
    """Return how many versions there are; fail where one of them is there in part."""
    settings = settings_of(folder)
    with opened(settings) as engine:
        deploy = deploys_on(engine, settings)
        served = [
            version
            for model in deploy.registry.snapshot().list_models(deploy.user).items
            for version in model.versions.values()
        ]
        files = sent(folder)
        store = deploy.store
        assert isinstance(store, SharedArtifacts)
        for version in served:
            assert {"model.pkl", "metadata.json"} <= files[version.id]
            store.remove(key_of(version))
            store.fetch(key_of(version), "model.pkl", version.sha256, version.size_bytes)
        deploy.registry.sweep()
        assert not list((store.root / ".staging").iterdir())
        assert deploy("clf", b"next").version == len(served) + 1
        return len(served)


def _deploy_and_die(folder: Path, last_step: int, pipe: Connection) -> None:
    settings = settings_of(folder)
    with opened(settings) as engine:
        deploy = deploys_on(engine, settings)
        n_steps = 0

        def step(what: str) -> None:
            nonlocal n_steps
            n_steps += 1
            if n_steps == last_step:
                pipe.send(what)
                os.kill(os.getpid(), signal.SIGKILL)

        def on_audit(what: str, args: tuple[object, ...]) -> None:
            if what in {"open", "os.mkdir", "os.rename", "os.remove"} and str(folder) in str(
                args[0]
            ):
                step(what)

        event.listen(engine, "commit", lambda *args: step("COMMIT"))
        event.listen(engine, "checkin", lambda *args: step("after COMMIT"))
        sys.addaudithook(on_audit)
        deploy("clf", b"new")
        last_step = -1
