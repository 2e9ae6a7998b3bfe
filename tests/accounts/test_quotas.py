"""Quotas, counted on this machine and through a real Redis."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from mlserve_jupyter.accounts import quotas as module
from mlserve_jupyter.accounts.counters import OwnCounters, SharedCounters, SharedMemory
from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.accounts.quotas import UNLIMITED, Quotas
from mlserve_jupyter.accounts.redis_counters import RedisCounters
from tests.cache.redis_process import RedisProcess

ADA = Principal("ada", "key", credential_id="1", rate_limit=None)
PATIENCE_S = 5.0


@pytest.fixture(autouse=True)
def _one_long_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no test runs across the end of a window."""
    monkeypatch.setattr(module, "WINDOW_S", 10**9)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path)
    yield process
    process.kill()


def n_admitted(quotas: Quotas, principal: Principal, n: int) -> int:
    return sum(not quotas.take(principal).is_exceeded for _ in range(n))


def test_row_31_requests_over_the_quota_are_refused_until_the_window_ends() -> None:
    quotas = Quotas(3, OwnCounters())
    assert [quotas.take(ADA).remaining for _ in range(3)] == [2, 1, 0]
    refused = quotas.take(ADA)
    assert refused.is_exceeded
    assert refused.error().retry_after_s == refused.reset_s > 0
    assert dict(refused.headers())["RateLimit-Remaining"] == "0"


def test_a_window_lasts_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW_S", 1)
    quotas = Quotas(1, OwnCounters())
    quotas.take(ADA)
    deadline = time.monotonic() + 30
    while quotas.take(ADA).is_exceeded:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_notebooks_owner_has_no_quota() -> None:
    quotas = Quotas(1, OwnCounters())
    for via in ("jupyter", "kernel", "host"):
        owner = Principal("owner", via)
        assert all(quotas.take(owner) is UNLIMITED for _ in range(5))
    assert not UNLIMITED.headers()


def test_a_user_or_key_has_a_limit_of_its_own_where_one_is_set() -> None:
    quotas = Quotas(100, OwnCounters())
    grace = replace(ADA, user="grace", rate_limit=5)
    assert n_admitted(quotas, grace, 20) == 5
    assert quotas.take(replace(ADA, user="root", rate_limit=0)) is UNLIMITED


def test_more_keys_are_not_more_requests() -> None:
    quotas = Quotas(4, OwnCounters())
    other_key = replace(ADA, credential_id="2")
    assert n_admitted(quotas, ADA, 3) + n_admitted(quotas, other_key, 3) == 4
    own_limit = replace(ADA, credential_id="3", rate_limit=2, quota_id="key 3")
    assert n_admitted(quotas, own_limit, 5) == 2, "a key with its own limit has its own count"


def test_a_keys_own_limit_is_no_way_round_its_users() -> None:
    quotas = Quotas(4, OwnCounters())
    generous = [
        replace(ADA, rate_limit=10**9, quota_id=f"key {n}", user_limit=None) for n in range(3)
    ]
    assert sum(n_admitted(quotas, key, 5) for key in generous) == 4
    refused = quotas.take(generous[0])
    assert (refused.is_exceeded, refused.limit) == (True, 4)
    other = replace(ADA, user="ben", rate_limit=2, quota_id="key 9", user_limit=None)
    assert [quotas.take(other).remaining for _ in range(2)] == [1, 0]
    assert quotas.take(other).is_exceeded
    assert n_admitted(quotas, replace(ADA, user="ben"), 5) == 2, "what the key used is the user's"


def test_processes_of_one_server_keep_to_one_limit() -> None:
    memory = SharedMemory(3)
    processes = [Quotas(10, SharedCounters(memory, index)) for index in range(3)]
    assert sum(n_admitted(quotas, ADA, 8) for quotas in processes) == 10


async def answered(*servers: Quotas) -> None:
    """Wait until Redis has answered all that the servers have asked."""
    leases = [lease for server in servers for _, lease in server._windows.values()]
    await asyncio.gather(*(lease._asking for lease in leases if lease and lease._asking))


@asynccontextmanager
async def on_redis(url: str, *servers: Quotas, timeout_s: float = PATIENCE_S) -> AsyncIterator[Any]:
    counters = [RedisCounters(url, timeout_s) for _ in servers]
    for server, each in zip(servers, counters, strict=True):
        server.share_through(each)
    try:
        yield counters
    finally:
        for server, each in zip(servers, counters, strict=True):
            server.close()
            await each.aclose()


def test_servers_on_one_redis_keep_to_one_limit(redis: RedisProcess) -> None:
    async def check() -> None:
        servers = [Quotas(100, OwnCounters()) for _ in range(3)]
        async with on_redis(redis.url, *servers):
            admitted = 0
            for _ in range(100):
                admitted += sum(n_admitted(server, ADA, 1) for server in servers)
                await answered(*servers)
            # Three may each let one in while the answer about the last ones is on its way.
            assert 85 <= admitted <= 103
            assert all(server.take(ADA).is_exceeded for server in servers)

    asyncio.run(check())


def test_row_31_a_burst_before_redis_has_answered_is_bounded(redis: RedisProcess) -> None:
    async def check() -> None:
        quotas = Quotas(20, OwnCounters())
        async with on_redis(redis.url, quotas):
            assert n_admitted(quotas, ADA, 1000) == 20

    asyncio.run(check())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_row_32_without_redis_a_quota_is_never_unlimited(
    redis: RedisProcess, number: signal.Signals
) -> None:
    async def check() -> None:
        quotas = Quotas(40, OwnCounters(n_processes=2))
        async with on_redis(redis.url, quotas, timeout_s=0.2) as (counters,):
            assert n_admitted(quotas, ADA, 1) == 1
            redis.send(number)
            admitted = 1
            deadline = time.monotonic() + 30
            while counters.is_open:
                admitted += n_admitted(quotas, ADA, 1)
                await asyncio.sleep(0.01)
                assert time.monotonic() < deadline
            admitted += n_admitted(quotas, ADA, 100)
            assert admitted == 20, "the share of one of two processes"
            assert n_admitted(quotas, replace(ADA, user="grace"), 100) == 20

    asyncio.run(check())


def test_row_32_a_redis_that_is_back_is_told_what_was_let_in_meanwhile(
    redis: RedisProcess,
) -> None:
    async def check() -> None:
        quotas, second = Quotas(40, OwnCounters()), Quotas(40, OwnCounters())
        async with on_redis(redis.url, quotas, second) as (counters, _):
            counters._ask_again_at_s = float("inf")
            assert n_admitted(quotas, ADA, 30) == 30
            counters._ask_again_at_s = 0.0
            admitted = 30 + n_admitted(quotas, ADA, 1)
            await answered(quotas)
            for _ in range(50):
                admitted += n_admitted(second, ADA, 1)
                await answered(second)
            assert 32 <= admitted <= 41

    asyncio.run(check())


@pytest.mark.parametrize("value", [b"abc", b"\xff", b"-100000000", b"0", None])
def test_whatever_is_written_over_a_count_in_redis_a_server_lets_in_the_limit_at_most(
    redis: RedisProcess, value: bytes | None
) -> None:
    async def check() -> None:
        quotas = Quotas(40, OwnCounters())
        async with on_redis(redis.url, quotas) as (counters,):
            with Redis.from_url(redis.url) as client:
                admitted = 0
                for _ in range(200):
                    admitted += n_admitted(quotas, ADA, 1)
                    await answered(quotas)
                    counters._ask_again_at_s = 0.0
                    for key in client.keys("*quota:*"):
                        client.delete(key) if value is None else client.set(key, value)
            assert admitted == 40

    asyncio.run(check())
