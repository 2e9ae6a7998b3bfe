"""Files in a folder and in a real S3 server: the same in both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlserve_jupyter.errors import ArtifactCorrupt
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.object_store import ObjectStore, open_object_store
from tests.storage.s3_process import S3Process


@pytest.fixture(params=["folder", "s3"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ObjectStore]:
    url = ""
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
