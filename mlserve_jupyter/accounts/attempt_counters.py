"""Counters of attempts for the throttles: in this process, or in a Redis that servers share.

Redis is asked with a time-out. Where it does not answer, this process counts for itself, against
its share of each limit, so that a limit never ends with Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from limits import RateLimitItem
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

log = logging.getLogger(__name__)

PREFIX = "mlserve"
LEAVE_ALONE_S = 2.0
"""How long Redis is not asked after it has failed."""


class AttemptCounters:
    """Counters by key, each for the window of its limit.

    Parameters
    ----------
    redis_url
        Of a Redis; empty for none.
    timeout_s
        How long a caller waits for Redis.
    n_processes
        Among how many processes a limit is divided where each counts for itself.
    """

    def __init__(self, redis_url: str, timeout_s: float, n_processes: int) -> None:
        self._n_processes = n_processes
        self._timeout_s = timeout_s
        self._own = MemoryStorage()
        self._shared: RedisStorage | None = None
        self._connections: ConnectionPool | None = None
        if redis_url:
            self._connections = _connections(redis_url, timeout_s)
            self._shared = _redis_storage(self._connections)
        self._ask_again_at_s = 0.0

    async def is_within(self, limit: RateLimitItem, key: str, more: int) -> bool:
        """Whether the limit has room for ``more`` attempts."""
        with self._falling_back():
            if (shared := self._shared_now()) is not None:
                found = FixedWindowRateLimiter(shared).test(limit, PREFIX, key, cost=more)
                return await asyncio.wait_for(found, self._timeout_s)
        share = self._share_of(limit)
        return await FixedWindowRateLimiter(self._own).test(share, PREFIX, key, cost=more)

    async def add(self, limit: RateLimitItem, key: str) -> None:
        """Count an attempt."""
        with self._falling_back():
            if (shared := self._shared_now()) is not None:
                added = FixedWindowRateLimiter(shared).hit(limit, PREFIX, key)
                await asyncio.wait_for(added, self._timeout_s)
                return
        await FixedWindowRateLimiter(self._own).hit(self._share_of(limit), PREFIX, key)

    async def reset_after_s(self, limit: RateLimitItem, key: str) -> int:
        """Return after how many seconds the limit has all its room again, at least 1."""
        reset_at_s = 0.0
        with self._falling_back():
            if (shared := self._shared_now()) is not None:
                found = FixedWindowRateLimiter(shared).get_window_stats(limit, PREFIX, key)
                reset_at_s = (await asyncio.wait_for(found, self._timeout_s)).reset_time
        if not reset_at_s:
            stats = FixedWindowRateLimiter(self._own).get_window_stats
            reset_at_s = (await stats(self._share_of(limit), PREFIX, key)).reset_time
        return max(1, min(int(reset_at_s - time.time()) + 1, limit.get_expiry()))

    async def aclose(self) -> None:
        """Close the connections to Redis."""
        if self._connections is not None:
            await self._connections.disconnect()

    def _shared_now(self) -> RedisStorage | None:
        return self._shared if time.monotonic() >= self._ask_again_at_s else None

    @contextlib.contextmanager
    def _falling_back(self) -> Iterator[None]:
        """Go on behind the block where Redis fails in it."""
        try:
            yield
        except (StorageError, OSError, asyncio.TimeoutError) as error:
            if self._shared_now() is not None:
                log.warning("Redis does not count attempts: %s", error or "it does not answer")
            self._ask_again_at_s = time.monotonic() + LEAVE_ALONE_S

    def _share_of(self, limit: RateLimitItem) -> RateLimitItem:
        amount = max(1, limit.amount // self._n_processes)
        return type(limit)(amount, limit.multiples, limit.namespace)


def _connections(url: str, timeout_s: float) -> ConnectionPool:
    from redis.asyncio import ConnectionPool

    return ConnectionPool.from_url(
        url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, protocol=2
    )


def _redis_storage(connections: ConnectionPool) -> RedisStorage:
    return RedisStorage(
        "async+redis://",
        wrap_exceptions=True,
        implementation="redispy",
        # The library takes whatever the client takes, and its annotation says less.
        connection_pool=cast(str, connections),
    )
