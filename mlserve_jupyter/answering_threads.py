"""Threads for what a prediction cannot be answered without.

Everything else that waits shares the event loop's own threads, where reports, exports and whatever
hangs may take all of them; predictions go on beside that.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

N_THREADS = 8

_threads = ThreadPoolExecutor(N_THREADS, "mlserve-answering")


async def in_answering_thread(call: Callable[..., T], *arguments: Any) -> T:
    """Call what a prediction waits for, in the context of who waits.

    The arguments are those of ``call``, hence ``Any``.
    """
    context = contextvars.copy_context()
    bound = functools.partial(context.run, call, *arguments)
    return await asyncio.get_running_loop().run_in_executor(_threads, bound)
