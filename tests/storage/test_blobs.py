from __future__ import annotations

import hashlib
import os
import signal
import stat
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread

import pytest

from mlserve_jupyter.errors import ArtifactRejected, InvalidName, StorageFull, StorageUnavailable
from mlserve_jupyter.storage.blobs import EXTENSIONS, ArtifactStore, VersionKey
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.staging import StagedArtifact
from tests.storage.databases import processes

USER = new_id()


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "models")


def key_of(name: str, version: int) -> VersionKey:
    return VersionKey(USER, name, version, new_id())


def stage(store: ArtifactStore, content: bytes = b"model") -> StagedArtifact:
    staged = store.stage("joblib")
    staged.write(content)
    return staged


def staging(store: ArtifactStore) -> list[Path]:
    return list((store.root / ".staging").iterdir())


def test_an_artifact_is_hashed_on_the_way_and_published_with_its_metadata(
    store: ArtifactStore,
) -> None:
    staged = store.stage("pkl")
    for chunk in (b"one", b"", b"two" * 100_000):
        staged.write(chunk)
    content = b"one" + b"two" * 100_000
    assert staged.finish() == (hashlib.sha256(content).hexdigest(), len(content))
    path = store.publish(staged, key_of("clf", 3), b'{"a": 1}')
    assert path == store.root / USER / "clf" / "v3" / "model.pkl"
    assert path.read_bytes() == content
    assert (path.parent / "metadata.json").read_bytes() == b'{"a": 1}'
    assert staging(store) == []


@pytest.mark.parametrize("umask", [0o000, 0o377])
def test_all_of_it_is_private_whatever_the_umask(store: ArtifactStore, umask: int) -> None:
    before = os.umask(umask)
    try:
        staged = stage(store)
        assert stat.S_IMODE(staged.path.stat().st_mode) == 0o600
        store.publish(staged, key_of("clf", 1), b"{}")
    finally:
        os.umask(before)
    for path in (store.root, *store.root.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_discarded_artifact_leaves_nothing(store: ArtifactStore) -> None:
    staged = stage(store)
    staged.discard()
    staged.discard()
    assert staging(store) == []
    with pytest.raises(StorageUnavailable, match="stage the artifact anew"):
        staged.write(b"more")
    with pytest.raises(StorageUnavailable, match="stage the artifact anew"):
        staged.finish()


def test_a_block_that_fails_discards_and_one_that_publishes_does_not(store: ArtifactStore) -> None:
    with pytest.raises(ZeroDivisionError), stage(store):
        raise ZeroDivisionError
    assert staging(store) == []
    with stage(store) as staged:
        path = store.publish(staged, key_of("clf", 1), b"{}")
    assert path.exists()


def test_a_discard_in_the_middle_of_publishing_waits_and_takes_nothing(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = stage(store)
    discard = Thread(target=staged.discard)
    rename = os.rename

    def rename_while_another_thread_discards(source: Path, target: Path) -> None:
        discard.start()
        discard.join(0.2)
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_while_another_thread_discards)
    path = store.publish(staged, key_of("clf", 1), b"{}")
    discard.join(10)
    assert path.read_bytes() == b"model"
    assert staging(store) == []


def test_what_was_discarded_after_its_last_byte_is_not_published(store: ArtifactStore) -> None:
    staged = stage(store)
    staged.finish()
    staged.discard()
    with pytest.raises(StorageUnavailable, match="given up by its sender"):
        store.publish(staged, key_of("clf", 1), b"{}")
    assert not store.folder(key_of("clf", 1)).exists()


def test_a_folder_without_a_row_gives_way_and_is_set_aside(store: ArtifactStore) -> None:
    store.publish(stage(store, b"orphan"), key_of("clf", 1), b"{}")
    path = store.publish(stage(store, b"new"), key_of("clf", 1), b"{}")
    assert path.read_bytes() == b"new"
    (aside,) = (store.root / ".orphans" / USER / "clf").iterdir()
    assert (aside / path.name).read_bytes() == b"orphan"
    assert staging(store) == []


def test_a_full_disk_is_storage_full_and_leaves_nothing(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = store.stage("joblib")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, staged._file or 0)
    os.close(full)
    with pytest.raises(StorageFull, match="No space is left"):
        staged.write(b"x")
    assert staging(store) == []


def test_a_full_disk_at_publishing_leaves_nothing(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = stage(store)
    staged.finish()
    write = os.write

    def write_to_a_full_disk(fd: int, data: bytes) -> int:
        full = os.open("/dev/full", os.O_WRONLY)
        try:
            return write(full, data)
        finally:
            os.close(full)

    monkeypatch.setattr(os, "write", write_to_a_full_disk)
    with pytest.raises(StorageFull):
        store.publish(staged, key_of("clf", 1), b"{}")
    monkeypatch.undo()
    assert staging(store) == []
    assert not store.folder(key_of("clf", 1)).exists()


def test_removing_a_version_removes_the_folders_above_it_that_are_empty(
    store: ArtifactStore,
) -> None:
    for version in (1, 2):
        store.publish(stage(store), key_of("clf", version), b"{}")
    store.remove(key_of("clf", 1))
    assert store.folder(key_of("clf", 2)).exists()
    store.remove(key_of("clf", 2))
    store.remove(key_of("clf", 2))
    assert [path.name for path in store.root.iterdir()] == [".staging"]


def test_a_sweep_takes_a_known_users_folders_without_a_row_and_nothing_else(
    store: ArtifactStore,
) -> None:
    kept = store.publish(stage(store), key_of("clf", 1), b"{}")
    orphan = store.publish(stage(store), key_of("clf", 2), b"{}")
    other = store.publish(stage(store), VersionKey(new_id(), "clf", 1, new_id()), b"{}")
    uploading = stage(store)
    assert store.sweep({key_of("clf", 1)}, {USER}) == [orphan.parent]
    assert kept.exists()
    assert other.exists()
    assert not orphan.exists()
    assert uploading.path.exists()
    uploading.discard()
    assert store.sweep({key_of("clf", 1)}, {USER}) == []


def test_an_orphan_is_set_aside_and_kept_for_a_month(store: ArtifactStore) -> None:
    # Named so that its folder among the orphans looks like that of a version.
    orphan = store.publish(stage(store, b"precious"), key_of("v7", 2), b"{}")
    os.utime(orphan.parent, (0, 0))
    assert store.sweep(set(), {USER}) == [orphan.parent]
    assert store.sweep(set(), {USER}) == []
    (aside,) = (store.root / ".orphans" / USER / "v7").iterdir()
    assert aside.name.startswith("v2-")
    assert (aside / "model.joblib").read_bytes() == b"precious"
    month_s = 31 * 24 * 3600
    os.utime(aside, (aside.stat().st_mtime - month_s,) * 2)
    store.sweep(set(), {USER})
    assert not aside.exists()


def test_a_sweep_of_a_store_that_was_never_used_makes_nothing(store: ArtifactStore) -> None:
    assert store.sweep(set(), {USER}) == []
    assert not store.root.exists()


def test_what_a_killed_process_uploaded_is_swept_and_what_a_living_one_uploads_is_not(
    store: ArtifactStore,
) -> None:
    ours, theirs = processes.Pipe()
    child = processes.Process(target=_upload_for_ever, args=(store.root, theirs))
    child.start()
    folder = Path(ours.recv())
    assert store.sweep(set(), {USER}) == []
    assert folder.exists()
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join(10)
    assert store.sweep(set(), {USER}) == [folder]
    assert not folder.exists()


def _upload_for_ever(root: Path, pipe: Connection) -> None:
    staged = stage(ArtifactStore(root))
    pipe.send(str(staged.folder))
    signal.pause()


@pytest.mark.parametrize("name", ["../up", "a/b", "", "A", ".staging", "a..b", "x" * 65])
def test_a_name_that_is_no_name_never_becomes_a_path(store: ArtifactStore, name: str) -> None:
    with pytest.raises(InvalidName):
        store.folder(key_of(name, 1))


def test_a_user_id_that_is_no_id_never_becomes_a_path(store: ArtifactStore) -> None:
    with pytest.raises(ValueError, match="UUID"):
        store.folder(VersionKey("../..", "clf", 1, new_id()))


def test_an_extension_of_no_format_is_refused(store: ArtifactStore) -> None:
    with pytest.raises(ArtifactRejected, match="joblib, pkl, skops"):
        store.stage("exe")
    assert set(EXTENSIONS) == {"joblib", "cloudpickle", "skops"}
