"""Calls that are answered together: when, in which order, and what a bad one among them does."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlserve_jupyter.api.signature import InputBatch
from mlserve_jupyter.errors import DeadlineExceeded, Overloaded, WorkerDied
from mlserve_jupyter.serving import call_queue
from mlserve_jupyter.serving.call_queue import Answer
from mlserve_jupyter.serving.independence import answers_row_by_row
from mlserve_jupyter.serving.protocol import ModelRef
from mlserve_jupyter.serving.workers import Environment, WorkerPool
from mlserve_jupyter.settings import Settings
from tests import toys

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, workers_per_environment=1, max_batch_rows=64)


@pytest.fixture
async def environment(settings: Settings, tmp_path: Path) -> AsyncIterator[Environment]:
    pool = WorkerPool(settings, tmp_path / "log")
    yield pool.environment(sys.executable)
    await pool.aclose()


async def call(
    environment: Environment, ref: ModelRef, *values: float, may_join: bool = True, **options: Any
) -> Answer:
    options = {"timeout_s": 20.0, **options}
    return await environment.call(ref, "predict", toys.rows(*values), may_join=may_join, **options)


async def behind_a_blocker(
    environment: Environment, blocker: ModelRef, *calls: Any, seconds: float = 0.2
) -> list[Any]:
    """Start ``calls`` while the worker is busy, so that they wait for it together."""
    await call(environment, blocker, 0.0)
    blocking = asyncio.create_task(call(environment, blocker, seconds, may_join=False))
    await asyncio.sleep(0.05)
    results = await asyncio.gather(*calls, return_exceptions=True)
    await blocking
    return list(results)


async def test_calls_that_wait_for_one_model_are_answered_together_each_with_its_own(
    environment: Environment, tmp_path: Path
) -> None:
    slow = toys.write_model(toys.SleepModel(), tmp_path)
    ref = toys.write_model(toys.SumModel(), tmp_path)
    await call(environment, ref, 0.0)
    calls = [call(environment, ref, *[float(i)] * (i % 3 + 1)) for i in range(20)]
    answers = await behind_a_blocker(environment, slow, *calls)
    assert [json.loads(a.body) for a in answers] == [[float(i)] * (i % 3 + 1) for i in range(20)]
    assert {answer.n_calls for answer in answers} == {20}


@pytest.mark.parametrize(("took_s", "sizes"), [(0.0, {256, 512, 132}), (0.6, {256, 132})])
async def test_of_quick_answers_more_go_together_when_many_wait(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    took_s: float,
    sizes: set[int],
) -> None:
    monkeypatch.setattr(call_queue, "QUICK_BATCH_S", 0.5)
    monkeypatch.setattr(call_queue, "SLOW_BATCH_S", 2.0)
    pool = WorkerPool(replace(settings, max_batch_rows=1000), tmp_path / "log")
    environment = pool.environment(sys.executable)
    slow = toys.write_model(toys.SleepModel(), tmp_path)
    ref = toys.write_model(toys.SleepModel(), tmp_path)
    calls = [call(environment, ref, took_s) for _ in range(900)]
    answers = await behind_a_blocker(environment, slow, *calls)
    await pool.aclose()
    assert {json.loads(answer.body)[0] for answer in answers} == {took_s}
    assert {answer.n_calls for answer in answers} == sizes


async def test_one_call_alone_waits_for_no_company(
    environment: Environment, tmp_path: Path
) -> None:
    ref = toys.write_model(toys.SumModel(), tmp_path)
    assert [(await call(environment, ref, 1.0)).n_calls for _ in range(3)] == [1, 1, 1]


async def test_a_batch_has_at_most_the_rows_that_are_set(
    environment: Environment, tmp_path: Path
) -> None:
    slow = toys.write_model(toys.SleepModel(), tmp_path)
    ref = toys.write_model(toys.SumModel(), tmp_path)
    await call(environment, ref, 0.0)
    calls = [call(environment, ref, *[1.0] * 30) for _ in range(5)]
    answers = await behind_a_blocker(environment, slow, *calls)
    assert [answer.n_calls for answer in answers] == [2, 2, 2, 2, 1]


async def test_calls_that_may_not_join_are_answered_alone(
    environment: Environment, tmp_path: Path
) -> None:
    slow = toys.write_model(toys.SleepModel(), tmp_path)
    ref = toys.write_model(toys.SumModel(), tmp_path)
    await call(environment, ref, 0.0)
    calls = [call(environment, ref, 1.0, may_join=False) for _ in range(4)]
    answers = await behind_a_blocker(environment, slow, *calls)
    assert [answer.n_calls for answer in answers] == [1] * 4


async def test_one_bad_call_of_a_batch_fails_alone(
    environment: Environment, tmp_path: Path
) -> None:
    slow = toys.write_model(toys.SleepModel(), tmp_path)
    ref = toys.write_model(toys.FailsOn13(), tmp_path)
    await call(environment, ref, 0.0)
    values = [1.0, 13.0, 2.0]
    answers = await behind_a_blocker(
        environment, slow, *(call(environment, ref, value) for value in values)
    )
    assert [a.error.message if a.error else json.loads(a.body) for a in answers] == [
        [1.0],
        "thirteen",
        [2.0],
    ]


async def test_a_call_that_kills_the_worker_takes_none_of_its_batch_along(
    environment: Environment, tmp_path: Path
) -> None:
    slow = toys.write_model(toys.SleepModel(), tmp_path)
    ref = toys.write_model(toys.KillAny13(), tmp_path)
    await call(environment, ref, 0.0)
    values = [1.0, 2.0, 13.0, 3.0]
    answers = await behind_a_blocker(
        environment, slow, *(call(environment, ref, value) for value in values)
    )
    assert isinstance(answers.pop(2), WorkerDied)
    assert [json.loads(answer.body) for answer in answers] == [[1.0], [2.0], [3.0]]


async def test_a_call_that_was_given_up_never_reaches_the_model(
    environment: Environment, tmp_path: Path
) -> None:
    slow = toys.write_model(toys.SleepModel(), tmp_path)
    ref = toys.write_model(toys.CountingModel(), tmp_path)
    await call(environment, ref, 0.0)
    await call(environment, slow, 0.0)
    blocking = asyncio.create_task(call(environment, slow, 0.4, may_join=False))
    await asyncio.sleep(0.05)
    with pytest.raises(DeadlineExceeded):
        await call(environment, ref, 1.0, timeout_s=0.05)
    gone = asyncio.create_task(call(environment, ref, 1.0))
    await asyncio.sleep(0.05)
    gone.cancel()
    await blocking
    assert json.loads((await call(environment, ref, 1.0)).body) == [2]


async def test_models_take_turns(environment: Environment, tmp_path: Path) -> None:
    slow = toys.write_model(toys.SleepModel(), tmp_path)
    busy = toys.write_model(toys.SumModel(), tmp_path)
    other = toys.write_model(toys.SumModel(), tmp_path)
    for ref in (busy, other):
        await call(environment, ref, 0.0)
    order: list[str] = []

    async def noted(name: str, ref: ModelRef) -> None:
        await call(environment, ref, 1.0, may_join=False)
        order.append(name)

    calls = [noted("busy", busy) for _ in range(5)] + [noted("other", other)]
    await behind_a_blocker(environment, slow, *calls)
    assert order.index("other") == 1


@pytest.mark.parametrize("bound", [{"max_queue_rows": 100}, {"max_queue_bytes": 1000}])
async def test_a_queue_is_bounded_in_rows_and_bytes(
    settings: Settings, tmp_path: Path, bound: dict[str, int]
) -> None:
    pool = WorkerPool(replace(settings, **bound), tmp_path / "log")  # type: ignore[arg-type]
    environment = pool.environment(sys.executable)
    slow = toys.write_model(toys.SleepModel(), tmp_path)
    ref = toys.write_model(toys.SumModel(), tmp_path)
    calls = [call(environment, ref, *[1.0] * 40, n_bytes=400) for _ in range(3)]
    answers = await behind_a_blocker(environment, slow, *calls)
    assert [isinstance(answer, Overloaded) for answer in answers] == [False, False, True]
    await pool.aclose()


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (lambda X: X.sum(axis=1), True),
        (lambda X: X[:, 0] - X[:, 0].mean(), False),
        (lambda X: X.sum(), False),
        (lambda X: np.arange(len(X)), False),
        (lambda X: (X * 2, X.sum(axis=1)), True),
        (lambda X: 1 / 0 if len(X) < 3 else X, False),
        (lambda X: 1 / 0 if len(X) > 900 else X, False),
        (lambda X: X + (len(X) > 900), False),
    ],
    ids=[
        "by row",
        "centred",
        "one number",
        "by position",
        "parts",
        "fails on few",
        "fails on many",
        "other of many",
    ],
)
def test_a_model_whose_answers_depend_on_other_rows_is_recognised(
    method: Any, expected: bool
) -> None:
    batch = toys.rows(1.0, 2.0, 4.0, 8.0, 16.0)
    assert answers_row_by_row(method, toys.ONE_FEATURE, batch) is expected


def test_a_sample_of_one_row_proves_nothing() -> None:
    assert not answers_row_by_row(lambda X: X, toys.ONE_FEATURE, InputBatch(1, rows=[[1.0]]))
