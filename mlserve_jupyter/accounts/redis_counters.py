"""Counters in a Redis that servers share. Where it fails, it is left alone for a while.

Others may write to it, so a count that is none is a failure like any other, and what a count says
is for the callers to hold against their own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar, cast

from limits.aio.storage import RedisStorage

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

log = logging.getLogger(__name__)

TIMEOUT_S = 0.5
"""How long one command may take, connecting included."""

LEAVE_ALONE_S = 2.0
"""How long Redis is not asked after it has failed."""

PREFIX = "mlserve:count:"

_LIBRARY_PREFIX = "LIMITS:"
"""What ``limits`` puts before each key."""

MAX_DIGITS = 20
"""Of a number of 64 bits with its sign; no more of a value is read."""

T = TypeVar("T")


class RedisAway(Exception):
    """Redis does not answer: count in this process."""


class RedisCounters:
    """Counts by key, each for a window that begins with the first count in it.

    Parameters
    ----------
    url
        ``redis://``, ``rediss://`` or ``unix://``.
    timeout_s
        How long one command may take.
    """

    def __init__(self, url: str, timeout_s: float = TIMEOUT_S) -> None:
        from redis.asyncio import ConnectionPool, Redis

        self._timeout_s = timeout_s
        self._connections: ConnectionPool = ConnectionPool.from_url(
            url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, protocol=2
        )
        self._storage = RedisStorage(
            "async+redis://",
            wrap_exceptions=True,
            implementation="redispy",
            # The library hands on whatever the client takes; its annotation says less.
            connection_pool=cast(str, self._connections),
        )
        # The library reads a count whatever its size.
        self._client: Redis = Redis(connection_pool=self._connections)
        self._ask_again_at_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether Redis is asked at the moment."""
        return time.monotonic() >= self._ask_again_at_s

    async def add(self, key: str, window_s: int, n: int = 1) -> int:
        """Count ``n`` more and return the count; a window that begins with it is ``window_s`` long.

        Raises
        ------
        RedisAway
            If Redis does not answer, or with something that is no count.
        """
        return await self._run(self._add(PREFIX + key, window_s, n))

    async def count(self, key: str) -> int:
        """Return the count of the window that is open, or 0.

        Raises
        ------
        RedisAway
            If Redis does not answer, or with something that is no count.
        """
        return await self._run(self._count(PREFIX + key))

    async def ends_at_s(self, key: str) -> float:
        """Return when the open window ends, in seconds since 1970.

        Raises
        ------
        RedisAway
            If Redis does not answer.
        """
        return await self._run(self._storage.get_expiry(PREFIX + key))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connections.disconnect()

    async def _add(self, key: str, window_s: int, n: int) -> int:
        return _checked(await self._storage.incr(key, window_s, amount=n))

    async def _count(self, key: str) -> int:
        stored = await self._client.getrange(_LIBRARY_PREFIX + key, 0, MAX_DIGITS)
        return _checked(int(stored or 0))

    async def _run(self, command: Awaitable[T]) -> T:
        try:
            return await asyncio.wait_for(command, self._timeout_s)
        except Exception as error:
            # What Redis answers may be anything, and nobody is to fail of it.
            if self.is_open:
                log.warning(
                    "Redis does not count (%s); this server counts for itself meanwhile.",
                    str(error) or f"no answer within {self._timeout_s:g} s",
                )
            self._ask_again_at_s = time.monotonic() + LEAVE_ALONE_S
            raise RedisAway from error


def _checked(count: object) -> int:
    """Return a count, if it can be one: nothing here ever counts down."""
    if not isinstance(count, int) or count < 0:
        raise ValueError(f"{count!r:.40} is not a count")
    return count
