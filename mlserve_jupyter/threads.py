"""Threads of their own for two kinds of waiting, so that neither takes the other's.

What a prediction cannot be answered without has threads that nothing else uses. Reports, logs and
exports, which may read for long or hang with their database, have a few that others do not need.
Everything else that waits shares the event loop's own.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from mlserve_jupyter.errors import Overloaded

T = TypeVar("T")

N_ANSWERING = 8
N_READING = 4
MAX_READS = 32
"""Reads under way or waiting; more are refused at once rather than after everybody else's."""

_answering = ThreadPoolExecutor(N_ANSWERING, "mlserve-answering")
_reading = ThreadPoolExecutor(N_READING, "mlserve-reading")
_n_reads = 0


async def in_answering_thread(call: Callable[..., T], *arguments: Any) -> T:
    """Call what a prediction waits for, in the context of who waits.

    The arguments are those of ``call``, hence ``Any``.
    """
    return await _call(_answering, functools.partial(call, *arguments))


async def in_reading_thread(
    call: Callable[..., T], *arguments: Any, goes_on: bool = False, **options: Any
) -> T:
    """Call what reads a report or a log, in the context of who asks.

    The arguments are those of ``call``, hence ``Any``.

    Parameters
    ----------
    goes_on
        Whether this is a further part of an answer that has begun: never refused.

    Raises
    ------
    Overloaded
        So many read already that this one would wait for long.
    """
    global _n_reads
    if _n_reads >= MAX_READS and not goes_on:
        raise Overloaded(
            f"{MAX_READS} reports and logs are being read already: try again in a few seconds.",
            retry_after_s=2,
        )
    _n_reads += 1
    try:
        return await _call(_reading, functools.partial(call, *arguments, **options))
    finally:
        _n_reads -= 1


async def _call(threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(threads, context.run, call)
