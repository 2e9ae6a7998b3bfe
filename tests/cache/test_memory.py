from __future__ import annotations

import pytest

from mlserve_jupyter.cache.memory import MemoryCache

pytestmark = pytest.mark.anyio

KIB = 1024


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_value_is_there_until_its_time_is_over_and_says_how_long_that_is() -> None:
    clock = Clock()
    cache = MemoryCache(64 * KIB, clock)
    cache.put("a", b"1", 10.0)
    clock.now = 4.0
    assert await cache.get("a") == (b"1", 6.0)
    clock.now = 10.0
    assert await cache.get("a") is None
    assert (len(cache), cache.n_bytes) == (0, 0)


async def test_the_least_recently_used_make_room() -> None:
    cache = MemoryCache(20 * KIB)
    for name in "abcdefghijklmnopqrstuvwxyz":
        cache.put(name, bytes(KIB // 2), 60.0)
        await cache.get("a")
    assert cache.n_bytes <= 20 * KIB
    assert await cache.get("a") is not None
    assert await cache.get("b") is None
    assert await cache.get("z") is not None


async def test_a_value_that_would_fill_the_cache_is_not_kept_and_drives_nothing_out() -> None:
    cache = MemoryCache(64 * KIB)
    cache.put("small", b"1", 60.0)
    cache.put("large", bytes(32 * KIB), 60.0)
    assert await cache.get("large") is None
    assert await cache.get("small") is not None


async def test_a_value_that_is_put_again_takes_its_place_once() -> None:
    cache = MemoryCache(64 * KIB)
    for _ in range(100):
        cache.put("a", bytes(KIB), 60.0)
    assert (len(cache), cache.n_bytes < 2 * KIB) == (1, True)
    cache.put("a", b"new", 60.0)
    found = await cache.get("a")
    assert found is not None
    assert found[0] == b"new"
