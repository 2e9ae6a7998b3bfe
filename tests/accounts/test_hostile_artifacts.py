"""Artifacts that harm whoever loads them: the catalogue's rows 17, 18, 19, 21, in both hosts."""

from __future__ import annotations

import bz2
import gzip
import lzma
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests import toys
from tests.accounts import hostile
from tests.accounts.people import Person
from tests.accounts.platforms import RunningPlatform, deploy, deploy_approved, running
from tests.live import LiveServer, start_server
from tests.server.manifests import manifest_of
from tests.standalone.hosts import start_standalone

MIB = 2**20
BODY = {"instances": [[1.0]]}


@contextmanager
def start_strict(kind: str, folder: Path, **changes: Any) -> Iterator[RunningPlatform]:
    """Start a server that takes what can run code only if it is approved, with low limits."""
    settings = {
        "allow_pickle": False,
        "worker_memory_bytes": 600 * MIB,
        "keep_warm_models": 1,
        **changes,
    }
    app, start = ("MLServeApp", start_server)
    if kind == "standalone":
        app, start = ("MLServeServer", start_standalone)  # type: ignore[assignment]
    options = [f"--{app}.{name}={value}" for name, value in settings.items()]
    with start(folder, *options) as host, running(host) as platform:
        yield platform


@pytest.fixture(scope="module", params=["embedded", "standalone"])
def strict(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPlatform]:
    folder = Path(tmp_path_factory.mktemp(f"strict-{request.param}"))
    with start_strict(request.param, folder) as platform:
        yield platform


@pytest.fixture
def mallory(strict: RunningPlatform) -> Person:
    return strict.person("mallory")


def approved(platform: RunningPlatform, content: bytes) -> bytes:
    """Have an administrator approve of an artifact who has not looked at it."""
    sha256 = manifest_of("x", content).sha256
    root = platform.person("root", "admin")
    assert root.request("PUT", f"api/v1/artifact-approvals/{sha256}").status_code == 200
    return content


def assert_alive(platform: RunningPlatform, person: Person) -> None:
    """Assert that the server still deploys and answers others."""
    alive = httpx.get(person.url + "health/ready", timeout=30)
    assert alive.status_code == 200, alive.text
    shown = deploy(person, "fine", hostile.skops_artifact(), format="skops", methods=["transform"],
                   method="transform")  # fmt: skip
    assert shown.status_code == 201, shown.text
    answer = person.request("POST", "api/v1/predict/fine", json=BODY)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("format", "disguise", "status"),
    [
        ("joblib", bytes, 403),
        ("cloudpickle", bytes, 403),
        ("skops", bytes, 422),
        ("skops", zlib.compress, 422),
        ("skops", gzip.compress, 422),
        ("skops", bz2.compress, 422),
        ("skops", lzma.compress, 422),
        ("skops", lambda content: b"PK\x03\x04" + content, 422),
        ("skops", hostile.skops_with_pickle, 201),
    ],
    ids=["joblib", "pickle", "named skops", "zlib", "gzip", "bz2", "xz", "magic", "member"],
)
def test_row_17_a_pickle_in_disguise_never_runs(
    strict: RunningPlatform,
    mallory: Person,
    tmp_path: Path,
    format: str,
    disguise: Callable[[bytes], bytes],
    status: int,
) -> None:
    content = disguise(hostile.touches(tmp_path / "ran"))
    answer = deploy(
        mallory, "bad", content, format=format, methods=["transform"], method="transform"
    )
    assert answer.status_code == status, answer.text
    assert not (tmp_path / "ran").exists(), "nor does one that travels along as a member"


@pytest.mark.parametrize("compress", [zlib.compress, gzip.compress, bz2.compress, lzma.compress])
def test_row_17_and_18_what_is_compressed_is_refused_unread_even_if_it_is_approved(
    strict: RunningPlatform, mallory: Person, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    content = approved(strict, compress(hostile.touches(tmp_path / "ran") + bytes(MIB)))
    refused = deploy(mallory, "bad", content, format="joblib")
    assert (refused.status_code, refused.json()["code"]) == (422, "artifact_rejected")
    assert not (tmp_path / "ran").exists()


def test_row_17_an_array_of_pickles_inside_skops_is_not_unpickled(
    strict: RunningPlatform, mallory: Person, tmp_path: Path
) -> None:
    content = hostile.with_array(lambda: hostile.array_of_pickles(tmp_path / "ran"))
    refused = deploy(mallory, "bad", content, format="skops")
    assert (refused.status_code, refused.json()["code"]) == (422, "verification_failed")
    assert "allow_pickle=False" in refused.json()["message"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "schema",
    [
        {"__class__": "mkdir", "__module__": "os", "__loader__": "FunctionNode",
         "content": {"module_path": "os", "function": "mkdir"}},
        {"__class__": "Popen", "__module__": "subprocess", "__loader__": "ObjectNode",
         "content": {"__class__": "dict", "__module__": "builtins", "__loader__": "DictNode",
                     "key_types": {"__class__": "list", "__module__": "builtins",
                                   "__loader__": "ListNode", "content": []}, "content": {}}},
        {"__class__": "methodcaller", "__module__": "operator", "__loader__": "OperatorFuncNode",
         "attrs": {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode",
                   "content": []}},
    ],
    ids=["a function", "an object", "an operator"],
)  # fmt: skip
def test_row_17_a_skops_schema_that_names_what_is_not_trusted_is_refused_before_construction(
    strict: RunningPlatform, mallory: Person, schema: dict[str, Any]
) -> None:
    refused = deploy(mallory, "bad", hostile.skops_that_names(schema), format="skops")
    assert (refused.status_code, refused.json()["code"]) == (422, "verification_failed")
    assert "UntrustedType" in refused.json()["message"], refused.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (hostile.kills_its_process, "ends its process"),
        (hostile.takes_50_gb, "worker_memory_bytes"),
    ],
    ids=["kills itself", "takes 50 GB"],
)
def test_row_18_a_model_that_harms_at_load_is_refused_and_the_server_says_why(
    strict: RunningPlatform,
    mallory: Person,
    make: Callable[[], bytes],
    reason: str,
) -> None:
    refused = deploy(mallory, "harmful", approved(strict, make()))
    assert refused.status_code == 422, refused.text
    assert reason in refused.json()["message"]
    assert mallory.request("GET", "api/v1/models/harmful").status_code == 404
    assert_alive(strict, mallory)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["embedded", "standalone"])
def test_row_18_a_model_that_sleeps_for_ever_at_load_is_given_up(kind: str, tmp_path: Path) -> None:
    with start_strict(kind, tmp_path, verify_timeout_s=3.0) as platform:
        content = approved(platform, hostile.sleeps_for_ever())
        refused = deploy(platform.person("mallory"), "bad", content)
        assert (refused.status_code, refused.json()["code"]) == (504, "deadline_exceeded")
        assert "within 3 s" in refused.json()["message"]
        assert platform.host.request("GET", "health/ready").status_code == 200


@pytest.mark.slow
def test_row_18_what_a_model_forks_at_load_is_gone_with_its_worker(
    strict: RunningPlatform, mallory: Person, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    refused = deploy(mallory, "bad", approved(strict, hostile.leaves_a_child(pid_file)))
    assert refused.status_code == 422, refused.text
    pid = int(pid_file.read_text())
    deadline_s = time.monotonic() + 30
    while psutil.pid_exists(pid) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)
    assert_alive(strict, mallory)


@pytest.mark.slow
def test_row_18_a_zip_bomb_is_killed_at_its_workers_limit(
    strict: RunningPlatform, mallory: Person
) -> None:
    content = hostile.with_array(hostile.zeros(1024 * MIB), streamed=True)
    assert len(content) < 16 * MIB
    refused = deploy(mallory, "bad", content, format="skops")
    assert (refused.status_code, refused.json()["code"]) == (422, "verification_failed")
    assert "worker_memory_bytes" in refused.json()["message"]
    assert_alive(strict, mallory)


@pytest.mark.parametrize("n_values", [10**9, 10**12, 2**60])
def test_row_18_an_array_that_claims_more_than_it_has_is_an_error(
    strict: RunningPlatform, mallory: Person, n_values: int
) -> None:
    content = hostile.with_array(lambda: hostile.array_header(n_values))
    refused = deploy(mallory, "bad", content, format="skops")
    assert (refused.status_code, refused.json()["code"]) == (422, "verification_failed")


def test_row_19_no_onnx_file_is_taken_from_outside(
    strict: RunningPlatform, mallory: Person
) -> None:
    manifest = (
        b'{"name":"bad","format":"onnx","size_bytes":1,"sha256":"","method":"predict","methods":'
        b'["predict"],"signature":{"inputs":{"container":"ndarray","shape":[null,1],"columns":[]}},'
        b'"environment":{"interpreter":"","python_version":"3"},"provenance":{"model_class":""}}'
    )
    files = [("manifest", (None, manifest)), ("artifact", ("model", b"x"))]
    refused = mallory.request("POST", "api/v1/models", files=files)
    assert refused.status_code == 400
    assert "onnx" in refused.json()["message"]


def test_row_21_bytes_that_changed_on_disk_are_refused_at_load_and_audited(
    strict: RunningPlatform, tmp_path: Path
) -> None:
    owner = strict.person("olga")
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    deploy_approved(strict, owner, "changed", artifact)
    kept = next((strict.data_dir / "models").glob("*/changed/v1/model.*"))
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for status in ("archived", "active"):  # an archived version is let go by its worker
        changes = {"status": status}
        assert owner.request("PATCH", "api/v1/models/changed/versions/1", json=changes).is_success
    refused = owner.request("POST", "api/v1/predict/changed", json=BODY)
    assert (refused.status_code, refused.json()["code"]) == (503, "artifact_corrupt")
    [event, *_] = strict.events(outcome="artifact_corrupt")
    assert (event["actor"], event["target"]) == ("olga", "POST /mlserve/api/v1/predict/changed")
    kept.write_bytes(whole)
    assert owner.request("POST", "api/v1/predict/changed", json=BODY).status_code == 200


@pytest.mark.slow
def test_row_21_a_load_ahead_of_calls_finds_changed_bytes_and_audits_them(tmp_path: Path) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    with start_server(tmp_path) as server, running(server) as platform:
        owner = platform.person("olga")
        assert deploy(owner, "changed", artifact).status_code == 201
        assert owner.request("POST", "api/v1/predict/changed", json=BODY).status_code == 200
    assert isinstance(server, LiveServer)
    kept = next((platform.data_dir / "models").glob("*/changed/v1/model.*"))
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    with start_server(tmp_path) as server, running(server) as platform:
        deadline_s = time.monotonic() + 60
        while not (found := platform.events(action="artifact.corrupt")):
            assert time.monotonic() < deadline_s, server.log()
            time.sleep(0.2)
        assert found[0]["target"] == "version olga~changed 1"
