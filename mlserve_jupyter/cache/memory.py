"""The cache in this process: the least recently used values go first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_ENTRY_BYTES = 400
"""About what an entry takes beside its key and value: objects, and its place in the order."""

_LARGEST_SHARE = 16
"""A value above this part of the whole is not kept: it would drive too many others out."""


class MemoryCache:
    """A cache in memory, bounded by bytes.

    Parameters
    ----------
    max_bytes
        Bound of all keys and values, with what it takes to keep them.
    clock
        Seconds that only grow.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._n_bytes = 0

    def __len__(self) -> int:
        """Return the number of entries, expired ones that nobody asked for included."""
        return len(self._entries)

    @property
    def n_bytes(self) -> int:
        """What the entries take."""
        return self._n_bytes

    def peek(self, key: str) -> bytes | None:
        """Return a value, or None."""
        found = self._find(key)
        return None if found is None else found[0]

    async def get(self, key: str) -> tuple[bytes, float] | None:
        """Return a value and for how many seconds it still holds, or None."""
        return self._find(key)

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep a value, unless it alone would fill much of the cache."""
        self._drop(key)
        n_bytes = _size(key, value)
        if n_bytes > self._max_bytes // _LARGEST_SHARE:
            return
        self._entries[key] = value, self._clock() + ttl_s
        self._n_bytes += n_bytes
        while self._n_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    async def aclose(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._n_bytes = 0

    def _find(self, key: str) -> tuple[bytes, float] | None:
        found = self._entries.get(key)
        if found is None:
            return None
        value, expires_at = found
        rest_s = expires_at - self._clock()
        if rest_s <= 0:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return value, rest_s

    def _drop(self, key: str) -> None:
        gone = self._entries.pop(key, None)
        if gone is not None:
            self._n_bytes -= _size(key, gone[0])


def _size(key: str, value: bytes) -> int:
    return len(key) + len(value) + _ENTRY_BYTES
