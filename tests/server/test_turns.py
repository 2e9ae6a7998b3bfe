"""Requests that come in crowds leave room for what else the event loop has to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from jupyter_server.gateway.managers import GatewayMappingKernelManager
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

from mlserve_jupyter.server.turns import STEPS_A_PASS, KernelsInUse, Turns


async def passes_of(turns: Turns, n_steps: int) -> list[tuple[int, int]]:
    """Have steps ask at once; return in which pass of the loop each was taken, in order."""
    n_passes = 0
    taken: list[tuple[int, int]] = []

    def step(i: int) -> Callable[[], None]:
        return lambda: taken.append((n_passes, i))

    for i in range(n_steps):
        turns.take(step(i))
    while len(taken) < n_steps:
        n_passes += 1
        await asyncio.sleep(0)
    return taken


def test_a_few_steps_are_taken_in_each_pass_in_the_order_of_their_asking() -> None:
    taken = asyncio.run(passes_of(Turns(lambda: True), 5 * STEPS_A_PASS))
    passes = [n for n, _ in taken]
    assert [i for _, i in taken] == list(range(5 * STEPS_A_PASS))
    assert max(passes.count(n) for n in passes) == STEPS_A_PASS
    assert len(set(passes)) == 5


def test_all_are_taken_at_once_where_nobody_else_waits() -> None:
    taken = asyncio.run(passes_of(Turns(lambda: False), 20))
    assert {n for n, _ in taken} == {0}


def test_other_callbacks_come_between_the_steps() -> None:
    async def run() -> list[str]:
        turns, seen = Turns(lambda: True), []
        for _ in range(4 * STEPS_A_PASS):
            turns.take(lambda: seen.append("step"))
        done = asyncio.Event()

        def other() -> None:
            seen.append("other")
            if seen.count("other") < 4:
                asyncio.get_running_loop().call_soon(other)
            else:
                done.set()

        other()
        await done.wait()
        return seen

    seen = asyncio.run(run())
    assert seen.index("other") == STEPS_A_PASS
    assert seen.count("step") <= 4 * STEPS_A_PASS


def test_turns_are_over_once_nobody_waits_and_begin_again() -> None:
    async def again() -> list[int]:
        turns = Turns(lambda: True)
        counts = []
        for _ in range(3):
            taken = await passes_of(turns, 3 * STEPS_A_PASS)
            counts.append(len({n for n, _ in taken}))
            for _ in range(4):
                await asyncio.sleep(0)
        return counts

    assert asyncio.run(asyncio.wait_for(again(), 10)) == [3, 3, 3]


def test_a_step_that_fails_takes_nobody_with_it() -> None:
    async def run() -> tuple[int, list[object]]:
        failures: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))
        turns, n_taken = Turns(lambda: True), 0

        def step(i: int) -> None:
            nonlocal n_taken
            n_taken += 1
            if i == STEPS_A_PASS + 1:
                raise RuntimeError("a step fails")

        for i in range(3 * STEPS_A_PASS):
            turns.take(lambda i=i: step(i))  # type: ignore[misc]
        for _ in range(20):
            await asyncio.sleep(0)
        return n_taken, failures

    n_taken, failures = asyncio.run(run())
    assert n_taken == 3 * STEPS_A_PASS
    assert [str(failure) for failure in failures] == ["a step fails"]


def test_a_kernel_is_in_use_while_somebody_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlserve_jupyter.server.turns.LOOK_AGAIN_S", 0)

    async def run() -> list[bool]:
        manager = AsyncMappingKernelManager()  # type: ignore[no-untyped-call]
        in_use = KernelsInUse(manager)
        found = [in_use()]
        kernel_id = await manager.start_kernel(kernel_name="python3")
        try:
            found.append(in_use())
            manager.notify_connect(kernel_id)  # type: ignore[no-untyped-call]
            found.append(in_use())
            manager.notify_disconnect(kernel_id)  # type: ignore[no-untyped-call]
            found.append(in_use())
        finally:
            await manager.shutdown_all(now=True)
        return found

    assert asyncio.run(run()) == [False, False, True, False]


def test_kernels_that_run_elsewhere_are_not_asked_for() -> None:
    assert not KernelsInUse(object())()
    manager = GatewayMappingKernelManager()  # type: ignore[no-untyped-call]
    assert not KernelsInUse(manager)()
