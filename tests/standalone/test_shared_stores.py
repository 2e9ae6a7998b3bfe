"""Two hosts that share one PostgreSQL and one S3, also while the S3 is in trouble.

And one whose artifacts lie elsewhere than in S3.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import toys
from tests.cache.redis_process import RedisProcess
from tests.server.manifests import sample_of
from tests.standalone.hosts import StandaloneServer, start_standalone
from tests.storage.faulty_http import FaultyHttp
from tests.storage.s3_process import S3Process, environment
from tests.tcp_proxy import TcpProxy
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

BODY = {"instances": [[1.0]]}
MISSES_S = 10.0
"""No call may wait for the store longer than this, where ``artifacts_timeout_s`` is 1."""


@dataclass
class Hosts:
    """Two hosts, and the network between them and the S3."""

    here: StandaloneServer
    there: StandaloneServer
    network: TcpProxy
    faults: FaultyHttp
    folder: Path

    def deploy(self, name: str, host: StandaloneServer | None = None, **changes: Any) -> Any:
        artifact = Path(toys.write_model(toys.SumModel(), self.folder).path)
        changes = {"sample": sample_of([[1.0]], [1.0]), **changes}
        return (host or self.here).deploy(artifact, name, **changes)


@contextmanager
def running(folder: Path, s3: S3Process, database: str, *options: str) -> Iterator[Hosts]:
    with (
        FaultyHttp(s3.port) as faults,
        TcpProxy(("127.0.0.1", int(faults.endpoint.rpartition(":")[2]))) as network,
    ):
        env = {
            **environment(f"http://127.0.0.1:{network.port}"),
            "MLSERVE_JWT_SECRET": secrets.token_urlsafe(48),
        }
        given = (
            f"--database-url={database}",
            f"--artifacts-url={s3.new_bucket()}",
            "--artifacts-timeout-s=1",
            "--result-cache=off",
            "--allow-pickle=True",
            *options,
        )
        with (
            start_standalone(folder / "here", *given, env=env) as here,
            start_standalone(folder / "there", *given, env=env) as there,
        ):
            yield Hosts(here, there, network, faults, folder)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Process]:
    with S3Process(tmp_path_factory.mktemp("s3")) as process:
        yield process


@pytest.fixture
def hosts(tmp_path: Path, s3: S3Process, postgres_url: str) -> Iterator[Hosts]:
    with running(tmp_path, s3, postgres_url) as hosts:
        yield hosts


def predict(host: StandaloneServer, name: str, key: str = "") -> Any:
    headers = {"X-MLServe-Key": key} if key else {}
    return host.request("POST", f"api/v1/predict/{name}", json=BODY, headers=headers)


def kill_workers(host: StandaloneServer) -> None:
    """Kill what runs models, so that they must be loaded again from this machine's copies."""
    for child in psutil.Process(host.process.pid).children(recursive=True):
        if child.pid not in host.pids():
            os.kill(child.pid, signal.SIGKILL)


def test_what_one_host_deploys_the_other_one_answers_within_a_second_or_so(hosts: Hosts) -> None:
    assert hosts.deploy("warm-up").status_code == 201
    assert predict(hosts.there, "warm-up").json()["predictions"] == [1.0]
    took_s = []
    for number in range(3):
        assert hosts.deploy(f"clf-{number}").status_code == 201
        started_s = time.monotonic()
        assert predict(hosts.there, f"clf-{number}").json()["predictions"] == [1.0]
        took_s.append(time.monotonic() - started_s)
    assert min(took_s) < 1.0
    downloads = [
        path for method, path in hosts.faults.requests if method == "GET" and "?" not in path
    ]
    assert len(downloads) <= 4, "each artifact comes to the other host once"


def test_versions_that_have_a_copy_answer_on_while_the_store_is_gone_and_others_say_why(
    hosts: Hosts,
) -> None:
    assert hosts.deploy("known").status_code == 201
    assert hosts.deploy("unknown").status_code == 201
    assert predict(hosts.there, "known").status_code == 200
    for go_away in (hosts.network.refuse, hosts.network.black_hole):
        go_away()
        kill_workers(hosts.there)
        assert wait_for(lambda: predict(hosts.there, "known").status_code == 200, 30)
        started_s = time.monotonic()
        refused = predict(hosts.there, "unknown")
        assert time.monotonic() - started_s < MISSES_S
        assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
        assert "artifact store does not answer" in refused.json()["message"]
        assert int(refused.headers["Retry-After"]) >= 1
        assert "127.0.0.1" not in refused.text
        deployed = hosts.deploy("known", hosts.there)
        assert (deployed.status_code, deployed.json()["code"]) == (503, "storage_unavailable")
        assert predict(hosts.there, "known").json()["version"] == 1
        hosts.network.heal()
        assert wait_for(lambda: predict(hosts.here, "known").status_code == 200, 30)
    began_s = time.monotonic()
    assert wait_for(lambda: predict(hosts.there, "unknown").status_code == 200, 30)
    assert time.monotonic() - began_s < 5
    assert hosts.deploy("known", hosts.there).json()["version"]["version"] == 2


def test_500s_for_a_moment_are_not_seen_and_500s_without_end_are_503(hosts: Hosts) -> None:
    hosts.faults.n_failures = 1
    assert hosts.deploy("clf").status_code == 201
    hosts.faults.n_failures = 1
    assert predict(hosts.there, "clf").status_code == 200
    hosts.faults.n_failures = 10**6
    refused = hosts.deploy("clf")
    assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
    assert predict(hosts.here, "clf").json()["version"] == 1
    hosts.faults.n_failures = 0
    assert wait_for(lambda: hosts.deploy("clf").status_code == 201, 10)


def test_a_slow_store_holds_up_nobody_who_does_not_need_it(hosts: Hosts) -> None:
    assert hosts.deploy("known").status_code == 201
    assert hosts.deploy("unknown").status_code == 201
    assert predict(hosts.there, "known").status_code == 200
    hosts.faults.delay_s = 0.6
    waiting_from_s = time.monotonic()
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(predict, hosts.there, "unknown")
        worst_s = 0.0
        while not waiting.done():
            started_s = time.monotonic()
            assert predict(hosts.there, "known").status_code == 200
            worst_s = max(worst_s, time.monotonic() - started_s)
        assert waiting.result().status_code == 200
    assert time.monotonic() - waiting_from_s > 0.6
    assert worst_s < 0.5, "a call waited for another model's download"


def test_a_copy_that_was_damaged_is_fetched_again(hosts: Hosts) -> None:
    assert hosts.deploy("clf").status_code == 201
    assert predict(hosts.there, "clf").status_code == 200
    (copy,) = (hosts.there.data_dir / "artifact-copies").glob("*/model.*")
    content = copy.read_bytes()
    copy.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    kill_workers(hosts.there)
    assert wait_for(lambda: predict(hosts.there, "clf").status_code == 200, 30)
    assert copy.read_bytes() == content


def test_the_artifact_can_be_downloaded_from_a_host_that_never_had_it(hosts: Hosts) -> None:
    assert hosts.deploy("clf").status_code == 201
    answers = [
        host.request("GET", "api/v1/models/clf/versions/1/artifact")
        for host in (hosts.here, hosts.there)
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1


def test_what_is_deployed_is_pushed_to_other_hosts_where_there_is_a_redis(
    tmp_path: Path, s3: S3Process, postgres_url: str
) -> None:
    redis = RedisProcess(tmp_path)
    options = (f"--redis-url={redis.url}", "--catalog-poll-s=600")
    try:
        with running(tmp_path, s3, postgres_url, *options) as hosts:
            assert hosts.deploy("clf").status_code == 201
            assert predict(hosts.there, "clf").json()["version"] == 1
            assert hosts.deploy("clf").status_code == 201
            assert wait_for(lambda: predict(hosts.there, "clf").json()["version"] == 2, 5)
    finally:
        redis.kill()


def package_with_folders(folder: Path) -> Path:
    """Write a package that brings fsspec a file system with folders, ``folders://``."""
    description = folder / "folders-1.0.dist-info"
    description.mkdir(parents=True)
    (description / "METADATA").write_text("Metadata-Version: 2.1\nName: folders\nVersion: 1.0\n")
    (description / "entry_points.txt").write_text("[fsspec.specs]\nfolders = folders:Folders\n")
    (folder / "folders.py").write_text(
        "from fsspec.implementations.local import LocalFileSystem\n\n\n"
        "class Folders(LocalFileSystem):\n    protocol = 'folders'\n"
    )
    return folder


@pytest.mark.parametrize("protocol", ["local", "folders"])
def test_a_store_with_folders_that_are_not_made_yet_serves_deploys_and_a_host_without_copies(
    tmp_path: Path, protocol: str
) -> None:
    paths = [str(package_with_folders(tmp_path / "package")), os.environ.get("PYTHONPATH", "")]
    env = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    given = (f"--artifacts-url={protocol}://{tmp_path}/not/made", "--allow-pickle=True")
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    with start_standalone(tmp_path / "host", *given, env=env) as host:
        for version in (1, 2):
            deployed = host.deploy(artifact, "clf", sample=sample_of([[1.0]], [1.0]))
            assert deployed.status_code == 201, deployed.text
            assert predict(host, "clf").json()["version"] == version
    kept = [path.name for path in (tmp_path / "not" / "made").rglob("*.*") if path.is_file()]
    assert sorted(kept) == ["metadata.json"] * 2 + ["model.pkl"] * 2
    shutil.rmtree(host.data_dir / "artifact-copies")
    with start_standalone(tmp_path / "host", *given, env=env) as host:
        assert predict(host, "clf").json()["version"] == 2
        assert host.request("GET", "api/v1/models/clf/versions/1/artifact").status_code == 200
