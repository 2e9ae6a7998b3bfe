"""The catalog in memory, kept up to date with what any process writes to the registry."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, TypeVar

from mlserve_jupyter.errors import MLServeError, NotFound
from mlserve_jupyter.registry.catalog import Catalog
from mlserve_jupyter.threads import in_answering_thread

if TYPE_CHECKING:
    from mlserve_jupyter.accounts.announcements import Announcements
    from mlserve_jupyter.registry.registry import Registry

log = logging.getLogger(__name__)

T = TypeVar("T")

CATCH_UP_INTERVAL_S = 0.1
"""Look-ups of what is not there ask the database no more often than this."""


class LiveCatalog:
    """The newest known catalog.

    Parameters
    ----------
    registry
        What it is read from.
    poll_s
        How often it is asked for changes that other processes made.

    Attributes
    ----------
    current
        The catalog; reading it touches memory only.
    """

    def __init__(self, registry: Registry, poll_s: float) -> None:
        self.current: Catalog = registry.snapshot()
        self._registry = registry
        self._poll_s = poll_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._checking = asyncio.Lock()
        self._n_begun = self._n_taken = 0
        self._catching_up: asyncio.Task[None] | None = None
        self._caught_up_at_s = 0.0
        self._announcements: Announcements | None = None
        self._heard = asyncio.Event()
        self._is_away = False

    def start(self, announcements: Announcements | None = None) -> None:
        """Begin to look for changes.

        Parameters
        ----------
        announcements
            Through which processes tell each other of changes; closed with this catalog. None
            where there is no Redis.
        """
        self._announcements = announcements
        self._spawn(self._poll())
        if announcements is not None:
            announcements.listen(self._heard.set)
            self._spawn(self._listen())

    async def changed(self) -> None:
        """Read what this process has changed, and tell the others."""
        await self._refresh()
        if self._announcements is not None:
            self._announcements.announce()

    async def find(self, look_up: Callable[[Catalog], T]) -> T:
        """Look something up; what is not there may have been deployed by another process just now.

        Raises
        ------
        NotFound
            If the database does not know it either.
        """
        try:
            return look_up(self.current)
        except NotFound:
            epoch = self.current.epoch
            await self.catch_up()
            if self.current.epoch == epoch:
                raise
        return look_up(self.current)

    async def catch_up(self) -> None:
        """Wait for a check of the registry that begins after now; all who wait share one."""
        if self._catching_up is None:
            self._catching_up = self._spawn(self._check_soon())
        await asyncio.shield(self._catching_up)

    async def aclose(self) -> None:
        """Stop looking."""
        if self._announcements is not None:
            await self._announcements.aclose()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[object, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _check_soon(self) -> None:
        await asyncio.sleep(self._caught_up_at_s + CATCH_UP_INTERVAL_S - time.monotonic())
        async with self._checking:
            self._caught_up_at_s = time.monotonic()
            self._catching_up = None  # whoever asks from here on needs a check of their own
            await self._check()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            async with self._checking:
                await self._check()

    async def _listen(self) -> None:
        while True:
            await self._heard.wait()
            self._heard.clear()
            await self.catch_up()

    async def _refresh(self) -> None:
        """Read the registry; what was begun to be read before the current catalog is older."""
        self._n_begun += 1
        n = self._n_begun
        found = await in_answering_thread(self._registry.snapshot)
        if n > self._n_taken:
            self._n_taken = n
            self.current = found

    async def _check(self) -> None:
        try:
            if await in_answering_thread(self._registry.epoch) != self.current.epoch:
                await self._refresh()
        except MLServeError as error:
            if not self._is_away:
                log.warning("The registry does not answer; what is known is served: %s", error)
            self._is_away = True
            return
        if self._is_away:
            log.warning("The registry answers again.")
        self._is_away = False
