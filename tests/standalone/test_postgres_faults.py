"""A server under load whose PostgreSQL is restarted, stopped, frozen, or behind a black hole."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from mlserve_jupyter.accounts.credentials import OUTAGE_S
from mlserve_jupyter.storage.monitoring_tables import labels as label_rows
from tests import toys
from tests.standalone.callers import Caller, Deploys, Keys, Labels, Predictions, all_running
from tests.standalone.hosts import StandaloneServer, start_standalone
from tests.storage.postgres_process import PostgresProcess
from tests.tcp_proxy import TcpProxy
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MINUTE_S = 60.0
A_WHILE_S = 12.0
"""Longer than any of the time-outs of connecting."""

RECOVERY_S = 5.0
SLOWER = 3
"""A machine of the tests may be so much slower than the promise is made for."""


@pytest.fixture
def own_postgres() -> Iterator[PostgresProcess]:
    with PostgresProcess() as process:
        yield process


@pytest.fixture
def proxy(own_postgres: PostgresProcess) -> Iterator[TcpProxy]:
    with TcpProxy(own_postgres.socket_path) as proxy:
        yield proxy


@pytest.fixture
def database_url(own_postgres: PostgresProcess) -> str:
    return own_postgres.new_database()


@pytest.fixture
def server(database_url: str, proxy: TcpProxy, tmp_path: Path) -> Iterator[StandaloneServer]:
    url = make_url(database_url).set(host="127.0.0.1", port=proxy.port, query={})
    options = (f"--database-url={url.render_as_string(hide_password=False)}",)
    with start_standalone(tmp_path, *options, "--allow-pickle=True") as server:
        yield server


@pytest.mark.parametrize(
    ("fault", "away_s"),
    [("restart", 0.0), ("stop", MINUTE_S), ("freeze", A_WHILE_S), ("black_hole", A_WHILE_S)],
)
def test_row_32_predictions_go_on_nothing_acknowledged_is_lost_and_all_works_soon_after(
    fault: str,
    away_s: float,
    own_postgres: PostgresProcess,
    database_url: str,
    proxy: TcpProxy,
    server: StandaloneServer,
    tmp_path: Path,
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    assert server.deploy(artifact, "clf").status_code == 201
    wanted = {"name": "caller", "scopes": ["predict", "read"], "rate_limit": 0}
    key = server.request("POST", "api/v1/api-keys", json=wanted).json()["key"]
    predictions = Predictions(server, "clf", key)
    keys, deploys = Keys(server), Deploys(server, artifact, "other")
    labels = Labels(server, predictions, "clf")
    changes: list[Caller] = [keys, deploys, labels]
    go_away, come_back = {
        "restart": (own_postgres.stop, own_postgres.start),
        "stop": (own_postgres.stop, own_postgres.start),
        "freeze": (own_postgres.freeze, own_postgres.thaw),
        "black_hole": (proxy.black_hole, proxy.heal),
    }[fault]
    with predictions.running():
        assert wait_for(lambda: len(predictions.request_ids) > 50, 60)
        with all_running(*changes):
            assert wait_for(lambda: all(caller.answered_since(0) for caller in changes), 60)
            gone_at_s = time.monotonic()
            go_away()
            if away_s:
                assert wait_for(lambda: all(caller.refused for caller in changes), 60), "away"
                time.sleep(max(0.0, gone_at_s + away_s - time.monotonic()))
            n_answered, back_at_s = len(predictions.request_ids), time.monotonic()
            come_back()
            back = [predictions, *changes]
            assert wait_for(lambda: all(each.answered_since(back_at_s) for each in back), 60)
            assert wait_for(lambda: _n_logged(server) > n_answered, 60)
            logged_at_s = time.monotonic()
    report(fault, back_at_s, logged_at_s, back)

    # A prediction is right, or refused where the key was last confirmed too long ago.
    assert {answer.status for answer in predictions.answers} <= {200, 503}
    for answer in predictions.refused:
        assert gone_at_s + OUTAGE_S - 5 < answer.begun_s < back_at_s + RECOVERY_S * SLOWER
    if back_at_s - gone_at_s < OUTAGE_S - 5 or away_s > OUTAGE_S:
        assert bool(predictions.refused) == (away_s > OUTAGE_S)
    assert max(answer.took_s for answer in predictions.answers) < 5
    for caller in changes:
        assert {answer.status for answer in caller.refused} <= {409, 503}
        if away_s:  # whoever finds out waits, also in the midst of a call; nobody after that
            refused_s = [answer.took_s for answer in caller.refused]
            assert statistics.median(refused_s) < 1
            assert max(refused_s) < 10 * SLOWER
    assert logged_at_s - back_at_s < RECOVERY_S * SLOWER
    for caller in back:
        assert seconds_to_recover(caller, back_at_s) < RECOVERY_S * SLOWER

    keys.check()
    deploys.check()
    found = sa.select(label_rows.c.request_id, sa.cast(label_rows.c.labels, sa.Text))
    with sa.create_engine(database_url).connect() as connection:
        kept = {row[0]: json.loads(row[1]) for row in connection.execute(found)}
    assert len(labels.kept) > 0
    for request_id, values in labels.kept.items():
        assert kept[request_id] == values
    assert wait_for(lambda: _n_logged(server) == len(predictions.request_ids), 30)
    listed = server.request("GET", "api/v1/analytics/models/clf/predictions?limit=1").json()
    assert listed["lost"] == 0


def seconds_to_recover(caller: Caller, back_at_s: float) -> float:
    """Return when the first success was answered to whoever called after the database was back."""
    answer = caller.answered_since(back_at_s)
    assert answer is not None
    return answer.ended_s - back_at_s


def report(fault: str, back_at_s: float, logged_at_s: float, callers: list[Caller]) -> None:
    """Say what was measured; ``pytest -s`` shows it."""
    print(f"\n{fault}: the log writes again after {logged_at_s - back_at_s:.2f} s")
    for caller in callers:
        name = type(caller).__name__.lower()
        refused_s = [answer.took_s for answer in caller.refused]
        print(
            f"  {name}: {len(caller.answers) - len(refused_s)} answered, again after "
            f"{seconds_to_recover(caller, back_at_s):.2f} s, "
            f"slowest {max(answer.took_s for answer in caller.answers):.2f} s; "
            f"{len(refused_s)} refused, median {statistics.median(refused_s or [0.0]):.2f} s, "
            f"slowest {max(refused_s, default=0.0):.2f} s"
        )


def _n_logged(server: StandaloneServer) -> int:
    found = server.request("GET", "api/v1/models/clf")
    return int(found.json()["n_predictions"]) if found.status_code == 200 else -1
