"""Callers from outside, in both hosts: their quotas, their addresses, and their pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import open_engine
from mlserve_jupyter.storage.users import Role
from tests.accounts.people import Person, add_person
from tests.cache.redis_process import RedisProcess
from tests.live import LiveServer, start_server
from tests.standalone.hosts import StandaloneServer, start_standalone
from tests.waiting import wait_for

PAGE = "https://app.example.org"
OTHER_PAGE = "https://evil.example.org"
QUOTA = 5

Server = LiveServer | StandaloneServer


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with start_server(
        tmp_path_factory.mktemp("embedded"),
        f"--MLServeApp.quota_per_minute={QUOTA}",
        f"--MLServeApp.cors_origins={PAGE}",
    ) as server:
        yield server


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneServer]:
    folder = tmp_path_factory.mktemp("standalone")
    with start_standalone(
        folder,
        "--workers=2",
        f"--quota-per-minute={QUOTA}",
        f"--cors-origins={PAGE}",
        "--trusted-proxies=127.0.0.1",
        "--trusted-proxies=10.0.0.0/8",
        f"--access-log={folder / 'access.log'}",
    ) as server:
        yield server


@pytest.fixture(params=["embedded", "standalone"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def outsider(
    server: Server, name: str, rate_limit: int | None = None, role: Role = "user"
) -> Person:
    assert server.request("GET", "api/v1/models").status_code == 200  # the database is there
    data_dir = server.data_dir / "mlserve" if isinstance(server, LiveServer) else server.data_dir
    engine = open_engine(Settings(data_dir=data_dir))
    try:
        return add_person(engine, server.url, name, role, rate_limit=rate_limit)
    finally:
        engine.dispose()


def test_row_31_an_outside_caller_over_the_quota_is_told_when_to_come_back(server: Server) -> None:
    caller = outsider(server, "quick")
    answers = [caller.request("GET", "api/v1/models") for _ in range(3 * QUOTA)]
    admitted = [each for each in answers if each.status_code == 200]
    refused = [each for each in answers if each.status_code == 429]
    assert len(admitted) + len(refused) == len(answers)
    # In a run across the end of a minute, two windows have their quota each.
    assert len(admitted) in (QUOTA, 2 * QUOTA)
    assert {each.headers["RateLimit-Limit"] for each in answers} == {str(QUOTA)}
    assert admitted[0].headers["RateLimit-Remaining"] == str(QUOTA - 1)
    assert refused[0].json()["code"] == "quota_exceeded"
    assert 1 <= int(refused[0].headers["Retry-After"]) <= 60
    assert refused[0].headers["RateLimit-Reset"] == refused[0].headers["Retry-After"]
    assert refused[0].headers["RateLimit-Remaining"] == "0"


def test_each_key_may_have_a_limit_of_its_own(server: Server) -> None:
    free = outsider(server, "free", rate_limit=0, role="admin")
    answers = [free.request("GET", "api/v1/models") for _ in range(2 * QUOTA)]
    assert {each.status_code for each in answers} == {200}
    assert "RateLimit-Limit" not in answers[0].headers
    wide = outsider(server, "wide", rate_limit=1000, role="admin")
    assert wide.request("GET", "api/v1/models").headers["RateLimit-Limit"] == "1000"
    greedy = outsider(server, "greedy", rate_limit=1000)
    answers = [greedy.request("GET", "api/v1/models") for _ in range(3 * QUOTA)]
    assert sum(each.status_code == 200 for each in answers) <= 2 * QUOTA, "a user's quota holds"


def test_neither_the_owner_nor_health_has_a_quota(server: Server) -> None:
    for path in ("api/v1/models", "health/live"):
        answers = [server.request("GET", path) for _ in range(3 * QUOTA)]
        assert {each.status_code for each in answers} == {200}
        assert not any(name.startswith("ratelimit") for name in answers[0].headers)


def test_a_page_of_an_allowed_origin_may_ask_what_it_may_send(server: Server) -> None:
    answer = httpx.options(
        server.url + "api/v1/models",
        headers={"Origin": PAGE, "Access-Control-Request-Method": "POST"},
    )
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, POST, OPTIONS"
    assert "X-MLServe-Key" in answer.headers["Access-Control-Allow-Headers"]
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_page_of_an_allowed_origin_reads_answers_and_errors(server: Server) -> None:
    caller = outsider(server, "page", rate_limit=0)
    for path, status in (("api/v1/models", 200), ("api/v1/models/none", 404)):
        answer = caller.request("GET", path, headers={"Origin": PAGE})
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert "RateLimit-Remaining" in answer.headers["Access-Control-Expose-Headers"]
    unknown = httpx.get(
        server.url + "api/v1/models", headers={"Origin": PAGE, "X-MLServe-Key": "mls_bad"}
    )
    assert unknown.status_code == 401
    assert unknown.headers["Access-Control-Allow-Origin"] == PAGE


def test_pages_of_other_origins_are_told_nothing(server: Server) -> None:
    for origin in (OTHER_PAGE, PAGE + ".evil.org", PAGE.upper(), "null"):
        answer = httpx.options(server.url + "api/v1/models", headers={"Origin": origin})
        assert not [name for name in answer.headers if name.startswith("access-control-allow")]


def test_row_02_an_allowed_page_has_no_use_of_jupyters_cookie(embedded: LiveServer) -> None:
    with httpx.Client() as browser:
        browser.get(embedded.jupyter_url + "login", params={"token": embedded.token})
        own = browser.get(embedded.url + "api/v1/models")
        assert own.status_code == 200, "the cookie is good"
        foreign = browser.get(embedded.url + "api/v1/models", headers={"Origin": PAGE})
        assert foreign.status_code == 404
        assert "models" not in foreign.json()
        assert "Access-Control-Allow-Credentials" not in foreign.headers


def test_row_13_a_forwarded_address_is_believed_from_trusted_proxies_alone(
    standalone: StandaloneServer,
) -> None:
    def address_of(forwarded: str) -> str:
        request_id = f"id-{abs(hash(forwarded))}"
        standalone.request(
            "GET",
            "health/live",
            headers={"X-Request-Id": request_id, "X-Forwarded-For": forwarded},
        )
        log = standalone.folder / "access.log"
        assert wait_for(lambda: request_id in log.read_text(), 20)
        line = next(line for line in log.read_text().splitlines() if request_id in line)
        return str(json.loads(line).get("address"))

    assert address_of("198.51.100.7") == "198.51.100.7"
    assert address_of("1.2.3.4, 198.51.100.7, 10.0.0.5") == "198.51.100.7"
    assert address_of("1.2.3.4, nonsense") == "127.0.0.1"


def test_row_13_jupyters_trust_in_every_peer_is_not_ours(tmp_path: Path) -> None:
    """With ``trust_xheaders``, Jupyter believes anybody; failed sign-ins must not."""
    with start_server(tmp_path, "--ServerApp.trust_xheaders=True") as server:
        server.request("GET", "api/v1/models")
        for i in range(3):
            httpx.get(
                server.url + "api/v1/models",
                headers={"X-MLServe-Key": "mls_bad", "X-Forwarded-For": f"198.51.100.{i}"},
            )
        assert wait_for(lambda: _refused_addresses(server) == {"127.0.0.1"}, 20)


def _refused_addresses(server: LiveServer) -> set[str]:
    import sqlalchemy as sa

    from mlserve_jupyter.storage.tables import audit_log

    engine = open_engine(Settings(data_dir=server.data_dir / "mlserve"))
    with engine.connect() as connection:
        found = set(connection.execute(sa.select(audit_log.c.address)).scalars())
    engine.dispose()
    return found


@pytest.mark.slow
def test_row_32_servers_on_one_redis_share_a_quota_and_go_on_without_it(tmp_path: Path) -> None:
    redis = RedisProcess(tmp_path)
    options = ("--quota-per-minute=40", f"--redis-url={redis.url}")
    try:
        with (
            start_standalone(tmp_path, *options) as one,
            start_standalone(tmp_path, *options) as other,
        ):
            caller = outsider(one, "shared")
            n_admitted = 0
            for _ in range(60):
                for url in (one.url, other.url):
                    answer = replace(caller, url=url).request("GET", "api/v1/models")
                    n_admitted += answer.status_code == 200
            # Each may let one in while an answer of Redis is on its way, and 40 more where a
            # minute has ended meanwhile.
            assert 34 <= n_admitted <= 84
            redis.kill()
            second = outsider(one, "alone")
            answers = [second.request("GET", "api/v1/models") for _ in range(100)]
            statuses = [answer.status_code for answer in answers]
            assert set(statuses) == {200, 429}
            assert statuses.count(200) <= 80, "never unlimited"
    finally:
        redis.kill()


def test_the_same_caller_is_one_in_all_processes(standalone: StandaloneServer) -> None:
    caller = outsider(standalone, "spread")
    statuses = [
        httpx.get(
            standalone.url + "api/v1/models",
            headers={"X-MLServe-Key": caller.key, "Connection": "close"},
        ).status_code
        for _ in range(4 * QUOTA)
    ]
    assert statuses.count(200) in (QUOTA, 2 * QUOTA)
