"""Waiting for what comes about elsewhere, no longer than it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

STEP_S = 0.02


def wait_for(condition: Callable[[], object], timeout_s: float = 20.0) -> bool:
    """Return whether the condition holds within a time."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(STEP_S)
    return True


async def wait_in_loop_for(condition: Callable[[], object], timeout_s: float = 20.0) -> bool:
    """Return whether the condition holds within a time; the event loop goes on meanwhile."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline_s:
            return False
        await asyncio.sleep(STEP_S)
    return True
