"""The catalog in memory, kept up to date with what any process writes to the registry."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from mlserve_jupyter.errors import MLServeError
from mlserve_jupyter.registry.catalog import Catalog

if TYPE_CHECKING:
    from mlserve_jupyter.registry.registry import Registry

log = logging.getLogger(__name__)


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
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for changes."""
        self._task = asyncio.create_task(self._poll())

    async def refresh(self) -> None:
        """Read the catalog anew."""
        self.current = await asyncio.to_thread(self._registry.snapshot)

    async def aclose(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                if await asyncio.to_thread(self._registry.epoch) != self.current.epoch:
                    await self.refresh()
            except MLServeError as error:
                log.warning("The registry does not answer; what is known is served: %s", error)
