"""Files in a folder, in a real S3 server and in a file system of fsspec with folders: the same."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import _registry

from mlserve_jupyter.errors import ArtifactCorrupt, SettingsInvalid, StorageUnavailable
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.object_store import FolderObjects, ObjectStore, open_object_store
from mlserve_jupyter.storage.remote_objects import RemoteObjects
from tests.storage.s3_process import S3Process


@pytest.fixture(params=["folder", "local", "s3", "with folders"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ObjectStore]:
    if request.param == "with folders":
        # What SFTP, SMB and HDFS are to fsspec, this is: folders, and a rename of files.
        yield RemoteObjects(f"local://{tmp_path}/not/made", 5.0)
        return
    url = ""
    if request.param == "local":
        url = f"local://{tmp_path}/not/made"
    if request.param == "s3":
        s3: S3Process = request.getfixturevalue("s3")
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        url = s3.new_bucket()
    store = open_object_store(Settings(data_dir=tmp_path / "data", artifacts_url=url))
    yield store
    store.close()


def a_file(folder: Path, content: bytes = b"some bytes") -> Path:
    path = folder / "a file"
    path.write_bytes(content)
    return path


def test_what_was_put_is_listed_and_got_back_until_it_is_deleted(
    store: ObjectStore, tmp_path: Path
) -> None:
    sha256 = store.put("archives/2026/a.parquet", a_file(tmp_path))
    store.put_bytes("archives/b.json", b"{}")
    store.put_bytes("archives-of-others/c.json", b"{}")
    listed = store.list("archives")
    assert [(s.key, s.size_bytes) for s in listed] == [
        ("archives/2026/a.parquet", 10),
        ("archives/b.json", 2),
    ]
    store.get("archives/2026/a.parquet", tmp_path / "back", sha256)
    assert (tmp_path / "back").read_bytes() == b"some bytes"
    assert (tmp_path / "back").stat().st_mode & 0o777 == 0o600
    store.delete("archives/2026/a.parquet")
    store.delete("archives/2026/a.parquet")
    assert [s.key for s in store.list("archives")] == ["archives/b.json"]
    assert store.list("nothing/here") == []


def test_what_is_put_again_takes_the_place_of_what_was_there(
    store: ObjectStore, tmp_path: Path
) -> None:
    store.put("a/b", a_file(tmp_path))
    sha256 = store.put("a/b", a_file(tmp_path, b"others"))
    store.get("a/b", tmp_path / "back", sha256)
    assert (tmp_path / "back").read_bytes() == b"others"


def test_what_was_moved_is_under_its_new_key_only(store: ObjectStore, tmp_path: Path) -> None:
    sha256 = store.put("a/b", a_file(tmp_path))
    store.move("a/b", "c/d/e")
    assert [s.key for s in store.list("a") + store.list("c")] == ["c/d/e"]
    store.get("c/d/e", tmp_path / "back", sha256)


def test_bytes_that_are_others_and_files_that_are_gone_are_refused_and_nothing_appears(
    store: ObjectStore, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    store.put_bytes("a/b", b"other bytes")
    for key in ("a/b", "a/missing"):
        with pytest.raises(ArtifactCorrupt, match=key):
            store.get(key, target / "file", hashlib.sha256(b"bytes").hexdigest())
    assert list(target.iterdir()) == []


def test_a_file_of_many_parts_comes_back_as_it_was(store: ObjectStore, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096 * 120
    sha256 = store.put("large", a_file(tmp_path, content))
    assert sha256 == hashlib.sha256(content).hexdigest()
    store.get("large", tmp_path / "back", sha256)
    assert (tmp_path / "back").stat().st_size == len(content)


@pytest.mark.parametrize("key", ["", "/a", "a/", "../a", "a/../../b", "a//b", "a\0b", "."])
def test_a_key_that_leads_out_of_the_store_is_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        store.put_bytes(key, b"")


def test_a_folder_of_fsspec_is_one_as_durable_and_private_as_any_other(tmp_path: Path) -> None:
    store = open_object_store(Settings(data_dir=tmp_path, artifacts_url=f"local://{tmp_path}/a"))
    assert isinstance(store, FolderObjects)
    store.put_bytes("b/c", b"{}")
    assert (tmp_path / "a" / "b" / "c").stat().st_mode & 0o777 == 0o600


def test_a_file_that_could_not_be_written_whole_is_not_there_and_the_former_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RemoteObjects(f"local://{tmp_path}/store", 0.1)
    store.put_bytes("a/b", b"former")

    def write_half(fs: LocalFileSystem, path: str, value: bytes) -> None:
        Path(path).write_bytes(value[:2])
        raise ConnectionResetError

    monkeypatch.setattr(LocalFileSystem, "pipe_file", write_half)
    for key in ("a/b", "a/c"):
        with pytest.raises(StorageUnavailable, match="Try again"):
            store.put_bytes(key, b"another")
    assert [path.name for path in (tmp_path / "store" / "a").iterdir()] == ["b"]
    assert (tmp_path / "store" / "a" / "b").read_bytes() == b"former"


def test_what_a_killed_server_was_sending_is_not_listed(tmp_path: Path) -> None:
    store = RemoteObjects(f"local://{tmp_path}/store", 5.0)
    store.put_bytes("a/b", b"")
    (tmp_path / "store" / "a" / ".c.0123.part").write_bytes(b"half")
    assert [stored.key for stored in store.list("a")] == ["a/b"]


def test_a_put_to_a_bucket_that_is_none_says_so_and_makes_none(
    s3: S3Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    store = RemoteObjects("s3://nobody-made-this/prefix", 5.0)
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="no such bucket or folder"):
            store.put_bytes("a/b", b"")
    store.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3:/bucket", "is a URL such as"),
        ("local://relative/folder", "is a URL such as"),
        ("memory://models", "keeps nothing"),
        ("https://storage.example.org/models", "keeps nothing: use s3://bucket/prefix"),
        ("s4://models", "s4://, which fsspec does not know"),
    ],
)
def test_a_url_that_cannot_be_a_store_is_refused_before_anything_starts(
    tmp_path: Path, url: str, message: str
) -> None:
    with pytest.raises(SettingsInvalid, match=message):
        Settings(data_dir=tmp_path, artifacts_url=url)


def test_a_file_system_whose_package_is_missing_is_refused_with_the_packages_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(_registry, "gs", raising=False)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(SettingsInvalid, match="not installed. fsspec says: .*install gcsfs"):
        Settings(data_dir=tmp_path, artifacts_url="gs://bucket/prefix")
    monkeypatch.delitem(_registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(SettingsInvalid, match=r"pip install 'mlserve_jupyter\[s3\]'"):
        Settings(data_dir=tmp_path, artifacts_url="s3://bucket/prefix")


def test_a_url_with_credentials_is_refused_without_being_repeated(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="holds no credentials") as caught:
        Settings(data_dir=tmp_path, artifacts_url="s3://key:planted-secret@bucket/prefix")
    assert "planted-secret" not in str(caught.value)


def test_folders_that_others_remove_as_empty_fail_no_put_and_no_delete(tmp_path: Path) -> None:
    store = FolderObjects(tmp_path / "mounted")
    failures: list[Exception] = []

    def come_and_go(number: int) -> None:
        try:
            for _ in range(150):
                store.put_bytes(f"a/b/{number}/file", b"content")
                store.delete(f"a/b/{number}/file")
        except Exception as error:
            failures.append(error)

    threads = [Thread(target=come_and_go, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list((tmp_path / "mounted").iterdir()) == []
