"""Tokens across processes and hosts that share a database, a secret and a Redis."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from tests.accounts.signing_in import Account, Server, call
from tests.cache.redis_process import RedisProcess
from tests.live import start_server
from tests.standalone.hosts import start_standalone
from tests.stores import Stores
from tests.waiting import wait_for

pytestmark = pytest.mark.slow


def test_row_10_a_logout_is_obeyed_by_all_hosts_also_after_redis_was_flushed(
    stores: Stores, tmp_path: Path
) -> None:
    for name in ("shared", "redis", "embedded"):
        (tmp_path / name).mkdir(mode=0o700)
    database = stores.at(tmp_path / "shared").resolved_database_url
    shared = RedisProcess(tmp_path / "redis")
    env = {"MLSERVE_JWT_SECRET": secrets.token_urlsafe(48)}
    with ExitStack() as stack:
        stack.callback(shared.kill)
        options = ("--workers=2", f"--database-url={database}", f"--redis-url={shared.url}")
        first = stack.enter_context(start_standalone(tmp_path / "first", *options, env=env))
        second = stack.enter_context(start_standalone(tmp_path / "second", *options, env=env))
        embedded = stack.enter_context(
            start_server(
                tmp_path / "embedded",
                f"--MLServeApp.database_url={database}",
                f"--MLServeApp.redis_url={shared.url}",
                env=env,
            )
        )
        servers: tuple[Server, ...] = (first, second, embedded)
        session = call(
            first, "POST", "api/v1/auth/session", headers={"X-MLServe-Key": first.key}
        ).json()
        callers = [Account(server, "", "", "", session) for server in servers]

        def answers() -> set[bool]:
            return {caller.is_signed_in() for caller in callers for _ in range(6)}

        assert answers() == {True}
        assert callers[1].request("POST", "api/v1/auth/logout").status_code == 204
        assert wait_for(lambda: answers() == {False}, 15)
        redis.Redis.from_url(shared.url).flushall()
        assert answers() == {False}
        assert {caller.refresh().status_code for caller in callers} == {401}
