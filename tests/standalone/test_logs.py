"""What the server says of itself and of slow requests."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from tests import toys
from tests.server.manifests import sample_of
from tests.standalone.hosts import StandaloneServer, start_standalone
from tests.waiting import wait_for

SLOW_S = 0.3


@pytest.fixture(scope="module")
def in_json(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneServer]:
    """A server with all its logs in JSON, and a model that sleeps as long as it is told."""
    folder = tmp_path_factory.mktemp("json")
    options = ("--log-style=json", "--access-log=stderr", f"--slow-request-s={SLOW_S}")
    with start_standalone(folder, "--allow-pickle=True", *options) as server:
        artifact = Path(toys.write_model(toys.SleepModel(), folder).path)
        assert server.deploy(artifact, "sleeper").status_code == 201
        yield server


def lines_of(server: StandaloneServer) -> list[dict[str, Any]]:
    whole, _, _ = server.log().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def call(server: StandaloneServer, seconds: float, request_id: str) -> None:
    answer = server.request(
        "POST",
        "api/v1/predict/sleeper",
        json={"instances": [[seconds]]},
        headers={"X-Request-Id": request_id},
    )
    assert answer.status_code == 200


def warnings_of(server: StandaloneServer, request_id: str) -> list[dict[str, Any]]:
    return [
        line
        for line in lines_of(server)
        if line.get("request_id") == request_id and line.get("level") == "WARNING"
    ]


def test_every_line_is_json_and_says_who_said_it_when(in_json: StandaloneServer) -> None:
    assert wait_for(lambda: any(line.get("message") == "Ready." for line in lines_of(in_json)), 60)
    [line] = [line for line in lines_of(in_json) if line.get("message") == "Ready."]
    assert line["level"] == "INFO"
    assert line["logger"] == "mlserve_jupyter.server.standalone.process"
    assert line["pid"] in in_json.pids()
    assert line["time"].endswith("+00:00")


def test_a_slow_prediction_is_a_warning_that_says_where_its_time_went(
    in_json: StandaloneServer,
) -> None:
    call(in_json, 0.0, "quick")
    call(in_json, 2 * SLOW_S, "slow")
    assert wait_for(lambda: warnings_of(in_json, "slow"), 30)
    [line] = warnings_of(in_json, "slow")
    assert line["model"] == "owner~sleeper"
    assert (line["version"], line["method"], line["status"], line["rows"]) == (
        1,
        "predict",
        "ok",
        1,
    )
    assert line["principal"] == "owner (host)"
    assert line["predict_ms"] >= 2 * SLOW_S * 1e3
    assert line["total_ms"] >= line["predict_ms"]
    assert {"queue_ms", "load_ms"} <= line.keys()
    assert not warnings_of(in_json, "quick")


def test_an_access_line_of_a_prediction_says_where_its_time_went(
    in_json: StandaloneServer,
) -> None:
    call(in_json, 0.02, "accessed")

    def access_lines() -> list[dict[str, Any]]:
        lines = lines_of(in_json)
        return [line for line in lines if line.get("request_id") == "accessed" and "path" in line]

    assert wait_for(access_lines, 30)
    [line] = access_lines()
    assert (line["model"], line["version"], line["rows"]) == ("sleeper", 1, 1)
    assert line["predict_ms"] >= 20
    assert line["ms"] >= line["predict_ms"] + line["queue_ms"] + line["load_ms"]


def test_a_request_that_waits_for_the_database_is_a_warning_too(
    in_json: StandaloneServer,
) -> None:
    database = sqlite3.connect(
        in_json.data_dir / "mlserve.db", isolation_level=None, check_same_thread=False
    )
    database.execute("BEGIN IMMEDIATE")
    release = Timer(3 * SLOW_S, database.execute, ("ROLLBACK",))
    try:
        release.start()
        answer = in_json.request(
            "POST",
            "api/v1/api-keys",
            json={"name": "waits", "scopes": ["predict"]},
            headers={"X-Request-Id": "waits"},
        )
        assert answer.status_code == 201, answer.text
    finally:
        release.join()
        database.close()
    assert wait_for(lambda: warnings_of(in_json, "waits"), 30)
    [line] = warnings_of(in_json, "waits")
    assert line["message"].startswith("POST /mlserve/api/v1/api-keys took")
    assert line["total_ms"] >= SLOW_S * 1e3


def test_uploads_may_take_as_long_as_they_do(in_json: StandaloneServer, tmp_path: Path) -> None:
    artifact = Path(toys.write_model(toys.SleepModel(), tmp_path).path)
    sample = sample_of([[2 * SLOW_S]], [2 * SLOW_S])
    answer = in_json.deploy(artifact, "long", sample=sample)
    assert answer.status_code == 201, answer.text
    request_id = answer.headers["X-Request-Id"]

    def own() -> list[dict[str, Any]]:
        return [line for line in lines_of(in_json) if line.get("request_id") == request_id]

    assert wait_for(own, 30)
    assert [line.get("path") for line in own()] == ["/mlserve/api/v1/models"]
    assert own()[0]["ms"] > SLOW_S * 1e3
