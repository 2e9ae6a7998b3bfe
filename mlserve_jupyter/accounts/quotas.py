"""Quotas: how many requests a minute an outside user or key may make.

Asked on each request, so it waits for nothing. Requests are counted in this machine's memory; where
a Redis is set, servers also lease from it what each may still let in (see ``quota_lease``).

Windows are fixed minutes, which begin at another second for each caller, so that not all of them
come back at once. In any sixty seconds a caller can thus make up to twice the requests of a minute.
"""

from __future__ import annotations

import time
import zlib
from typing import NamedTuple

from mlserve_jupyter.accounts.counters import Counters
from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.accounts.quota_lease import Lease
from mlserve_jupyter.accounts.redis_counters import RedisCounters
from mlserve_jupyter.errors import QuotaExceeded

WINDOW_S = 60
MAX_WINDOWS = 10_000
"""Callers of which this process keeps a window before it looks for windows that have ended."""


class Quota(NamedTuple):
    """What a caller has left.

    Attributes
    ----------
    limit
        Requests a minute; 0 where there is no limit.
    remaining
        Of the window that is open.
    reset_s
        Seconds until it ends.
    is_exceeded
        Whether this request is one too many.
    """

    limit: int
    remaining: int = 0
    reset_s: int = 0
    is_exceeded: bool = False

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the headers that tell the caller; none where there is no limit.

        They are the three fields of draft-ietf-httpapi-ratelimit-headers-06, which later drafts
        join into one that clients do not know yet.
        """
        if not self.limit:
            return ()
        return (
            ("RateLimit-Limit", str(self.limit)),
            ("RateLimit-Remaining", str(self.remaining)),
            ("RateLimit-Reset", str(self.reset_s)),
        )

    def error(self) -> QuotaExceeded:
        """Return the refusal of a request that is one too many."""
        return QuotaExceeded(
            f"Your {self.limit} requests of this minute are used up. Try again in {self.reset_s} "
            "s, or ask an administrator for a higher limit.",
            retry_after_s=self.reset_s,
            limit=self.limit,
        )


UNLIMITED = Quota(0)


class Quotas:
    """The quotas of all callers.

    Parameters
    ----------
    default_limit
        Requests a minute of those for whom nothing else is set; 0 for no limit.
    counters
        This machine's.
    """

    def __init__(self, default_limit: int, counters: Counters) -> None:
        self.default_limit = default_limit
        self._counters = counters
        self._shared: RedisCounters | None = None
        self._windows: dict[str, tuple[int, Lease | None]] = {}

    def share_through(self, redis: RedisCounters) -> None:
        """Count together with all servers on a Redis from the next windows on."""
        self._shared = redis
        self._windows.clear()

    def take(self, principal: Principal) -> Quota:
        """Count a request of a caller; whether it is one too many is in the answer."""
        if not principal.quota_id:
            return self._take(principal.user, principal.rate_limit)
        quota = self._take(principal.quota_id, principal.rate_limit)
        if quota.is_exceeded or principal.user_limit == 0:
            return quota
        of_user = self._take(principal.user, principal.user_limit)
        if quota is UNLIMITED or of_user.is_exceeded:
            return of_user
        return quota if of_user is UNLIMITED else min(quota, of_user, key=_remaining)

    def close(self) -> None:
        """Ask Redis no more."""
        for _, lease in self._windows.values():
            if lease is not None:
                lease.close()

    def _take(self, key: str, limit: int | None) -> Quota:
        """Count a request where ``key`` is counted; None for the default limit."""
        if limit is None:
            limit = self.default_limit
        if not limit:
            return UNLIMITED
        now_s = time.time()
        window = self._windows.get(key)
        if window is None or window[0] <= now_s:
            window = self._begin(key, now_s)
        ends_at_s, lease = window
        counters = self._counters
        share = counters.share(key, limit)
        used = counters.count(key)
        reset_s = int(ends_at_s - now_s) + 1
        if used >= share or (lease is not None and not lease.take(limit, share)):
            return Quota(limit, 0, _retry_s(lease, used >= share, reset_s), is_exceeded=True)
        counters.add(key, ends_at_s)
        remaining = share - used - 1
        if lease is not None:
            remaining = min(remaining, lease.remaining(limit))
        return Quota(limit, remaining, reset_s)

    def _begin(self, key: str, now_s: float) -> tuple[int, Lease | None]:
        offset_s = zlib.crc32(key.encode()) % WINDOW_S
        number = int(now_s + offset_s) // WINDOW_S
        lease = None
        if self._shared is not None:
            lease = Lease(self._shared, f"quota:{key}:{number}", 2 * WINDOW_S)
        window = (number + 1) * WINDOW_S - offset_s, lease
        if len(self._windows) >= MAX_WINDOWS:
            self._windows = {k: w for k, w in self._windows.items() if w[0] > now_s}
        self._windows[key] = window
        return window


def _remaining(quota: Quota) -> int:
    return quota.remaining


def _retry_s(lease: Lease | None, is_used_up: bool, reset_s: int) -> int:
    """Return when a refused caller has a chance: at once where Redis has only not answered yet."""
    if is_used_up or lease is None or lease.is_used_up:
        return reset_s
    return 1
