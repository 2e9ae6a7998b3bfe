"""Models that harm: their own process may suffer, nobody else's answers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlserve_jupyter.errors import DeadlineExceeded, WorkerDied, WorkerOutOfMemory
from mlserve_jupyter.serving.call_queue import Answer
from mlserve_jupyter.serving.protocol import ModelRef
from mlserve_jupyter.serving.workers import Environment, WorkerPool
from mlserve_jupyter.settings import Settings
from tests import toys
from tests.serving.test_workers import wait_until_dead

pytestmark = pytest.mark.anyio

MIB = 2**20


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path,
        workers_per_environment=1,
        worker_memory_bytes=500 * MIB,
        load_timeout_s=5.0,
        max_answer_bytes=MIB,
    )


@pytest.fixture
async def environment(settings: Settings, tmp_path: Path) -> AsyncIterator[Environment]:
    pool = WorkerPool(settings, tmp_path / "log")
    yield pool.environment(sys.executable)
    await pool.aclose()


async def call(
    environment: Environment, ref: ModelRef, *values: float, timeout_s: float = 20.0
) -> Answer:
    return await environment.call(ref, "predict", toys.rows(*values), timeout_s)


async def test_a_model_that_forks_answers_once_and_others_keep_their_answers(
    environment: Environment, tmp_path: Path
) -> None:
    forking = toys.write_model(toys.ForkAnswerModel(), tmp_path)
    victim = toys.write_model(toys.SumModel(), tmp_path)
    assert json.loads((await call(environment, forking, 6.0)).body) == [6.0]
    for value in (11.0, 12.0, 13.0):
        assert json.loads((await call(environment, victim, value)).body) == [value]


@pytest.mark.parametrize(
    ("value", "kind", "name", "message"),
    [
        (0.0, "rejected", "ValueError", r"unknown kind \ud800"),
        (1.0, "predict", "Mute", "(it cannot be shown: RuntimeError)"),
        (2.0, "predict", "Last", "(it cannot be shown: SystemExit)"),
    ],
)
async def test_an_error_that_has_no_words_is_told_by_the_worker_that_goes_on(
    environment: Environment, tmp_path: Path, value: float, kind: str, name: str, message: str
) -> None:
    model = toys.write_model(toys.UnshowableModel(), tmp_path)
    answer = await call(environment, model, value)
    assert answer.error is not None
    assert (answer.error.kind, answer.error.type, answer.error.message) == (kind, name, message)
    assert environment.slots[0].n_replaced == 0


async def test_names_of_columns_that_are_no_text_leave_the_worker_alive(
    environment: Environment, tmp_path: Path
) -> None:
    model = toys.write_model(toys.HalfNamedModel(), tmp_path)
    assert (await call(environment, model, 1.0)).columns == [r"a\ud800", "“b” 😀"]
    assert environment.slots[0].n_replaced == 0


async def test_what_hides_in_a_session_of_its_own_dies_with_its_worker(
    environment: Environment, tmp_path: Path
) -> None:
    ref = toys.write_model(toys.SetsidModel(), tmp_path)
    [grandchild] = json.loads((await call(environment, ref, 1.0)).body)
    worker = environment.slots[0].worker
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    await wait_until_dead(grandchild)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited through Linux's own means")
@pytest.mark.parametrize("mib", [900.0, -300.0], ids=["shared memory", "children"])
async def test_shared_memory_and_children_count_towards_the_limit(
    environment: Environment, tmp_path: Path, mib: float
) -> None:
    ref = toys.write_model(toys.SharedMemoryModel(), tmp_path)
    await call(environment, ref, 0.0)
    with pytest.raises(WorkerOutOfMemory):
        await call(environment, ref, mib)
    assert json.loads((await call(environment, ref, 0.0)).body) == [0.0]


@pytest.mark.parametrize("forged", [1.0, 2.0], ids=["text", "a frame that announces 1 TiB"])
async def test_a_model_that_writes_to_its_workers_socket_ends_its_worker_only(
    environment: Environment, tmp_path: Path, forged: float
) -> None:
    ref = toys.write_model(toys.ForgingModel(), tmp_path)
    await call(environment, ref, 0.0)
    with pytest.raises(WorkerDied, match="not an answer"):
        await call(environment, ref, forged)
    assert json.loads((await call(environment, ref, 0.0)).body) == [0.0]


async def test_an_answer_over_the_limit_is_an_error_of_its_call(
    environment: Environment, tmp_path: Path
) -> None:
    ref = toys.write_model(toys.HugeAnswerModel(), tmp_path)
    answer = await call(environment, ref, 2.0 * MIB)
    assert answer.error is not None
    assert answer.error.kind == "output"
    assert "max_answer_bytes" in answer.error.message
    assert json.loads((await call(environment, ref, 1.0)).body) == ["x"]


async def test_a_library_that_exits_when_it_is_imported_harms_nobody(
    environment: Environment, tmp_path: Path
) -> None:
    await environment.warm(["json", "unittest.__main__"])
    ref = toys.write_model(toys.SumModel(), tmp_path)
    assert json.loads((await call(environment, ref, 1.0)).body) == [1.0]


async def test_a_caller_that_leaves_lets_no_hanging_model_block_the_next_ones(
    settings: Settings, tmp_path: Path
) -> None:
    pool = WorkerPool(replace(settings, load_timeout_s=0.1), tmp_path / "log")
    environment = pool.environment(sys.executable)
    ref = toys.write_model(toys.SleepModel(), tmp_path)
    await environment.warm([])
    await call(environment, ref, 0.0, timeout_s=10.0)
    leaving = asyncio.create_task(call(environment, ref, 600.0, timeout_s=0.5))
    await asyncio.sleep(0.1)
    leaving.cancel()
    assert json.loads((await call(environment, ref, 0.0, timeout_s=10.0)).body) == [0.0]
    await pool.aclose()


async def test_a_supervisor_that_hangs_or_dies_is_replaced(
    environment: Environment, tmp_path: Path
) -> None:
    ref = toys.write_model(toys.SleepModel(), tmp_path)
    await call(environment, ref, 0.0)
    for signum in (signal.SIGSTOP, signal.SIGKILL):
        worker = environment.slots[0].worker
        assert worker is not None
        supervisor = int(Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(supervisor, signum)
        with pytest.raises((DeadlineExceeded, WorkerDied)):
            await call(environment, ref, 600.0, timeout_s=0.5)
        assert json.loads((await call(environment, ref, 0.0, timeout_s=30.0)).body) == [0.0]
        await wait_until_dead(supervisor)
