"""The cache that the settings describe: this process's own, and Redis behind it if there is one."""

from __future__ import annotations

from mlserve_jupyter.cache.memory import MemoryCache
from mlserve_jupyter.cache.protocol import Cache
from mlserve_jupyter.settings import Settings


def open_cache(settings: Settings, secret: bytes) -> Cache:
    """Return the cache that the settings describe.

    Imports the Redis client, and only where it is used; call it in a thread.

    Parameters
    ----------
    settings
        Everything that can be set.
    secret
        What the servers that share a cache have in common, and nobody else has.
    """
    memory = MemoryCache(settings.cache_max_bytes)
    if not settings.redis_url:
        return memory
    from mlserve_jupyter.cache.redis_server import RedisCache

    far = RedisCache(
        settings.redis_url,
        settings.redis_timeout_s,
        max_ttl_s=settings.cache_ttl_s,
        secret=secret,
    )
    return TieredCache(memory, far)


class TieredCache:
    """A near cache in front of a far one.

    Parameters
    ----------
    near, far
        ``far`` is asked for what ``near`` does not have, which then has it for the time that is
        left.
    """

    def __init__(self, near: Cache, far: Cache) -> None:
        self._near = near
        self._far = far

    def peek(self, key: str) -> bytes | None:
        """Return a value that the near cache has in memory, or None."""
        return self._near.peek(key)

    async def get(self, key: str) -> tuple[bytes, float] | None:
        """Return a value and for how many seconds it still holds, or None."""
        found = await self._near.get(key)
        if found is None:
            found = await self._far.get(key)
            if found is not None:
                self._near.put(key, *found)
        return found

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep a value in both."""
        self._near.put(key, value, ttl_s)
        self._far.put(key, value, ttl_s)

    async def aclose(self) -> None:
        """Close both."""
        await self._near.aclose()
        await self._far.aclose()
