"""Counters of attempts for the throttles: on this machine, and in a Redis that servers share."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from mlserve_jupyter.accounts.counters import Counters
from mlserve_jupyter.accounts.redis_counters import RedisAway, RedisCounters


@dataclass(frozen=True)
class AttemptLimit:
    """How many attempts there may be in a window, which begins with the first of them."""

    name: str
    amount: int
    window_s: int


class AttemptCounters:
    """Counts attempts on this machine and in Redis, and goes by whichever count is higher.

    So a Redis that is away, was flushed or lies lets in no more than this machine alone would.

    Parameters
    ----------
    own
        This machine's.
    shared
        Those in Redis, if there is one.
    """

    def __init__(self, own: Counters, shared: RedisCounters | None = None) -> None:
        self._own = own
        self._shared = shared

    async def is_within(self, limit: AttemptLimit, key: str, more: int) -> bool:
        """Whether the limit has room for ``more`` attempts."""
        key = f"{limit.name}:{key}"
        own = self._own.count(key)
        if self._shared is not None and self._shared.is_open:
            with suppress(RedisAway):
                return max(own, await self._shared.count(key)) + more <= limit.amount
        return own + more <= self._own.share(key, limit.amount)

    async def add(self, limit: AttemptLimit, key: str) -> None:
        """Count an attempt."""
        key = f"{limit.name}:{key}"
        self._own.add(key, int(time.time()) + limit.window_s)
        if self._shared is not None and self._shared.is_open:
            with suppress(RedisAway):
                await self._shared.add(key, limit.window_s)

    async def reset_after_s(self, limit: AttemptLimit, key: str) -> int:
        """Return after how many seconds the limit has all its room again, at least 1."""
        key = f"{limit.name}:{key}"
        ends_at_s: float = self._own.ends_at_s(key)
        if self._shared is not None and self._shared.is_open:
            with suppress(RedisAway):
                ends_at_s = max(ends_at_s, await self._shared.ends_at_s(key))
        return max(1, min(int(ends_at_s - time.time()) + 1, limit.window_s))
