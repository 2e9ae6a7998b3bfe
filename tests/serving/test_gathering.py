"""Calls of compiled graphs in one turn of the event loop, with real graphs."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlserve_jupyter.api.signature import InputBatch
from mlserve_jupyter.artifacts.infer import infer_inputs
from mlserve_jupyter.artifacts.outputs import encode_output
from mlserve_jupyter.serving.call_queue import Answer
from mlserve_jupyter.serving.runtimes.compiled_runtime import OpenGraph
from mlserve_jupyter.serving.runtimes.gathering import Gathering
from mlserve_jupyter.serving.runtimes.session import CompiledModel
from tests.artifacts.test_compiling import compiled

pytestmark = pytest.mark.anyio

X, Y = load_breast_cancer(return_X_y=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def graph_of(model: Any, *, within_tolerance: bool = False) -> OpenGraph:
    found = compiled(model.fit(X, Y), X, within_tolerance=within_tolerance)
    return OpenGraph(CompiledModel(found.graph, found.record, infer_inputs(X)))


def rows(start: int, n: int) -> InputBatch:
    return InputBatch(n, rows=X[start : start + n].tolist())


async def in_one_turn(
    gathering: Gathering, graph: OpenGraph, method: str, batches: list[InputBatch]
) -> list[Answer | None]:
    settled: dict[int, Answer | None] = {}
    for i, batch in enumerate(batches):
        gathering.is_crowded()
        gathering.add(graph, method, batch, lambda answer, i=i: settled.update({i: answer}))
    assert not settled
    await asyncio.sleep(0)
    return [settled[i] for i in range(len(batches))]


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
async def test_calls_of_one_turn_are_answered_together_each_with_its_own_rows(method: str) -> None:
    model = RandomForestClassifier(20, random_state=0)
    graph = graph_of(model)
    batches = [rows(0, 1), rows(1, 3), rows(200, 1), rows(4, 2)]
    answers = await in_one_turn(Gathering(), graph, method, batches)
    for batch, answer in zip(batches, answers, strict=True):
        assert answer is not None
        assert answer.body == encode_output(getattr(model, method)(np.array(batch.rows)))
        assert answer.n_calls == 4


async def test_a_row_that_the_model_must_answer_takes_no_other_call_along() -> None:
    graph = graph_of(RandomForestClassifier(5, random_state=0))
    beyond = InputBatch(1, rows=[[1e39, *X[0, 1:].tolist()]])
    first, second, third = await in_one_turn(
        Gathering(), graph, "predict", [rows(0, 1), beyond, rows(1, 1)]
    )
    assert second is None
    assert first is not None
    assert third is not None


async def test_more_rows_than_go_at_once_go_one_after_the_other() -> None:
    model = RandomForestClassifier(5, random_state=0)
    graph = graph_of(model)
    batches = [rows(0, 500), rows(0, 500), rows(0, 500)]
    answers = await in_one_turn(Gathering(), graph, "predict", batches)
    assert [answer and answer.n_calls for answer in answers] == [2, 2, 1]
    expected = encode_output(model.predict(X[:500]))
    assert all(answer is not None and answer.body == expected for answer in answers)


async def test_calls_that_come_one_by_one_wait_for_nobody() -> None:
    gathering = Gathering()
    for _ in range(3):
        assert not gathering.is_crowded()
        await asyncio.sleep(0)
    assert not gathering.is_crowded()
    assert not gathering.is_crowded(), "this turn is not over yet"
    await asyncio.sleep(0)
    assert gathering.is_crowded(), "the turn before has brought two"
    await asyncio.sleep(0)
    assert not gathering.is_crowded()
    await asyncio.sleep(0)


def test_numbers_that_depend_on_company_are_answered_alone() -> None:
    linear = make_pipeline(StandardScaler(), LogisticRegression())
    graph = graph_of(linear, within_tolerance=True)
    assert graph.may_join("predict")
    assert not graph.may_join("predict_proba")
    assert not graph.may_join("transform")


async def test_a_graph_that_fails_leaves_its_calls_to_the_model() -> None:
    graph = graph_of(RandomForestClassifier(5, random_state=0))
    narrow = InputBatch(1, rows=[[1.0]])
    assert await in_one_turn(Gathering(), graph, "predict", [narrow, narrow]) == [None, None]
