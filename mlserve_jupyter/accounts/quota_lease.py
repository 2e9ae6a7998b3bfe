"""What a server may still let in of a quota that servers share through Redis.

Nobody waits for Redis. A server takes a part of what is left ahead of the requests, in the
background, and the parts get smaller as less is left. While it waits for an answer and has nothing
left, it lets requests in on credit, up to what it last knew to be left, and tells Redis with the
next question. So in a window all servers together let in at most the limit, and what they let in
within the same round trip as another's last requests; and what a server has taken and not used, an
eighth of the rest at most, is out of the others' reach.
"""

from __future__ import annotations

import asyncio

from mlserve_jupyter.accounts.redis_counters import RedisAway, RedisCounters

PARTS = 8
"""A server takes at most this part of what is left at once."""


class Lease:
    """One caller's quota in one window, as this server has its part of it.

    Parameters
    ----------
    redis
        Where all servers count.
    key
        Of the caller and the window.
    ttl_s
        How long Redis keeps the count.
    """

    def __init__(self, redis: RedisCounters, key: str, ttl_s: int) -> None:
        self._redis = redis
        self._key = key
        self._ttl_s = ttl_s
        self._total: int | None = None  # what all have taken, when Redis last answered
        self._held = 0
        self._on_credit = 0
        self._limit = 0
        self._asking: asyncio.Task[None] | None = None

    @property
    def is_used_up(self) -> bool:
        """Whether Redis has said that nothing is left."""
        return self._total is not None and self._total >= self._limit

    def remaining(self, limit: int) -> int:
        """Return what is left, as far as this server knows."""
        return max(0, limit - (self._total or 0) + self._held - self._on_credit)

    def take(self, limit: int, credit: int) -> bool:
        """Let one request in, or not.

        Parameters
        ----------
        limit
            Of the caller.
        credit
            What may be let in while Redis has not answered.
        """
        self._limit = limit
        if not self._redis.is_open:
            self._on_credit += 1  # Redis is told when it is back
            return True
        if self._held:
            self._held -= 1
            is_in = True
        elif self._on_credit >= min(credit, limit - (self._total or 0)):
            is_in = False
        else:
            self._on_credit += 1
            is_in = True
        if self._asking is None and not self.is_used_up and self._held <= self._part() // 2:
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return is_in

    def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()

    def _part(self) -> int:
        return max(1, (self._limit - (self._total or 0)) // PARTS)

    async def _ask(self) -> None:
        on_credit, part = self._on_credit, self._part()
        try:
            total = await self._redis.add(self._key, self._ttl_s, on_credit + part)
        except RedisAway:
            return
        finally:
            self._asking = None
        self._on_credit -= on_credit
        self._total = total
        # The others' part of the total comes first, then what was let in on credit.
        self._held += max(0, min(part, self._limit - (total - part)))
