"""Artifacts that several hosts share, in a real S3 and in a folder that all mount."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Thread

import pytest

from mlserve_jupyter.errors import ArtifactCorrupt
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage import shared_artifacts
from mlserve_jupyter.storage.blobs import GRAPH_NAME, ArtifactStore, VersionKey, open_artifacts
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.object_store import ObjectStore, open_object_store
from mlserve_jupyter.storage.orphans import KEPT_DAYS
from mlserve_jupyter.storage.shared_artifacts import IN_USE_S, SharedArtifacts
from tests.storage.s3_process import S3Process

USER = new_id()
DAY_S = 86_400.0


class Hosts:
    """Hosts that share one store."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url
        self.objects: ObjectStore = open_object_store(self.settings("objects"))
        self._open: list[SharedArtifacts] = []

    def settings(self, name: str, cache_bytes: int = 2**20) -> Settings:
        return Settings(
            data_dir=self._folder / name, artifacts_url=self._url, artifacts_cache_bytes=cache_bytes
        )

    def host(self, name: str, cache_bytes: int = 2**20) -> SharedArtifacts:
        store = open_artifacts(self.settings(name, cache_bytes))
        assert isinstance(store, SharedArtifacts)
        self._open.append(store)
        return store

    def close(self) -> None:
        for store in (*self._open, self.objects):
            store.close()


@pytest.fixture(params=["s3", "folder"])
def hosts(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hosts]:
    url = f"file://{tmp_path}/mounted"
    if request.param == "s3":
        s3: S3Process = request.getfixturevalue("s3")
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        url = s3.new_bucket()
    hosts = Hosts(tmp_path, url)
    yield hosts
    hosts.close()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Hosts]:
    """Hosts that share a folder, for what does not depend on the kind of store."""
    hosts = Hosts(tmp_path, f"file://{tmp_path}/mounted")
    yield hosts
    hosts.close()


def published(
    store: SharedArtifacts, version: int = 1, content: bytes = b"model", graph: bytes = b""
) -> VersionKey:
    key = VersionKey(USER, "clf", version, new_id())
    with store.stage("joblib") as staged:
        staged.write(content)
        if graph:
            staged.add(GRAPH_NAME, graph)
        store.send(staged, key, b'{"a": 1}')
        store.publish(staged, key, b'{"a": 1}')
    return key


def fetched(store: SharedArtifacts, key: VersionKey, content: bytes = b"model") -> Path:
    sha256 = hashlib.sha256(content).hexdigest()
    store.fetch(key, "model.joblib", sha256, len(content))
    return store.artifact_path(key, "joblib")


def test_what_one_host_publishes_another_one_fetches(hosts: Hosts) -> None:
    here, there = hosts.host("here"), hosts.host("there")
    key = published(here, version=3, graph=b"graph")
    assert here.artifact_path(key, "joblib").read_bytes() == b"model"
    assert fetched(there, key).read_bytes() == b"model"
    there.fetch(key, GRAPH_NAME, hashlib.sha256(b"graph").hexdigest(), 5)
    assert (there.folder(key) / GRAPH_NAME).read_bytes() == b"graph"
    folder = f"models/{USER}/clf/v3/{key.id}"
    assert [s.key for s in hosts.objects.list("models")] == [
        f"{folder}/{name}" for name in ("metadata.json", "model.joblib", "model.onnx")
    ]


def test_bytes_that_have_changed_in_the_store_become_no_copy(hosts: Hosts) -> None:
    here, there = hosts.host("here"), hosts.host("there")
    key = published(here)
    hosts.objects.put_bytes(f"models/{USER}/clf/v1/{key.id}/model.joblib", b"other")
    with pytest.raises(ArtifactCorrupt, match="not the one that was stored"):
        fetched(there, key)
    assert not there.has_copy(key, "model.joblib", 5)
    there.discard_copy(key, "model.joblib")


def test_what_was_deployed_before_artifacts_were_shared_is_sent_by_the_host_that_has_it(
    hosts: Hosts,
) -> None:
    here, there = hosts.host("here"), hosts.host("there")
    key = VersionKey(USER, "clf", 1, new_id())
    before = ArtifactStore(hosts.settings("here").artifacts_dir)
    with before.stage("joblib") as staged:
        staged.write(b"model")
        before.publish(staged, key, b"{}")
    with pytest.raises(ArtifactCorrupt, match="not in the artifact store"):
        fetched(there, key)
    assert fetched(here, key).read_bytes() == b"model"
    assert fetched(there, key).read_bytes() == b"model"


def test_what_is_taken_back_is_gone_and_its_neighbours_are_not(hosts: Hosts) -> None:
    store = hosts.host("here")
    keys = [published(store, version) for version in (1, 2, 3)]
    store.take_back(keys[:2])
    assert {s.key.split("/")[4] for s in hosts.objects.list("models")} == {keys[2].id}


def test_a_version_that_is_deployed_anew_after_a_delete_is_not_taken_for_the_old_one(
    hosts: Hosts,
) -> None:
    here, there = hosts.host("here"), hosts.host("there")
    old = published(here, content=b"old")
    assert fetched(there, old, b"old").read_bytes() == b"old"
    here.take_back([old])
    new = published(here, content=b"new")
    assert fetched(there, new, b"new").read_bytes() == b"new"


def test_the_copies_take_no_more_than_they_may_and_the_least_recently_used_go_first(
    mounted: Hosts,
) -> None:
    here = mounted.host("here")
    keys = [published(here, version, bytes(1000)) for version in range(1, 6)]
    there = mounted.host("there", cache_bytes=3500)
    for age, key in enumerate(keys[:3]):
        fetched(there, key, bytes(1000))
        long_ago_s = time.time() - 2 * IN_USE_S + age
        os.utime(there.folder(key), (long_ago_s, long_ago_s))
    assert there.has_copy(keys[0], "model.joblib", 1000)  # and is the latest used by that
    fetched(there, keys[3], bytes(1000))
    assert [there.folder(key).exists() for key in keys[:4]] == [True, False, True, True]


def test_a_copy_that_may_be_about_to_be_read_stays_however_little_room_there_is(
    mounted: Hosts,
) -> None:
    here = mounted.host("here")
    keys = [published(here, version, bytes(1000)) for version in range(1, 4)]
    there = mounted.host("there", cache_bytes=1500)
    for key in keys:
        fetched(there, key, bytes(1000))
    assert all(there.folder(key).exists() for key in keys)


def test_two_that_want_the_same_artifact_download_it_once(
    mounted: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = published(mounted.host("here"))
    there = [mounted.host("there"), mounted.host("there")]
    gets: list[str] = []
    get = type(mounted.objects).get

    def slowly(store: ObjectStore, key: str, target: Path, sha256: str) -> None:
        gets.append(key)
        time.sleep(0.3)
        get(store, key, target, sha256)

    monkeypatch.setattr(type(mounted.objects), "get", slowly)
    threads = [Thread(target=fetched, args=(store, key)) for store in there]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(gets) == 1
    assert all(store.has_copy(key, "model.joblib", 5) for store in there)


def test_what_a_killed_download_has_left_is_cleared_away_by_the_next_one(mounted: Hosts) -> None:
    key = published(mounted.host("here"))
    there = mounted.host("there")
    there.folder(key).mkdir(parents=True)
    (there.folder(key) / ".model.joblib.123.part").write_bytes(b"mod")
    assert fetched(there, key).read_bytes() == b"model"
    assert [path.name for path in there.folder(key).iterdir()] == ["model.joblib"]


def test_a_copy_that_was_cut_short_is_fetched_again(mounted: Hosts) -> None:
    here = mounted.host("here")
    key = published(here)
    os.truncate(here.artifact_path(key, "joblib"), 2)
    assert fetched(here, key).read_bytes() == b"model"


def test_a_sweep_removes_copies_of_what_has_no_row_and_leaves_the_others(mounted: Hosts) -> None:
    here = mounted.host("here")
    kept, gone, new = (published(here, version) for version in (1, 2, 3))
    for key in (kept, gone):
        os.utime(here.folder(key), (1, 1))
    assert here.sweep({kept}, {USER}) == [here.folder(gone)]
    assert here.folder(kept).exists()
    assert here.folder(new).exists(), "its row may be about to be written"


def test_orphans_are_set_aside_for_a_month_and_what_is_another_databases_is_left_alone(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = hosts.host("here")
    kept, orphan = published(store, 1), published(store, 2)
    hosts.objects.put_bytes("models/README", b"by hand")

    def places() -> dict[str, int]:
        keys = [s.key for s in hosts.objects.list("models")]
        return {name: sum(name in key for key in keys) for name in (kept.id, orphan.id, ".orphans")}

    def sweep() -> list[str]:
        return store.sweep_sent({kept}, {USER}, lambda: True)

    assert sweep() == [], "it may be a deploy that is under way"
    monkeypatch.setattr(shared_artifacts, "UPLOAD_MAX", timedelta(0))
    assert store.sweep_sent({kept}, {new_id()}, lambda: True) == []
    assert store.sweep_sent({kept}, {USER}, lambda: False) == []
    assert {key.split("/")[4] for key in sweep()} == {orphan.id}
    assert places() == {kept.id: 2, orphan.id: 2, ".orphans": 2}
    assert sweep() == []
    monkeypatch.setattr(shared_artifacts, "KEPT_DAYS", 0)
    sweep()
    assert places() == {kept.id: 2, orphan.id: 0, ".orphans": 0}
    assert KEPT_DAYS == 30
