"""The cache in a real Redis, through its outages, and where others write to it."""

from __future__ import annotations

import asyncio
import signal
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from mlserve_jupyter.cache.memory import MemoryCache
from mlserve_jupyter.cache.redis_server import MAX_IN_FLIGHT, MAX_VALUE_BYTES, RedisCache
from mlserve_jupyter.cache.signed_values import OVERHEAD_BYTES, SignedValues
from mlserve_jupyter.cache.tiered import TieredCache
from tests.cache.redis_process import RedisProcess
from tests.live import free_port

pytestmark = pytest.mark.anyio

SECRET = b"of those who share this Redis"
TTL_S = 60.0
PATIENCE_S = 5.0


def opened(url: str, secret: bytes = SECRET, timeout_s: float = PATIENCE_S) -> RedisCache:
    return RedisCache(url, timeout_s, max_ttl_s=TTL_S, secret=secret)


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
    cache = opened(redis.url)
    yield cache
    await cache.aclose()


async def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
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
    other = opened(redis.url)
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
    cache = opened(f"redis://127.0.0.1:{free_port()}")
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
    redis: RedisProcess,
) -> None:
    cache = opened(redis.url, timeout_s=0.2)
    await kept(cache, "a", b"1")
    redis.send(signal.SIGSTOP)
    started = time.monotonic()
    for _ in range(1000):
        assert await cache.get("a") is None
    assert time.monotonic() - started < 5, "each call waited for the time-out"
    redis.send(signal.SIGCONT)
    await until(lambda: cache.is_open)
    assert await cache.get("a") is not None
    await cache.aclose()


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
    cache = opened(process.url)
    await kept(cache, "a", b"1")
    for i in range(20):
        await kept(cache, str(i), bytes(100_000))
    assert cache.is_open
    assert await cache.get("a") is not None
    await cache.aclose()
    process.kill()


def signed(key: str, value: bytes, rest_s: float, secret: bytes = SECRET) -> bytes:
    return SignedValues(secret).sign(key, value, time.time() + rest_s)


FORGERIES = {
    "nothing but an expiry": struct.pack(">d", time.time() + 3600),
    "a value without a tag": struct.pack(">d", time.time() + 3600) + b"null[6.66]",
    "an answer nested deeply": struct.pack(">d", time.time() + 3600) + b"[" * 100_000,
    "no text": bytes(range(256)),
    "a tag of zeros": bytes(32) + struct.pack(">d", time.time() + 3600) + b"1",
    "of another secret": signed("a", b"1", 60.0, b"somebody else's"),
    "of another key": signed("b", b"1", 60.0),
    "ended": signed("a", b"1", -1.0),
    "as large as it may be": bytes(MAX_VALUE_BYTES + OVERHEAD_BYTES),
    "short": b"1",
    "empty": b"",
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
async def test_what_others_have_written_is_not_there(
    cache: RedisCache, redis: RedisProcess, forgery: bytes
) -> None:
    with Redis.from_url(redis.url) as client:
        client.set("a", forgery)
    assert await cache.get("a") is None
    assert await TieredCache(MemoryCache(2**20), cache).get("a") is None
    assert cache.is_open
    await kept(cache, "a", b"1")
    assert await cache.get("a") is not None, "it takes its place"


async def test_a_value_of_which_any_byte_was_changed_is_not_there(
    cache: RedisCache, redis: RedisProcess
) -> None:
    await kept(cache, "a", b"[1.0]")
    with Redis.from_url(redis.url) as client:
        stored = client.get("a")
        assert isinstance(stored, bytes)
        for at in range(len(stored)):
            changed = bytearray(stored)
            changed[at] ^= 1
            client.set("a", bytes(changed))
            assert await cache.get("a") is None
        for cut in (stored[:-1], stored[1:], stored + b"1"):
            client.set("a", cut)
            assert await cache.get("a") is None
        client.set("a", stored)
        assert await cache.get("a") is not None


async def test_what_is_no_text_at_all_is_not_there(cache: RedisCache, redis: RedisProcess) -> None:
    with Redis.from_url(redis.url) as client:
        client.lpush("a", "1")
    assert await cache.get("a") is None
    assert cache.is_open


async def test_servers_without_a_secret_in_common_do_not_use_each_others_values(
    cache: RedisCache, redis: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    await kept(cache, "a", b"1")
    other = opened(redis.url, secret=b"another one")
    assert [await other.get("a") for _ in range(3)] == [None] * 3
    assert caplog.text.count("MLSERVE_JWT_SECRET") == 1
    await other.aclose()


@pytest.mark.parametrize("rest_s", [3600.0, 1e300, float("inf")])
async def test_no_value_holds_longer_than_this_server_keeps_answers(
    cache: RedisCache, redis: RedisProcess, rest_s: float
) -> None:
    with Redis.from_url(redis.url) as client:
        client.set("a", signed("a", b"1", rest_s))
    assert await cache.get("a") == (b"1", TTL_S)


async def test_of_a_huge_value_no_more_is_read_than_a_value_may_have(
    cache: RedisCache, redis: RedisProcess
) -> None:
    with Redis.from_url(redis.url) as client:
        client.setrange("a", 64 * MAX_VALUE_BYTES, b"1")
        sent_before = client.info("stats")["total_net_output_bytes"]
        assert await cache.get("a") is None
        sent = client.info("stats")["total_net_output_bytes"] - sent_before
    assert MAX_VALUE_BYTES <= sent < 2 * MAX_VALUE_BYTES


async def test_a_value_as_large_as_may_be_is_found(cache: RedisCache) -> None:
    await kept(cache, "a", bytes(MAX_VALUE_BYTES))
    found = await cache.get("a")
    assert found is not None
    assert found[0] == bytes(MAX_VALUE_BYTES)
