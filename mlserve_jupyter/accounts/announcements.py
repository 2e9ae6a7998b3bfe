"""Says across processes and hosts that something has changed, through Redis where there is one.

An announcement carries nothing: who hears it asks the database. One that is lost is made up for by
the next time the database is asked anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

ACCOUNTS = "mlserve:accounts"
REGISTRY = "mlserve:registry"
"""The channels, by what has changed."""

TIMEOUT_S = 1.0
FIRST_WAIT_S = 0.1
LAST_WAIT_S = 2.0
HEALTH_S = 2.0
"""How long a connection may be silent before it is asked whether it is still one."""

_FAILURES = (RedisError, OSError, asyncio.TimeoutError)


class Announcements:
    """A Redis that tells the processes on one database of each other's changes.

    Parameters
    ----------
    url
        ``redis://``, ``rediss://`` or ``unix://``.
    channel
        What they tell each other of.
    """

    def __init__(self, url: str, channel: str) -> None:
        self._channel = channel
        self._client: Redis = Redis.from_url(
            url,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_away = False

    def listen(self, heard: Callable[[], None]) -> None:
        """Call ``heard`` at each announcement, and whenever one may have been missed."""
        self._spawn(asyncio.create_task(self._listen(heard)))

    def announce(self) -> None:
        """Send an announcement on its way; whether it arrives is not waited for."""
        self._spawn(asyncio.create_task(self._announce()))

    async def aclose(self) -> None:
        """Close the connections."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    def _spawn(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _announce(self) -> None:
        try:
            await asyncio.wait_for(self._client.publish(self._channel, b""), TIMEOUT_S)
        except _FAILURES as error:
            self._note_failure(error)

    async def _listen(self, heard: Callable[[], None]) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            pubsub = self._client.pubsub()
            try:
                await asyncio.wait_for(pubsub.subscribe(self._channel), TIMEOUT_S)
                self._is_away, wait_s = False, FIRST_WAIT_S
                heard()
                await self._hear(pubsub, heard)
            except Exception as error:
                # Whatever it is, the next announcement must be heard.
                self._note_failure(error)
            finally:
                with contextlib.suppress(Exception):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LAST_WAIT_S)

    async def _hear(self, pubsub: PubSub, heard: Callable[[], None]) -> None:
        while True:
            message = await pubsub.get_message(timeout=HEALTH_S)
            if message is None:
                # Where the network is broken, nothing else would ever say so.
                await asyncio.wait_for(pubsub.ping(), TIMEOUT_S)
                message = await pubsub.get_message(timeout=TIMEOUT_S)
                if message is None:
                    raise asyncio.TimeoutError(f"no answer within {TIMEOUT_S:g} s")
            if message["type"] == "message":
                heard()

    def _note_failure(self, error: BaseException) -> None:
        if not self._is_away:
            reason = str(error) or type(error).__name__
            log.warning("Redis is away; changes of others are seen a second later: %s", reason)
        self._is_away = True
