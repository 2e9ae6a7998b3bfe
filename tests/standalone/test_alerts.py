"""Alerts of a real server: calls that fail, a webhook that is told, and who sees what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.storage.engine import open_engine
from tests import toys
from tests.accounts.people import Person, add_person
from tests.server.manifests import manifest_of
from tests.server.test_metrics import samples_of, value
from tests.standalone.hosts import StandaloneServer, start_standalone
from tests.stores import Stores
from tests.waiting import wait_for
from tests.webhook import Receiver, receiving

WAIT_S = 90


@dataclass
class World:
    server: StandaloneServer
    receiver: Receiver
    ann: Person
    bob: Person


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, stores: Stores) -> Iterator[World]:
    """A server of two processes that looks often, and two people."""
    folder = tmp_path_factory.mktemp("alerts")
    with receiving() as receiver:
        options = (
            "--workers=2",
            "--allow-pickle=True",
            "--alert-every-s=0.3",
            "--quota-per-minute=0",
            "--alert-error-rate=0.5",
            f"--alert-webhook-url={receiver.url}",
        )
        with start_standalone(folder, *options, stores=stores) as server:
            engine = open_engine(server.settings)
            ann = add_person(engine, server.url, "ann")
            bob = add_person(engine, server.url, "bob")
            engine.dispose()
            yield World(server, receiver, ann, bob)


def deploy(world: World, name: str, folder: Path, model: object) -> None:
    artifact = Path(toys.write_model(model, folder).path)
    parts = [
        ("manifest", (None, encode_json(manifest_of(name, artifact)))),
        ("artifact", ("model", artifact.read_bytes())),
    ]
    answer = world.ann.request("POST", "api/v1/models", files=parts)
    assert answer.status_code == 201, answer.text


def call(person: Person, model: str, x: float, n: int) -> set[int]:
    path = f"api/v1/predict/{model}"
    return {person.request("POST", path, json={"instances": [[x]]}).status_code for _ in range(n)}


def alerts(person: Person, **params: str) -> list[dict[str, Any]]:
    answer = person.request("GET", "api/v1/alerts", params=params)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_failing_calls_become_an_alert_that_its_owner_and_the_webhook_learn_of(
    world: World, tmp_path: Path
) -> None:
    deploy(world, "fails", tmp_path, toys.FailsOn13())
    assert call(world.ann, "fails", 13, 25) == {422}
    assert wait_for(lambda: alerts(world.ann, model="fails", state="firing"), WAIT_S)
    [alert] = alerts(world.ann, model="fails")
    assert (alert["rule"], alert["title"], alert["value"]) == ("error_rate", "ann~fails", 1.0)
    assert wait_for(lambda: ("error_rate", "firing") in world.receiver.told(), WAIT_S)
    [message] = [m for m in world.receiver.messages if m["title"] == "ann~fails"]
    assert message["id"] == alert["id"]
    assert "ann~fails" in message["text"]

    def is_counted() -> bool:
        samples = samples_of(world.server.request("GET", "metrics").text)
        return value(samples, "mlserve_alerts", rule="error_rate") == 1

    assert wait_for(is_counted, WAIT_S)
    assert call(world.ann, "fails", 1, 40) == {200}
    assert wait_for(lambda: alerts(world.ann, model="fails", state="ended"), WAIT_S)
    assert wait_for(lambda: ("error_rate", "ended") in world.receiver.told(), WAIT_S)
    told = [m["state"] for m in world.receiver.messages if m["title"] == "ann~fails"]
    assert told == ["firing", "ended"]


def test_an_alert_is_seen_by_the_models_owner_and_administrators_alone(
    world: World, tmp_path: Path
) -> None:
    deploy(world, "private", tmp_path, toys.FailsOn13())
    call(world.ann, "private", 13, 25)
    assert wait_for(lambda: alerts(world.ann, model="private"), WAIT_S)
    titles = [alert["title"] for alert in alerts(world.bob)]
    assert "ann~private" not in titles
    of_bob = world.bob.request("GET", "api/v1/alerts", params={"model": "ann~private"})
    assert of_bob.status_code == 404
    as_admin = world.server.request("GET", "api/v1/alerts").json()["items"]
    assert "ann~private" in [alert["title"] for alert in as_admin]


def test_limits_are_the_owners_to_change(world: World, tmp_path: Path) -> None:
    deploy(world, "limited", tmp_path, toys.SumModel())
    path = "api/v1/models/limited/alert-limits"
    before = world.ann.request("GET", path).json()["items"]
    assert before[0] == {"rule": "p95_ms", "limit": 1000.0, "is_own": False}
    after = world.ann.request("PATCH", path, json={"p95_ms": 0.001, "drift": 0}).json()["items"]
    assert after[0] == {"rule": "p95_ms", "limit": 0.001, "is_own": True}
    assert after[2] == {"rule": "drift", "limit": 0.0, "is_own": True}
    call(world.ann, "limited", 1, 25)
    assert wait_for(lambda: alerts(world.ann, model="limited", state="firing"), WAIT_S)
    assert world.ann.request("PATCH", path, json={"p95_ms": None}).json()["items"] == [
        before[0],
        before[1],
        after[2],
    ]
    refused = {"p95_ms": -1}, {"disk_used": 1}, {"p95_ms": "1"}, {"error_rate": 1e300}
    for body in refused:
        assert world.ann.request("PATCH", path, json=body).status_code == 400
    path = "api/v1/models/ann~limited/alert-limits"
    assert world.bob.request("PATCH", path, json={"p95_ms": 1}).status_code == 404


def test_an_administrator_tests_the_webhook_which_nobody_can_change(world: World) -> None:
    assert world.ann.request("POST", "api/v1/alerts/test").status_code == 403
    answer = world.server.request("POST", "api/v1/alerts/test").json()
    assert answer == {"is_taken": True, "problem": None}
    assert world.receiver.messages[-1]["is_test"] is True
    world.receiver.status = 500
    try:
        answer = world.server.request("POST", "api/v1/alerts/test").json()
    finally:
        world.receiver.status = 200
    assert answer["is_taken"] is False
    assert answer["problem"] == "127.0.0.1 has answered 500"
    assert "planted-secret" not in world.server.log()
