"""The cache in Redis, which several servers share and which outlives them.

Redis is never needed: away, slow or full, it only answers nothing. Nobody waits for it longer than
the time-out; after a few failures nobody asks it at all until it answers a ping in the background.
Nor is it believed: what is not signed by a server with the same secret counts as absent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from mlserve_jupyter.cache.signed_values import OVERHEAD_BYTES, SignedValues

log = logging.getLogger(__name__)

MAX_IN_FLIGHT = 32
"""Commands that run at once, each on its own connection; beyond that nothing is found or kept."""

MAX_VALUE_BYTES = 2**20
"""Larger values stay out of Redis, which would be busy with them for long; nor are they read."""

FAILURES_TO_OPEN = 3
FIRST_PING_S = 0.25
LAST_PING_S = 2.0
_COMMAND_TIMEOUT_S = 1.0

T = TypeVar("T")


class RedisCache:
    """A cache in Redis.

    Parameters
    ----------
    url
        ``redis://``, ``rediss://`` or ``unix://``.
    timeout_s
        How long a caller waits for an answer. The command itself may take a second, so that a slow
        connection is made once instead of being given up again and again.
    max_ttl_s
        How long what is found holds at most.
    secret
        What the servers that share values have in common, to tell theirs from anybody else's.
    """

    def __init__(self, url: str, timeout_s: float, *, max_ttl_s: float, secret: bytes) -> None:
        self._timeout_s = timeout_s
        self._max_ttl_s = max_ttl_s
        self._values = SignedValues(secret)
        self._client: Redis = Redis.from_url(
            url,
            socket_timeout=_COMMAND_TIMEOUT_S,
            socket_connect_timeout=_COMMAND_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._commands: set[asyncio.Task[object]] = set()
        self._n_failures = 0
        self._was_refused = False
        self._found_foreign = False
        self._pinging: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether Redis is asked at all at the moment."""
        return self._pinging is None and len(self._commands) < MAX_IN_FLIGHT

    def peek(self, key: str) -> bytes | None:
        """Return None: nothing is in this process's memory."""
        return None

    async def get(self, key: str) -> tuple[bytes, float] | None:
        """Return a value and for how many seconds it still holds, or None."""
        if not self.is_open:
            return None
        last = MAX_VALUE_BYTES + OVERHEAD_BYTES - 1
        command = self._start(self._client.getrange(key, 0, last))
        done, _ = await asyncio.wait({command}, timeout=self._timeout_s)
        if not done:
            self._note_failure(f"it did not answer within {self._timeout_s:g} s")
            return None
        stored = command.result()
        return self._verified(key, stored) if isinstance(stored, bytes) and stored else None

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Send a value on its way; whether it arrives is not waited for."""
        if self.is_open and len(value) <= MAX_VALUE_BYTES:
            signed = self._values.sign(key, value, time.time() + ttl_s)
            self._start(self._client.set(key, signed, px=max(1, int(ttl_s * 1e3))))

    async def aclose(self) -> None:
        """Close the connections."""
        running = [*self._commands, *([self._pinging] if self._pinging is not None else [])]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._client.aclose()

    def _verified(self, key: str, stored: bytes) -> tuple[bytes, float] | None:
        found = self._values.verify(key, stored)
        if found is None:
            if not self._found_foreign:
                log.warning(
                    "Redis has values that no server with this server's secret has written; they "
                    "are not used. Servers that share it need the same MLSERVE_JWT_SECRET."
                )
            self._found_foreign = True
            return None
        value, expires_at_s = found
        rest_s = min(expires_at_s - time.time(), self._max_ttl_s)
        return (value, rest_s) if rest_s > 0 else None

    def _start(self, command: Awaitable[T]) -> asyncio.Task[T | None]:
        task = asyncio.create_task(self._run(command))
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)
        return task

    async def _run(self, command: Awaitable[T]) -> T | None:
        try:
            result = await command
        except ResponseError as error:  # it is there, and full or read-only
            if not self._was_refused:
                log.warning("Redis refuses a command: %s", error)
            self._was_refused = True
            return None
        except Exception as error:
            # What comes over a broken connection may be anything, and nobody is to hear of it.
            self._note_failure(str(error) or type(error).__name__)
            return None
        self._n_failures = 0
        return result

    def _note_failure(self, reason: str) -> None:
        self._n_failures += 1
        if self._n_failures >= FAILURES_TO_OPEN and self._pinging is None:
            log.warning("Redis is left alone until it answers again: %s", reason)
            self._pinging = asyncio.create_task(self._ping_until_back())

    async def _ping_until_back(self) -> None:
        wait_s = FIRST_PING_S
        while True:
            await asyncio.sleep(wait_s)
            started = time.monotonic()
            try:
                await asyncio.wait_for(self._client.ping(), _COMMAND_TIMEOUT_S)
                if time.monotonic() - started <= self._timeout_s:
                    break
            except Exception as error:
                log.debug("Redis is still away: %r", error)
            wait_s = min(wait_s * 2, LAST_PING_S)
        log.warning("Redis answers again.")
        self._n_failures = 0
        self._pinging = None
