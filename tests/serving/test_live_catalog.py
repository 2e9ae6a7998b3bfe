"""What one process deploys, another one answers, also before it has looked by itself."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from mlserve_jupyter.errors import ModelNotFound, StorageUnavailable
from mlserve_jupyter.registry.catalog import Catalog
from mlserve_jupyter.serving.live_catalog import LiveCatalog


class CountingRegistry:
    """A registry whose epoch and reads are counted; one model's absence is all that it knows."""

    def __init__(self) -> None:
        self.now = 1
        self.asked = 0
        self.is_down = False

    def epoch(self) -> int:
        self.asked += 1
        if self.is_down:
            raise StorageUnavailable("It is down.")
        return self.now

    def snapshot(self) -> Catalog:
        return Catalog([], self.now)


def epoch_of_at_least(least: int) -> Any:
    def look_up(catalog: Catalog) -> int:
        if catalog.epoch < least:
            raise ModelNotFound("It is not there.")
        return catalog.epoch

    return look_up


def test_what_is_not_known_is_looked_for_in_the_database_before_it_is_not_found() -> None:
    async def run() -> None:
        registry: Any = CountingRegistry()
        catalog = LiveCatalog(registry, poll_s=60.0)
        registry.now = 2
        assert await catalog.find(epoch_of_at_least(2)) == 2
        assert registry.asked == 1
        assert await catalog.find(epoch_of_at_least(2)) == 2
        assert registry.asked == 1
        with pytest.raises(ModelNotFound):
            await catalog.find(epoch_of_at_least(3))
        await catalog.aclose()

    asyncio.run(run())


def test_a_thousand_unknown_names_share_their_questions_and_each_is_asked_after_it_came() -> None:
    async def run() -> None:
        registry: Any = CountingRegistry()
        catalog = LiveCatalog(registry, poll_s=60.0)
        waiting = [asyncio.create_task(catalog.find(epoch_of_at_least(2))) for _ in range(1000)]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, ModelNotFound) for result in results)
        assert registry.asked <= 2
        registry.now = 2
        assert await catalog.find(epoch_of_at_least(2)) == 2
        await catalog.aclose()

    asyncio.run(run())


def test_a_database_that_is_down_leaves_what_is_known() -> None:
    async def run() -> None:
        registry: Any = CountingRegistry()
        catalog = LiveCatalog(registry, poll_s=60.0)
        registry.is_down = True
        with pytest.raises(ModelNotFound):
            await catalog.find(epoch_of_at_least(2))
        assert await catalog.find(epoch_of_at_least(1)) == 1
        await catalog.aclose()

    asyncio.run(run())


def test_a_slow_read_from_before_a_change_does_not_undo_it() -> None:
    class SlowRegistry(CountingRegistry):
        def __init__(self) -> None:
            super().__init__()
            self.has_read, self.may_go_on = threading.Event(), threading.Event()

        def snapshot(self) -> Catalog:
            found = super().snapshot()
            if threading.current_thread() is not threading.main_thread() and self.now == 2:
                self.has_read.set()
                self.may_go_on.wait(30)
            return found

    async def run() -> None:
        registry: Any = SlowRegistry()
        catalog = LiveCatalog(registry, poll_s=60.0)
        registry.now = 2
        slow = asyncio.create_task(catalog.catch_up())
        await asyncio.to_thread(registry.has_read.wait, 30)
        registry.now = 3
        await catalog.changed()
        assert catalog.current.epoch == 3
        registry.may_go_on.set()
        await slow
        assert catalog.current.epoch == 3
        await catalog.aclose()

    asyncio.run(run())


def test_that_the_database_is_away_and_back_is_said_once_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        registry: Any = CountingRegistry()
        catalog = LiveCatalog(registry, poll_s=60.0)
        for is_down in (True, True, True, False, False):
            registry.is_down = is_down
            await catalog.catch_up()
        await catalog.aclose()

    asyncio.run(run())
    assert [record.message for record in caplog.records] == [
        "The registry does not answer; what is known is served: It is down.",
        "The registry answers again.",
    ]
