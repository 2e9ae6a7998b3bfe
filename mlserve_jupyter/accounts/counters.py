"""Counters for quotas and throttles, each for a window of time, in memory.

The processes of one standalone server count together, in memory that they share from their birth;
any other process counts for itself. Neither waits for anything.
"""

from __future__ import annotations

import mmap
import time
from hashlib import blake2b
from typing import Protocol

MAX_OWN_KEYS = 100_000
"""Keys that one process counts for itself before it looks for windows that have ended."""


class Counters(Protocol):
    """Counts by key, each for a window that begins with the first count in it."""

    def share(self, key: str, limit: int) -> int:
        """Return what of a limit is to be compared with :meth:`count`, at least 1."""

    def count(self, key: str) -> int:
        """Return the count of the window that is open, or 0."""

    def ends_at_s(self, key: str) -> int:
        """Return when the open window ends, in seconds since 1970, or 0."""

    def add(self, key: str, ends_at_s: int) -> None:
        """Count one more; a window that begins with it ends at ``ends_at_s``."""


class OwnCounters:
    """The counters of one process.

    Parameters
    ----------
    n_processes
        Among how many processes that cannot count together a limit is divided.
    """

    def __init__(self, n_processes: int = 1) -> None:
        self._n_processes = n_processes
        self._windows: dict[str, tuple[int, int]] = {}
        self._purge_at = MAX_OWN_KEYS

    def share(self, key: str, limit: int) -> int:
        """Return this process's part of a limit, at least 1."""
        return max(1, limit // self._n_processes)

    def count(self, key: str) -> int:
        """Return the count of the window that is open, or 0."""
        window = self._windows.get(key)
        return 0 if window is None or window[0] <= time.time() else window[1]

    def ends_at_s(self, key: str) -> int:
        """Return when the open window ends, in seconds since 1970, or 0."""
        window = self._windows.get(key)
        return 0 if window is None or window[0] <= time.time() else window[0]

    def add(self, key: str, ends_at_s: int) -> None:
        """Count one more; a window that begins with it ends at ``ends_at_s``."""
        window = self._windows.get(key)
        if window is not None and window[0] > time.time():
            self._windows[key] = window[0], window[1] + 1
            return
        self._windows[key] = ends_at_s, 1
        if len(self._windows) > self._purge_at:
            now_s = time.time()
            self._windows = {k: w for k, w in self._windows.items() if w[0] > now_s}
            self._purge_at = max(MAX_OWN_KEYS, 2 * len(self._windows))


N_SETS = 4096
SET_SIZE = 8
_KEY, _ENDS_AT, _CELLS = range(3)
_COUNT_BITS = 32


class SharedMemory:
    """Memory in which ``n_processes`` processes count, made before they are forked.

    A table of slots: the key's digest, when its window ends, and for each process a cell that it
    alone writes, so that nobody needs a lock. A cell holds the end of the window that it counts
    for, and the count.
    """

    def __init__(self, n_processes: int) -> None:
        self.n_processes = n_processes
        self.slot_words = _CELLS + n_processes
        self._memory = mmap.mmap(-1, N_SETS * SET_SIZE * self.slot_words * 8)
        self.words = memoryview(self._memory).cast("Q")


class SharedCounters:
    """The counters of processes that share memory, as one of them sees them.

    Two processes that count at the same instant may both find room for the last of a limit, which
    is then exceeded by one for each of them; and two keys that claim one slot at the same instant
    may lose what was counted until then. Where a key finds no slot, the process counts it for
    itself, against its part of the limit.

    Parameters
    ----------
    memory
        Made before this process was forked.
    index
        Which of the processes this is; one that replaces another has its index.
    """

    def __init__(self, memory: SharedMemory, index: int) -> None:
        self._words = memory.words
        self._slot_words = memory.slot_words
        self._index = index
        self._slots: dict[str, tuple[int, int]] = {}
        self._own = OwnCounters(memory.n_processes)

    def share(self, key: str, limit: int) -> int:
        """Return the whole limit, or this process's part where it counts for itself."""
        return limit if self._find(key) is not None else self._own.share(key, limit)

    def count(self, key: str) -> int:
        """Return the count of the window that is open, or 0."""
        slot = self._find(key)
        if slot is None:
            return self._own.count(key)
        ends_at_s = self._words[slot + _ENDS_AT]
        return 0 if ends_at_s <= time.time() else self._sum(slot, ends_at_s)

    def ends_at_s(self, key: str) -> int:
        """Return when the open window ends, in seconds since 1970, or 0."""
        slot = self._find(key)
        if slot is None:
            return self._own.ends_at_s(key)
        ends_at_s = self._words[slot + _ENDS_AT]
        return 0 if ends_at_s <= time.time() else ends_at_s

    def add(self, key: str, ends_at_s: int) -> None:
        """Count one more; a window that begins with it ends at ``ends_at_s``."""
        slot = self._find(key)
        if slot is None:
            self._own.add(key, ends_at_s)
            return
        words = self._words
        if words[slot + _ENDS_AT] <= time.time():
            words[slot + _ENDS_AT] = ends_at_s
        open_until_s = words[slot + _ENDS_AT]
        cell = slot + _CELLS + self._index
        if words[cell] >> _COUNT_BITS == open_until_s:
            words[cell] += 1
        else:
            words[cell] = (open_until_s << _COUNT_BITS) + 1

    def _sum(self, slot: int, ends_at_s: int) -> int:
        first = slot + _CELLS
        total = 0
        for cell in self._words[first : slot + self._slot_words]:
            if cell >> _COUNT_BITS == ends_at_s:
                total += cell & 0xFFFFFFFF
        return total

    def _find(self, key: str) -> int | None:
        """Return where a key's slot is, which is claimed if need be, or None."""
        known = self._slots.get(key)
        if known is not None and self._words[known[0]] == known[1]:
            return known[0]
        digest = int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") or 1
        first = digest % N_SETS * SET_SIZE * self._slot_words
        slots = range(first, first + SET_SIZE * self._slot_words, self._slot_words)
        found = next((slot for slot in slots if self._words[slot] == digest), None)
        if found is None:
            now_s = time.time()
            found = next((s for s in slots if self._words[s + _ENDS_AT] <= now_s), None)
            if found is None:
                return None
            self._words[found] = digest
        if len(self._slots) > MAX_OWN_KEYS:
            self._slots.clear()
        self._slots[key] = found, digest
        return found
