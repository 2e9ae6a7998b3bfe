"""A server under load whose PostgreSQL is restarted, stopped, frozen, or behind a black hole."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.engine import make_url

from tests import toys
from tests.live import NO_TLS
from tests.standalone.hosts import StandaloneServer, start_standalone
from tests.storage.postgres_process import PostgresProcess
from tests.tcp_proxy import TcpProxy
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

AWAY_S = 12.0
"""Longer than any of the time-outs of connecting, and than what a process keeps in memory."""

RECOVERY_S = 5.0
SLOWER = 3
"""A machine of the tests may be so much slower than the promise is made for."""


@dataclass
class Load:
    """Callers that do the same again and again, and what they were answered."""

    answers: list[tuple[float, int]] = field(default_factory=list)  # seconds it took, status
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def n_answered(self) -> int:
        return sum(status == 200 for _, status in self.answers)

    def predict(self, url: str, key: str) -> None:
        headers = {"X-MLServe-Key": key}
        body = {"instances": [[1.0]]}
        with httpx.Client(verify=NO_TLS, timeout=60) as client:
            while not self._stop.is_set():
                begun_s = time.monotonic()
                answer = client.post(
                    url + "api/v1/predict/clf", json=body, headers=headers
                ).status_code
                self.answers.append((time.monotonic() - begun_s, answer))
                time.sleep(0.005)

    @contextmanager
    def running(self, server: StandaloneServer, key: str, n: int = 3) -> Iterator[None]:
        threads = [threading.Thread(target=self.predict, args=(server.url, key)) for _ in range(n)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()


class Keys:
    """Makes keys one after the other, and remembers those that were acknowledged."""

    def __init__(self, server: StandaloneServer) -> None:
        self._server = server
        self._stop = threading.Event()
        self.made: list[str] = []
        self.n_refused = 0

    def make(self) -> None:
        n = 0
        while not self._stop.is_set():
            n += 1
            wanted = {"name": f"key-{n}", "scopes": ["read"], "rate_limit": 0}
            answer = self._server.request("POST", "api/v1/api-keys", json=wanted)
            if answer.status_code == 201:
                self.made.append(answer.json()["key"])
            else:
                assert answer.status_code in (409, 503), answer.text
                self.n_refused += 1
            time.sleep(0.05)

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.make)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


@pytest.fixture
def own_postgres() -> Iterator[PostgresProcess]:
    with PostgresProcess() as process:
        yield process


@pytest.fixture
def proxy(own_postgres: PostgresProcess) -> Iterator[TcpProxy]:
    with TcpProxy(own_postgres.socket_path) as proxy:
        yield proxy


@pytest.fixture
def server(
    own_postgres: PostgresProcess, proxy: TcpProxy, tmp_path: Path
) -> Iterator[StandaloneServer]:
    url = make_url(own_postgres.new_database())
    url = url.set(host="127.0.0.1", port=proxy.port, query={})
    options = (f"--database-url={url.render_as_string(hide_password=False)}",)
    with start_standalone(tmp_path, *options, "--allow-pickle=True") as server:
        yield server


@pytest.mark.parametrize("fault", ["restart", "stop", "freeze", "black_hole"])
def test_row_32_predictions_go_on_nothing_acknowledged_is_lost_and_all_works_soon_after(
    fault: str,
    own_postgres: PostgresProcess,
    proxy: TcpProxy,
    server: StandaloneServer,
    tmp_path: Path,
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    assert server.deploy(artifact, "clf").status_code == 201
    wanted = {"name": "caller", "scopes": ["predict", "read"], "rate_limit": 0}
    key = server.request("POST", "api/v1/api-keys", json=wanted).json()["key"]
    load, keys = Load(), Keys(server)
    go_away, come_back = {
        "restart": (own_postgres.stop, own_postgres.start),
        "stop": (own_postgres.stop, own_postgres.start),
        "freeze": (own_postgres.freeze, own_postgres.thaw),
        "black_hole": (proxy.black_hole, proxy.heal),
    }[fault]
    with load.running(server, key), keys.running():
        assert wait_for(lambda: load.n_answered > 100 and len(keys.made) > 5, 60)
        go_away()
        if fault != "restart":
            until_s = time.monotonic() + AWAY_S
            assert wait_for(lambda: keys.n_refused > 0, 60), "it is away"
            time.sleep(max(0.0, until_s - time.monotonic()))
        n_made, n_answered = len(keys.made), load.n_answered
        back_at_s = time.monotonic()
        come_back()
        # Changes, reads, and the log.
        assert wait_for(lambda: len(keys.made) > n_made, 60)
        assert wait_for(lambda: _n_logged(server, key) > n_answered, 60)
        took_s = time.monotonic() - back_at_s
    print(f"{fault}: back after {took_s:.2f} s, slowest {max(load.answers)}, n {len(load.answers)}")
    assert {status for _, status in load.answers} == {200}
    assert max(took for took, _ in load.answers) < 5
    assert took_s < RECOVERY_S * SLOWER
    for each in keys.made:
        assert server.request("GET", "api/v1/models", headers={"X-MLServe-Key": each}).is_success
    assert wait_for(lambda: _n_logged(server, key) == load.n_answered, 30)
    listed = server.request("GET", "api/v1/analytics/models/clf/predictions?limit=1").json()
    assert listed["lost"] == 0


def _n_logged(server: StandaloneServer, key: str) -> int:
    found: Any = server.request("GET", "api/v1/models/clf")
    return int(found.json()["n_predictions"]) if found.status_code == 200 else -1
