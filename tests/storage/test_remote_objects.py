"""A store in trouble: S3 that fails, is slow, is gone, or hands out other bytes."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlserve_jupyter.errors import ArtifactCorrupt, StorageUnavailable
from mlserve_jupyter.storage import remote_objects
from mlserve_jupyter.storage.remote_objects import RemoteObjects
from tests.storage.faulty_http import FaultyHttp
from tests.storage.s3_process import S3Process, environment
from tests.tcp_proxy import TcpProxy

TIMEOUT_S = 1.0
PATIENCE_S = 30.0


@pytest.fixture
def faults(s3: S3Process) -> Iterator[FaultyHttp]:
    with FaultyHttp(s3.port) as faults:
        yield faults


@contextmanager
def store_at(
    endpoint: str, url: str, monkeypatch: pytest.MonkeyPatch, timeout_s: float = TIMEOUT_S
) -> Iterator[RemoteObjects]:
    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)
    store = RemoteObjects(url, timeout_s)
    yield store
    store.close()


@pytest.fixture
def store(
    s3: S3Process, faults: FaultyHttp, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RemoteObjects]:
    with store_at(faults.endpoint, s3.new_bucket(), monkeypatch, PATIENCE_S) as store:
        yield store


@pytest.fixture
def impatient_store(
    s3: S3Process, faults: FaultyHttp, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RemoteObjects]:
    with store_at(faults.endpoint, s3.new_bucket(), monkeypatch) as store:
        yield store


def a_file(folder: Path, content: bytes = b"bytes") -> Path:
    path = folder / "a file"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("n_failures", [1, 2])
def test_a_500_is_asked_again(
    store: RemoteObjects, faults: FaultyHttp, tmp_path: Path, n_failures: int
) -> None:
    faults.n_failures = n_failures
    sha256 = store.put("a/b", a_file(tmp_path))
    faults.n_failures = n_failures
    store.get("a/b", tmp_path / "back", sha256)
    faults.n_failures = n_failures
    assert [s.key for s in store.list("a")] == ["a/b"]
    faults.n_failures = n_failures
    store.delete("a/b")
    assert (tmp_path / "back").read_bytes() == b"bytes"


def test_500s_without_end_are_an_error_after_few_requests_and_nothing_appears(
    store: RemoteObjects, faults: FaultyHttp, tmp_path: Path
) -> None:
    sha256 = store.put("a/b", a_file(tmp_path))
    faults.requests.clear()
    faults.n_failures = 1000
    (tmp_path / "target").mkdir()
    with pytest.raises(StorageUnavailable, match="does not answer. Try again"):
        store.get("a/b", tmp_path / "target" / "file", sha256)
    assert len(faults.requests) <= 2 * remote_objects.ATTEMPTS
    assert list((tmp_path / "target").iterdir()) == []
    with pytest.raises(StorageUnavailable, match="does not answer. Try again"):
        store.put("a/c", a_file(tmp_path))


def test_bytes_that_were_changed_on_the_way_are_refused(
    store: RemoteObjects, faults: FaultyHttp, tmp_path: Path
) -> None:
    sha256 = store.put("a/b", a_file(tmp_path))
    faults.flip = True
    with pytest.raises((ArtifactCorrupt, StorageUnavailable)):
        store.get("a/b", tmp_path / "back", sha256)
    assert not (tmp_path / "back").exists()


def test_a_store_that_takes_longer_than_the_timeout_is_an_error_soon_after(
    impatient_store: RemoteObjects, faults: FaultyHttp, tmp_path: Path
) -> None:
    sha256 = impatient_store.put("a/b", a_file(tmp_path))
    faults.delay_s = 20 * TIMEOUT_S
    started_s = time.monotonic()
    with pytest.raises(StorageUnavailable):
        impatient_store.get("a/b", tmp_path / "back", sha256)
    assert time.monotonic() - started_s < 10 * TIMEOUT_S


def test_an_answer_that_trickles_is_given_up_and_one_that_is_only_slow_is_not(
    impatient_store: RemoteObjects,
    faults: FaultyHttp,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sha256 = impatient_store.put("a/b", a_file(tmp_path, bytes(600_000)))
    faults.bytes_per_s = 250_000
    impatient_store.get("a/b", tmp_path / "back", sha256)
    faults.bytes_per_s = 20_000
    started_s = time.monotonic()
    with pytest.raises(StorageUnavailable):
        impatient_store.get("a/b", tmp_path / "again", sha256)
    assert time.monotonic() - started_s < PATIENCE_S


def test_a_large_file_goes_and_comes_back_without_being_in_memory(
    s3: S3Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store_at(s3.endpoint, s3.new_bucket(), monkeypatch, PATIENCE_S) as store:
        empty = store.put("a/c", a_file(tmp_path, b""))
        store.get("a/c", tmp_path / "empty", empty)
        large = a_file(tmp_path, random.Random(0).randbytes(128 * 2**20 + 7))
        tracemalloc.start()
        try:
            sha256 = store.put("a/b", large)
            store.get("a/b", tmp_path / "back", sha256)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak_bytes < 16 * remote_objects.PIECE_BYTES
    assert (tmp_path / "empty").read_bytes() == b""


def test_a_store_that_is_gone_or_black_holed_is_an_error_and_answers_again_once_it_is_back(
    s3: S3Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        TcpProxy(("127.0.0.1", s3.port)) as network,
        store_at(f"http://127.0.0.1:{network.port}", s3.new_bucket(), monkeypatch) as store,
    ):
        sha256 = store.put("a/b", a_file(tmp_path))
        for go_away in (network.refuse, network.black_hole):
            go_away()
            started_s = time.monotonic()
            with pytest.raises(StorageUnavailable):
                store.get("a/b", tmp_path / "back", sha256)
            with pytest.raises(StorageUnavailable):
                store.put_bytes("a/c", b"{}")
            with pytest.raises(StorageUnavailable):
                store.put("a/c", tmp_path / "a file")
            with pytest.raises(StorageUnavailable):
                store.list("a")
            with pytest.raises(StorageUnavailable):
                store.delete("a/d")
            assert time.monotonic() - started_s < 60 * TIMEOUT_S
            network.heal()
            store.get("a/b", tmp_path / "back", sha256)
            (tmp_path / "back").unlink()


def test_a_store_that_refuses_the_credentials_says_so_at_once(
    store: RemoteObjects, faults: FaultyHttp
) -> None:
    faults.failure = 403, b"AccessDenied"
    faults.n_failures = 1000
    with pytest.raises(StorageUnavailable, match="give it credentials"):
        store.put_bytes("a/b", b"")
    assert len(faults.requests) == 1
