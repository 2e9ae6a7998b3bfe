"""The cache in a real Redis, and through its outages."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from mlserve_jupyter.cache.memory import MemoryCache
from mlserve_jupyter.cache.redis_server import MAX_IN_FLIGHT, MAX_VALUE_BYTES, RedisCache
from mlserve_jupyter.cache.tiered import TieredCache
from tests.cache.redis_process import RedisProcess
from tests.live import free_port

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path)
    yield process
    process.kill()


@pytest.fixture
async def cache(redis: RedisProcess) -> AsyncIterator[RedisCache]:
    cache = RedisCache(redis.url, timeout_s=0.2)
    yield cache
    await cache.aclose()


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


async def kept(cache: RedisCache, key: str, value: bytes, ttl_s: float = 60.0) -> None:
    """Put a value and wait until Redis has it."""
    cache.put(key, value, ttl_s)
    await until(lambda: not cache._commands)


async def test_what_one_server_keeps_another_one_finds(
    cache: RedisCache, redis: RedisProcess
) -> None:
    await kept(cache, "a", b"\x00\xff1")
    other = RedisCache(redis.url, timeout_s=0.2)
    found = await other.get("a")
    assert found is not None
    assert found[0] == b"\x00\xff1"
    assert 55 < found[1] <= 60
    assert await other.get("b") is None
    await other.aclose()


async def test_a_value_ends_with_its_time(cache: RedisCache) -> None:
    await kept(cache, "a", b"1", ttl_s=0.3)
    assert await cache.get("a") is not None
    await asyncio.sleep(0.35)
    assert await cache.get("a") is None


async def test_a_large_value_stays_out(cache: RedisCache) -> None:
    await kept(cache, "a", bytes(MAX_VALUE_BYTES + 1))
    assert await cache.get("a") is None


async def test_the_near_cache_takes_what_the_far_one_has_for_the_time_that_is_left(
    cache: RedisCache, redis: RedisProcess
) -> None:
    await kept(cache, "a", b"1", ttl_s=60.0)
    near = MemoryCache(2**20)
    assert await TieredCache(near, cache).get("a") is not None
    redis.kill()
    found = await TieredCache(near, cache).get("a")
    assert found is not None
    assert found[0] == b"1"
    assert found[1] <= 60
    redis.start()


async def test_a_redis_that_was_never_there_only_answers_nothing() -> None:
    cache = RedisCache(f"redis://127.0.0.1:{free_port()}", timeout_s=0.2)
    for i in range(20):
        assert await cache.get(str(i)) is None
        cache.put(str(i), b"1", 60.0)
    assert not cache.is_open
    await cache.aclose()


async def test_a_redis_that_dies_is_left_alone_and_found_again(
    cache: RedisCache, redis: RedisProcess
) -> None:
    await kept(cache, "a", b"1")
    redis.kill()
    for _ in range(10):
        assert await cache.get("a") is None
        cache.put("b", b"1", 60.0)
    await until(lambda: not cache.is_open)
    redis.start()
    await until(lambda: cache.is_open)
    await kept(cache, "a", b"2")
    found = await cache.get("a")
    assert found is not None
    assert found[0] == b"2"


async def test_a_redis_that_does_not_answer_costs_a_few_timeouts_and_then_nothing(
    cache: RedisCache, redis: RedisProcess
) -> None:
    await kept(cache, "a", b"1")
    redis.send(signal.SIGSTOP)
    started = time.monotonic()
    for _ in range(1000):
        assert await cache.get("a") is None
    assert time.monotonic() - started < 5, "each call waited for the time-out"
    redis.send(signal.SIGCONT)
    await until(lambda: cache.is_open)
    assert await cache.get("a") is not None


async def test_more_calls_at_once_than_connections_find_nothing_instead_of_waiting(
    cache: RedisCache,
) -> None:
    await kept(cache, "a", b"1")
    found = await asyncio.gather(*(cache.get("a") for _ in range(MAX_IN_FLIGHT * 4)))
    assert 0 < sum(value is not None for value in found) <= MAX_IN_FLIGHT
    assert await cache.get("a") is not None


async def test_a_redis_that_is_full_refuses_values_and_still_gives_what_it_has(
    tmp_path: Path,
) -> None:
    process = RedisProcess(tmp_path, "--maxmemory", "1mb", "--maxmemory-policy", "noeviction")
    cache = RedisCache(process.url, timeout_s=0.2)
    await kept(cache, "a", b"1")
    for i in range(20):
        await kept(cache, str(i), bytes(100_000))
    assert cache.is_open
    assert await cache.get("a") is not None
    await cache.aclose()
    process.kill()
