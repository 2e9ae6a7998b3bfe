"""Room for what else an event loop has to do, between requests that come in crowds.

An event loop looks for news from its sockets once in a pass, and then works off whatever came.
Sixty-four predictions at once make a long pass, and a kernel's messages, which take several passes
through Jupyter's server, wait for each of them. With a few predictions a pass they wait for a few.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from inspect import iscoroutinefunction

from jupyter_server.services.kernels.kernelmanager import MappingKernelManager

STEPS_A_PASS = 4
"""Fewer cost more of the processor's time than they save of a kernel's waiting."""

LOOK_AGAIN_S = 1.0


class Turns:
    """Takes a few steps of requests in each pass of the loop.

    Parameters
    ----------
    is_needed
        Whether anybody else may be waiting: short passes cost predictions a fifth of their rate.
    """

    def __init__(self, is_needed: Callable[[], bool]) -> None:
        self._is_needed = is_needed
        self._waiting: deque[Callable[[], None]] = deque()
        self._n_taken = 0
        self._is_counting = False

    def take(self, step: Callable[[], None]) -> None:
        """Take a step now, or in the order of their asking when its turn has come."""
        if not self._is_counting:
            if not self._is_needed():
                step()
                return
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._begin_pass)
        if self._waiting or self._n_taken >= STEPS_A_PASS:
            self._waiting.append(step)
        else:
            self._n_taken += 1
            step()

    def _begin_pass(self) -> None:
        loop = asyncio.get_running_loop()
        self._is_counting = bool(self._waiting or self._n_taken)
        if not self._is_counting:
            return
        loop.call_soon(self._begin_pass)
        self._n_taken = min(len(self._waiting), STEPS_A_PASS)
        for _ in range(self._n_taken):
            # Each in a callback of its own, so that one that fails takes nobody with it.
            loop.call_soon(self._waiting.popleft())


class KernelsInUse:
    """Whether somebody is connected to a kernel of this server; looked up once a second.

    Parameters
    ----------
    kernel_manager
        Jupyter's; of one whose kernels run elsewhere, nothing is known (any object).
    """

    def __init__(self, kernel_manager: object) -> None:
        self._kernel_manager = kernel_manager
        self._known_until_s = 0.0
        self._in_use = False

    def __call__(self) -> bool:
        """Return what was found last, or look again."""
        now_s = time.monotonic()
        if now_s >= self._known_until_s:
            self._known_until_s = now_s + LOOK_AGAIN_S
            self._in_use = self._look()
        return self._in_use

    def _look(self) -> bool:
        manager = self._kernel_manager
        # A gateway's kernels are asked for over the network, and wait for nothing of this process.
        if not isinstance(manager, MappingKernelManager) or iscoroutinefunction(
            manager.list_kernels
        ):
            return False
        kernels = manager.list_kernels()  # type: ignore[no-untyped-call]
        return any(kernel["connections"] for kernel in kernels)
