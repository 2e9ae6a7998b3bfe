"""Answers that were computed before: whose they may be, when they are used, and what they cost."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlserve_jupyter.api.decode import InputDecoder
from mlserve_jupyter.api.resources import Verification
from mlserve_jupyter.api.signature import Column, InputBatch, InputSpec, Signature
from mlserve_jupyter.cache.memory import MemoryCache
from mlserve_jupyter.errors import Overloaded
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.serving.cache_worth import MEASURE_EVERY, CacheWorth
from mlserve_jupyter.serving.call_queue import Answer
from mlserve_jupyter.serving.predict import model_ref
from mlserve_jupyter.serving.replies import Reply
from mlserve_jupyter.serving.result_cache import ResultCache, input_digest
from mlserve_jupyter.serving.workers import Environment, WorkerPool
from mlserve_jupyter.settings import Settings
from tests import toys
from tests.serving.versions import served

MIB = 2**20


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def environment(tmp_path: Path) -> AsyncIterator[Environment]:
    pool = WorkerPool(Settings(data_dir=tmp_path, workers_per_environment=1), tmp_path / "log")
    yield pool.environment(sys.executable)
    await pool.aclose()


@pytest.fixture
async def results() -> AsyncIterator[ResultCache]:
    cache = ResultCache(MemoryCache(64 * MIB), ttl_s=60.0)
    yield cache
    await cache.aclose()


async def answered(
    results: ResultCache,
    version: ServedVersion,
    method: str,
    batch: InputBatch,
    n_bytes: int,
    compute: Callable[[], Awaitable[Answer]],
) -> Answer:
    return await results.answer(results.ask(version, method, batch, n_bytes), batch, compute)


class Caller:
    """Calls versions in a real worker, through the cache; ``n_computed`` counts what ran there."""

    def __init__(self, results: ResultCache, environment: Environment) -> None:
        self.results = results
        self.environment = environment
        self.n_computed = 0

    async def __call__(self, version: ServedVersion, *values: float) -> Answer:
        batch = toys.rows(*values)

        async def compute() -> Answer:
            self.n_computed += 1
            return await self.environment.call(model_ref(version), "predict", batch, 20.0)

        return await answered(self.results, version, "predict", batch, 100, compute)


@pytest.fixture
def call(results: ResultCache, environment: Environment) -> Caller:
    return Caller(results, environment)


pytestmark = pytest.mark.anyio


async def test_an_equal_call_is_answered_without_the_model_byte_for_byte(
    call: Caller, tmp_path: Path
) -> None:
    version = served(toys.write_model(toys.SumModel(), tmp_path))
    first, second, other = [await call(version, *v) for v in ([0.1, 2.0], [0.1, 2.0], [0.1, 3.0])]
    assert (first.cached, second.cached, other.cached) == (False, True, False)
    assert second.body == first.body == b"[0.1,2.0]"
    assert call.n_computed == 2
    [use] = call.results.describe(version)
    assert (use.n_hits, use.n_misses, use.n_bypassed, use.used) == (1, 2, 0, True)


async def test_the_key_holds_everything_that_an_answer_depends_on(
    call: Caller, tmp_path: Path
) -> None:
    version = served(toys.write_model(toys.SumModel(), tmp_path))
    await call(version, 1.0)
    float32 = replace(
        version.signature.inputs, columns=(Column("x0", "float", "float32"),), dtype="float32"
    )
    for other in (
        served(toys.write_model(toys.PidModel(), tmp_path)),
        replace(version, id="2", signature=Signature(float32)),
        replace(version, id="3", owner_id="owner-2"),
        replace(version, runtime="onnx"),
        replace(version, id="4", runtime="onnx"),
        replace(version, id="5", runtime="onnx"),
    ):
        assert not (await call(other, 1.0)).cached
    again = replace(version, id="6", version=6)
    assert (await call(again, 1.0)).cached, "the same artifact, deployed again as it was"


@pytest.mark.parametrize(
    ("verification", "refusal"),
    [
        (Verification(verified=False), "not_verified"),
        (Verification(verified=True, methods=["transform"]), "not_verified"),
        (
            Verification(verified=True, methods=["predict"], not_deterministic=["predict"]),
            "not_deterministic",
        ),
    ],
)
async def test_answers_that_may_change_are_never_kept(
    environment: Environment, tmp_path: Path, verification: Verification, refusal: str
) -> None:
    call = Caller(ResultCache(MemoryCache(MIB), ttl_s=60.0, always=True), environment)
    ref = toys.write_model(toys.CountingModel(), tmp_path)
    version = served(ref, verification=verification)
    answers = [await call(version, 1.0) for _ in range(3)]
    assert [json.loads(answer.body) for answer in answers] == [[1], [2], [3]]
    [use] = call.results.describe(version)
    assert (use.used, use.refusal, use.n_bypassed) == (False, refusal, 3)


async def test_errors_are_never_kept(call: Caller, tmp_path: Path) -> None:
    version = served(toys.write_model(toys.ErrorModel(), tmp_path))
    for _ in range(2):
        answer = await call(version, 0.0)
        assert answer.error is not None
        assert not answer.cached
    assert call.n_computed == 2


async def test_equal_calls_at_once_are_computed_once(call: Caller, tmp_path: Path) -> None:
    version = served(toys.write_model(toys.SleepModel(), tmp_path))
    answers = await asyncio.gather(*(call(version, 0.1) for _ in range(20)))
    assert {answer.body for answer in answers} == {b"[0.1]"}
    assert sum(not answer.cached for answer in answers) == 1
    assert call.n_computed == 1


async def test_a_caller_that_gives_up_takes_nobody_along(call: Caller, tmp_path: Path) -> None:
    version = served(toys.write_model(toys.SleepModel(), tmp_path))
    first = asyncio.create_task(call(version, 0.2))
    await asyncio.sleep(0.05)
    others = [asyncio.create_task(call(version, 0.2)) for _ in range(3)]
    await asyncio.sleep(0.05)
    first.cancel()
    others[0].cancel()
    assert [(await task).body for task in others[1:]] == [b"[0.2]"] * 2
    assert call.n_computed == 2, "one of those who waited computes for all"


async def test_an_error_reaches_all_who_wait_and_the_next_call_computes(
    results: ResultCache, tmp_path: Path
) -> None:
    version = served(toys.write_model(toys.SumModel(), tmp_path))
    n_computed = 0

    async def refuse() -> Answer:
        nonlocal n_computed
        n_computed += 1
        await asyncio.sleep(0.01)
        raise Overloaded("full")

    async def ask() -> Answer:
        return await answered(results, version, "predict", toys.rows(1.0), 10, refuse)

    answers = await asyncio.gather(*(ask() for _ in range(5)), return_exceptions=True)
    assert all(isinstance(answer, Overloaded) for answer in answers)
    assert n_computed == 1
    with pytest.raises(Overloaded):
        await ask()
    assert n_computed == 2


@pytest.mark.parametrize("columns", [None, [], ["a", "b"], ["ä\x00"]])
@pytest.mark.parametrize("body", [b"[1.0]", b"[" * 100_000 + b"]" * 100_000, b'["\xc3\xa4"]'])
async def test_an_answer_comes_back_as_it_was_whatever_is_in_it(
    columns: list[str] | None, body: bytes, tmp_path: Path
) -> None:
    results = ResultCache(MemoryCache(64 * MIB), ttl_s=60.0, always=True)
    version = served(toys.write_model(toys.SumModel(), tmp_path))

    async def compute() -> Answer:
        return Answer(Reply(), body, columns, None, 0.0, 1)

    answers = [
        await answered(results, version, "predict", toys.rows(1.0), 10, compute) for _ in range(2)
    ]
    assert [answer.cached for answer in answers] == [False, True]
    assert [(answer.body, answer.columns) for answer in answers] == [(body, columns)] * 2


async def test_a_model_that_computes_faster_than_a_look_up_is_left_alone_and_looked_at_again(
    results: ResultCache, tmp_path: Path
) -> None:
    version = served(toys.write_model(toys.SumModel(), tmp_path))
    quick = Answer(Reply(), b"[1.0]", None, None, 0.0, 1)

    async def compute() -> Answer:
        return quick

    for i in range(MEASURE_EVERY * 10):
        await answered(results, version, "predict", toys.rows(float(i)), 10, compute)
    [use] = results.describe(version)
    assert (use.used, use.refusal) == (False, "cheap")
    assert use.n_misses < 30
    assert use.n_misses >= 10, "it is measured again now and then"
    assert use.lookup_ms is not None
    assert use.compute_ms is not None
    assert use.compute_ms * 0.1 < use.lookup_ms


async def test_the_cache_can_be_used_whatever_it_costs(tmp_path: Path) -> None:
    results = ResultCache(MemoryCache(MIB), ttl_s=60.0, always=True)
    version = served(toys.write_model(toys.SumModel(), tmp_path))

    async def compute() -> Answer:
        return Answer(Reply(), b"[1.0]", None, None, 0.0, 1)

    for i in range(500):
        await answered(results, version, "predict", toys.rows(float(i % 250)), 10, compute)
    [use] = results.describe(version)
    assert (use.used, use.n_hits, use.n_misses) == (True, 250, 250)


def test_look_ups_pay_where_what_hits_save_is_more_than_what_all_look_ups_cost() -> None:
    def decided(lookup_s: float, compute_s: float, hits: int) -> bool:
        worth = CacheWorth()
        for i in range(300):
            worth.wants_lookup()
            worth.note_lookup(lookup_s, hit=i % 10 < hits)
            worth.compute.add(compute_s)
        return worth.pays

    assert decided(5e-6, 1e-3, hits=0)
    assert not decided(3e-4, 1e-3, hits=0), "a slow look-up for inputs that do not come again"
    assert decided(3e-4, 1e-3, hits=8)
    assert not decided(5e-6, 4e-6, hits=10)


def test_one_slow_moment_decides_nothing() -> None:
    worth = CacheWorth()
    for i in range(100):
        worth.wants_lookup()
        worth.note_lookup(1.0 if i % 10 == 0 else 5e-6, hit=False)
        worth.compute.add(1e-3)
        assert worth.pays


def batch_of(*values: Any) -> InputBatch:
    return InputBatch(n_rows=1, rows=[list(values)])


def test_the_digest_keeps_apart_what_a_model_could() -> None:
    values = [
        1,
        1.0,
        True,
        "1",
        None,
        math.nan,
        0.0,
        -0.0,
        2**53 + 1,
        float(2**53),
        2**70,
        -(2**70),
    ]
    digests = {input_digest(batch_of(value)) for value in values}
    assert len(digests) == len(values)
    assert None not in digests
    assert input_digest(batch_of([1.0], [2.0])) != input_digest(batch_of([1.0, 2.0]))
    shapes = [InputBatch(1, columns=[[1.0], [2.0]]), InputBatch(2, columns=[[1.0, 2.0]])]
    assert input_digest(shapes[0]) != input_digest(shapes[1])


def test_what_has_no_canonical_form_has_no_digest() -> None:
    assert input_digest(batch_of(object())) is None
    assert input_digest(batch_of(2**70, np.arange(3))) is None


def test_bodies_that_mean_the_same_have_one_digest() -> None:
    spec = InputSpec(
        container="dataframe",
        shape=(None, 2),
        columns=(Column("size", "float", "float64"), Column("city", "string", "object")),
    )
    decoder = InputDecoder(spec, "refuse")
    bodies = [
        ('{"instances": [[1.5, "Bern"], [2, "Genève"]]}', ""),
        ('{"instances":[[1.5,"Bern"],[2.0,"Gen\\u00e8ve"]]}', "application/json"),
        ('{"inputs": {"city": ["Bern", "Genève"], "size": [1.5, 2]}}', ""),
        ('{"dataframe_split": {"columns": ["city", "size"], '
         '"data": [["Bern", 1.5], ["Genève", 2]]}}', ""),
        ('{"dataframe_records": [{"city": "Bern", "size": 1.5}, {"size": 2, "city": "Genève"}]}',
         ""),
        ("city,size\nBern,1.5\nGenève,2\n", "text/csv"),
    ]  # fmt: skip
    digests = {input_digest(decoder.decode(body.encode(), kind)) for body, kind in bodies}
    assert len(digests) == 1
