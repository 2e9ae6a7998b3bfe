"""The metrics of both hosts, as Prometheus reads them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import open_engine
from mlserve_jupyter.version import __version__
from tests import toys
from tests.accounts.people import add_person
from tests.live import LiveServer, start_server
from tests.server.conftest import Post
from tests.server.manifests import manifest_of
from tests.standalone.hosts import StandaloneServer, start_standalone
from tests.stores import Stores
from tests.waiting import wait_for

BODY = {"instances": [[1.0]]}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples_of(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum of the samples that have these labels."""
    wanted = labels.items()
    return sum(v for (n, found), v in samples.items() if n == name and found >= wanted)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneServer]:
    folder = tmp_path_factory.mktemp("two")
    with start_standalone(folder, "--workers=2", "--allow-pickle=True") as server:
        yield server


def test_jupyters_metrics_show_what_the_platform_counts(
    live_server: LiveServer, post_deploy: Post, tmp_path: Path
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    name = "measured"
    assert post_deploy(manifest_of(name, artifact), artifact).status_code == 201
    before = samples_of(live_server.request("GET", "metrics").text)
    for body, n in ((BODY, 3), ({"instances": [["wrong"]]}, 2)):
        for _ in range(n):
            live_server.request("POST", f"api/v1/predict/{name}", json=body)
    own = live_server.request("GET", "metrics")
    assert own.headers["Content-Type"].startswith("text/plain")
    jupyters = httpx.get(
        live_server.jupyter_url + "metrics",
        headers={"Authorization": f"token {live_server.token}"},
    )
    for text in (own.text, jupyters.text):
        samples = samples_of(text)
        model = f"owner~{name}"
        assert value(samples, "mlserve_predictions_total", model=model, status="ok") == 3
        failed = {"model": model, "status": "signature_mismatch"}
        assert value(samples, "mlserve_predictions_total", **failed) == 2
        for stage, n in (("total", 5), ("predict", 3)):
            of = {"model": model, "stage": stage}
            assert value(samples, "mlserve_prediction_seconds_count", **of) == n
            assert value(samples, "mlserve_prediction_seconds_bucket", le="+Inf", **of) == n
        route = {"route": "mlserve/api/v1/predict/*", "method": "POST"}
        assert value(samples, "mlserve_http_requests_total", **route, status="200") >= 3
        assert value(samples, "mlserve_http_requests_total", **route, status="422") >= 2
        assert value(samples, "mlserve_loaded_bytes") > 0
        assert value(samples, "mlserve_workers") >= 1
        lookups = [value(each, "mlserve_cache_lookups_total") for each in (before, samples)]
        assert lookups[1] - lookups[0] == 3
        assert value(samples, "mlserve_processes") == 1
        n_connections = value(samples, "mlserve_database_connections")
        assert n_connections >= 1
        assert 0 <= value(samples, "mlserve_database_connections_in_use") <= n_connections
        assert 0 < value(samples, "mlserve_disk_free_bytes") < value(samples, "mlserve_disk_bytes")
        assert value(samples, "mlserve_resident_bytes") > 10 * 2**20
        assert value(samples, "mlserve_build_info", version=__version__) == 1
        assert not any("process" in dict(labels) for _, labels in samples)


@pytest.mark.slow
def test_a_full_queue_refuses_calls_and_metrics_tell_what_waits_died_and_was_not_logged(
    stores: Stores, tmp_path: Path
) -> None:
    options = [
        f"--MLServeApp.{name}"
        for name in (
            "max_queue_requests=2",
            "workers_per_environment=1",
            "predict_timeout_s=600",
            "result_cache=off",
            "log_buffer_bytes=1",  # no call fits
        )
    ]
    with (
        start_server(tmp_path, *options, stores=stores) as server,
        ThreadPoolExecutor(3) as threads,
    ):

        def call(name: str, feature: float) -> httpx.Response:
            body = {"instances": [[feature]]}
            headers = {"Authorization": f"token {server.token}"}
            url = f"{server.url}api/v1/predict/{name}"
            return httpx.post(url, json=body, headers=headers, timeout=120)

        def metric(name: str) -> float:
            return value(samples_of(server.request("GET", "metrics").text), f"mlserve_{name}")

        gate = tmp_path / "gate"
        for model in (toys.GateModel(gate), toys.PidModel()):
            artifact = Path(toys.write_model(model, tmp_path).path)
            manifest = manifest_of(type(model).__name__.lower(), artifact)
            files = [
                ("manifest", (None, encode_json(manifest))),
                ("artifact", ("model", artifact.read_bytes())),
            ]
            assert server.request("POST", "api/v1/models", files=files).status_code == 201
        (pid,) = call("pidmodel", 0.0).json()["predictions"]
        running = threads.submit(call, "gatemodel", 1.0)
        try:
            assert wait_for(gate.exists)
            waiting = [threads.submit(call, "gatemodel", feature) for feature in (0.0, -1.0)]
            assert wait_for(lambda: metric("queue_length") == 2)
            refused = call("gatemodel", -2.0)
            assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
            assert int(refused.headers["Retry-After"]) >= 1
            assert metric("worker_restarts_total") == 0
        finally:
            os.kill(pid, signal.SIGKILL)
        assert running.result().json()["code"] == "worker_died"
        assert [answer.result().status_code for answer in waiting] == [200, 200]
        assert metric("worker_restarts_total") == 1
        assert metric("queue_length") == 0
        assert metric("log_lost_predictions_total") == 5


def test_row_16_metrics_hold_no_secret_and_no_path_of_a_caller(live_server: LiveServer) -> None:
    live_server.request("GET", "api/v1/models/planted-secret-name")
    live_server.request("GET", "planted-secret-route")
    live_server.request("PLANTED", "api/v1/models")
    text = live_server.request("GET", "metrics").text
    assert "planted" not in text.lower()
    assert live_server.key not in text
    assert live_server.token not in text


def test_metrics_are_for_administrators(two_processes: StandaloneServer) -> None:
    assert httpx.get(two_processes.url + "metrics").status_code == 401
    engine = open_engine(Settings(data_dir=two_processes.data_dir))
    user = add_person(engine, two_processes.url, "reader")
    admin = add_person(engine, two_processes.url, "chief", role="admin")
    engine.dispose()
    assert user.request("GET", "metrics").status_code == 403
    assert admin.request("GET", "metrics").status_code == 200


def test_a_scrape_shows_all_processes_and_those_that_replace_others(
    two_processes: StandaloneServer, tmp_path: Path
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    assert two_processes.deploy(artifact, "spread").status_code == 201

    def call() -> bool:
        answer = two_processes.request("POST", "api/v1/predict/spread", json=BODY)
        return answer.status_code == 200

    def counts() -> dict[str, float]:
        samples = samples_of(two_processes.request("GET", "metrics").text)
        return {
            process: value(samples, "mlserve_predictions_total", process=process)
            for process in ("0", "1")
        }

    assert wait_for(call, 20)
    n_calls = 1
    deadline = time.monotonic() + 60
    while not all(counts().values()):  # until each process has had some
        assert time.monotonic() < deadline
        n_calls += call()
    assert sum(counts().values()) == n_calls
    samples = samples_of(two_processes.request("GET", "metrics").text)
    assert value(samples, "mlserve_processes") == 2
    assert value(samples, "mlserve_maintenance_leader") <= 1

    victim, _ = two_processes.pids()
    os.kill(victim, signal.SIGKILL)

    def are_two_again() -> bool:
        try:
            samples = samples_of(two_processes.request("GET", "metrics").text)
        except httpx.TransportError:
            return False
        return value(samples, "mlserve_processes") == 2 and victim not in two_processes.pids()

    assert wait_for(are_two_again, 60)


@pytest.mark.slow
def test_a_process_that_hangs_leaves_a_scrape_without_its_part(
    two_processes: StandaloneServer,
) -> None:
    hung = two_processes.pids()[0]
    os.kill(hung, signal.SIGSTOP)
    try:

        def is_one() -> bool:
            try:
                # A new connection may go to the process that hangs.
                answer = two_processes.request("GET", "metrics", timeout=10)
            except httpx.TransportError:
                return False
            return value(samples_of(answer.text), "mlserve_processes") == 1

        assert wait_for(is_one, 120)
    finally:
        os.kill(hung, signal.SIGCONT)


@pytest.mark.slow
def test_anybody_reads_metrics_that_are_made_public(tmp_path: Path) -> None:
    with start_standalone(tmp_path, "--metrics-public=True") as server:
        answer = httpx.get(server.url + "metrics")
        assert answer.status_code == 200
        assert value(samples_of(answer.text), "mlserve_processes") == 1
        assert httpx.get(server.url + "api/v1/models").status_code == 401
