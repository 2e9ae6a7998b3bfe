"""What a cache is to those who use it: bytes by key, for a time, and never an error."""

from __future__ import annotations

from typing import Protocol


class Cache(Protocol):
    """A cache of immutable values: whatever it has for a key is right, for as long as it has it."""

    def peek(self, key: str) -> bytes | None:
        """Return a value that is in this process's memory, or None; never waits, never raises."""

    async def get(self, key: str) -> tuple[bytes, float] | None:
        """Return a value and for how many seconds it still holds, or None; never raises."""

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep a value for at most ``ttl_s`` seconds; never waits and never raises."""

    async def aclose(self) -> None:
        """Let go of connections and memory."""
