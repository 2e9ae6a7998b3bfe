"""A server whose Redis is killed, flushed or out of reach: predictions go on, quotas hold."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import redis

from tests import toys
from tests.cache.redis_process import RedisProcess
from tests.server.manifests import sample_of
from tests.standalone.hosts import StandaloneServer, start_standalone
from tests.tcp_proxy import TcpProxy
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

SAMPLE = sample_of([[1.0]], [1.0])
LIMIT = 60
RECOVERED_S = 5.0


@dataclass
class World:
    """Two hosts on one database, and a Redis behind a network."""

    first: StandaloneServer
    second: StandaloneServer
    process: RedisProcess
    network: TcpProxy

    def n_listeners(self) -> int:
        with redis.Redis.from_url(self.process.url) as client:
            return sum(n for _, n in client.pubsub_numsub("mlserve:accounts", "mlserve:registry"))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "shared").mkdir(mode=0o700)
    process = RedisProcess(tmp_path)
    with ExitStack() as stack:
        stack.callback(process.kill)
        network = stack.enter_context(TcpProxy(("127.0.0.1", process.port)))
        options = (
            f"--database-url=sqlite:///{tmp_path}/shared/mlserve.db",
            f"--artifacts-url=file://{tmp_path}/shared/artifacts",
            f"--redis-url=redis://127.0.0.1:{network.port}/0",
            "--allow-pickle=True",
            "--result-cache=on",
        )
        env = {"MLSERVE_JWT_SECRET": secrets.token_urlsafe(48)}
        first = stack.enter_context(start_standalone(tmp_path / "first", *options, env=env))
        second = stack.enter_context(start_standalone(tmp_path / "second", *options, env=env))
        world = World(first, second, process, network)
        artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
        assert first.deploy(artifact, "clf", sample=SAMPLE).status_code == 201
        for host in (first, second):
            assert predict(host, host.key).status_code == 200
        assert wait_for(lambda: world.n_listeners() == 4, 30)
        yield world


def predict(host: StandaloneServer, key: str, value: float = 1.0) -> httpx.Response:
    body = {"instances": [[value]]}
    return host.request("POST", "api/v1/predict/clf", json=body, headers={"X-MLServe-Key": key})


def new_key(host: StandaloneServer, name: str, rate_limit: int = 0) -> tuple[str, str]:
    wanted = {"name": name, "scopes": ["predict"], "rate_limit": rate_limit}
    made = host.request("POST", "api/v1/api-keys", json=wanted).json()
    return made["key"], made["id"]


@pytest.mark.parametrize("fault", ["killed", "black-holed", "flushed"])
def test_row_32_predictions_quotas_and_revocations_hold_and_all_is_as_before_soon_after(
    world: World, fault: str
) -> None:
    go_away: Callable[[], object]
    come_back: Callable[[], object]
    if fault == "killed":
        go_away, come_back = world.process.kill, world.process.start
    elif fault == "black-holed":
        go_away, come_back = world.network.black_hole, world.network.heal
    else:
        go_away, come_back = lambda: redis.Redis.from_url(world.process.url).flushall(), lambda: 0
    limited, _ = new_key(world.first, "limited", LIMIT)
    revoked, revoked_id = new_key(world.first, "revoked")
    assert {predict(host, revoked).status_code for host in (world.first, world.second)} == {200}

    go_away()
    worst_s = 0.0
    for number in range(50):
        started_s = time.monotonic()
        assert predict(world.first, world.first.key, number).json()["predictions"] == [number]
        worst_s = max(worst_s, time.monotonic() - started_s)
    assert worst_s < 2.0, "calls wait for Redis"
    answers = [predict(world.first, limited).status_code for _ in range(3 * LIMIT)]
    assert 0 < answers.count(200) <= 2 * LIMIT, "at most two windows of its own limit"
    assert set(answers) == {200, 429}
    path = f"api/v1/api-keys/{revoked_id}"
    assert world.first.request("DELETE", path).status_code == 204
    assert predict(world.first, revoked).status_code == 401
    assert wait_for(lambda: predict(world.second, revoked).status_code == 401, 5)
    artifact = Path(toys.write_model(toys.SumModel(), world.first.folder).path)
    assert world.first.deploy(artifact, "clf", sample=SAMPLE).status_code == 201
    assert wait_for(lambda: predict(world.second, world.second.key).json()["version"] == 2, 5)

    come_back()
    began_s = time.monotonic()
    assert wait_for(lambda: world.n_listeners() == 4, 30)
    assert time.monotonic() - began_s < RECOVERED_S

    def n_kept() -> int:
        with redis.Redis.from_url(world.process.url) as client:
            return len(client.keys("mlserve:result:*"))

    def is_shared() -> bool:
        """Whether what one host computes now, the other one finds."""
        value, n_before = time.monotonic(), n_kept()
        assert not predict(world.first, world.first.key, value).json()["cached"]
        is_kept = wait_for(lambda: n_kept() > n_before, 0.5)
        return is_kept and predict(world.second, world.second.key, value).json()["cached"]

    assert wait_for(is_shared, RECOVERED_S)
