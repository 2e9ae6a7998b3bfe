"""Reads wait in threads of their own, and not without end."""

from __future__ import annotations

import asyncio
import threading

import pytest

from mlserve_jupyter.errors import Overloaded
from mlserve_jupyter.threads import MAX_READS, in_answering_thread, in_reading_thread


def test_reads_that_hang_are_refused_beyond_a_number_and_hold_up_nothing_else() -> None:
    release = threading.Event()

    async def read_many() -> None:
        try:
            reads = [
                asyncio.ensure_future(in_reading_thread(release.wait)) for _ in range(MAX_READS)
            ]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="try again in a few seconds") as refused:
                await in_reading_thread(release.wait)
            assert refused.value.retry_after_s == 2
            further = asyncio.ensure_future(in_reading_thread(release.is_set, goes_on=True))
            assert await in_answering_thread(int, "1") == 1
            assert await asyncio.to_thread(int, "1") == 1
            assert not any(read.done() for read in [*reads, further])
        finally:
            release.set()
        assert all(await asyncio.gather(*reads, further))
        assert await in_reading_thread(int, "1") == 1

    asyncio.run(read_many())


def test_a_read_that_fails_makes_room_for_the_next() -> None:
    async def fail_often() -> None:
        for _ in range(MAX_READS + 1):
            with pytest.raises(ValueError, match="invalid literal"):
                await in_reading_thread(int, "none")

    asyncio.run(fail_often())
