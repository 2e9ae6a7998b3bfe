from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mlserve_jupyter.errors import (
    DeadlineExceeded,
    EnvironmentUnusable,
    Overloaded,
    WorkerDied,
    WorkerOutOfMemory,
)
from mlserve_jupyter.serving.call_queue import Answer
from mlserve_jupyter.serving.protocol import ModelRef
from mlserve_jupyter.serving.workers import Environment, WorkerPool
from mlserve_jupyter.settings import Settings
from tests import toys

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
        worker_memory_bytes=600 * MIB,
        load_timeout_s=20.0,
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


async def wait_until_dead(pid: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except (FileNotFoundError, ProcessLookupError):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"Process {pid} lives on.")


async def test_row_18_the_paths_of_one_interpreter_are_one_environment(
    settings: Settings, tmp_path: Path
) -> None:
    bin_folder, name = os.path.split(sys.executable)
    (tmp_path / "link").symlink_to(bin_folder)
    pool = WorkerPool(settings, tmp_path / "log")
    own = pool.environment(sys.executable)
    for detour in ("/./", "//", f"/../{os.path.basename(bin_folder)}/"):
        assert pool.environment(bin_folder + detour + name) is own
    assert pool.environments() == [own]
    # Where it is a link that a path climbs out of, it leads elsewhere without its detour.
    climbing = f"{tmp_path}/link/../{os.path.basename(bin_folder)}/{name}"
    assert pool.environment(climbing) is not own
    assert pool.environments()[1].interpreter == climbing
    await pool.aclose()


async def test_a_worker_answers_what_the_model_computes(
    environment: Environment, tmp_path: Path
) -> None:
    ref = toys.write_model(toys.SumModel(), tmp_path)
    answer = await call(environment, ref, 1.5, 2.5)
    assert json.loads(answer.body) == [1.5, 2.5]
    assert answer.reply.is_new
    assert not (await call(environment, ref, 1.0)).reply.is_new


async def test_row_30_a_hundred_first_calls_load_the_model_once(
    environment: Environment, tmp_path: Path
) -> None:
    ref = toys.write_model(toys.SumModel(), tmp_path)
    answers = await asyncio.gather(*(call(environment, ref, float(i)) for i in range(100)))
    assert [json.loads(answer.body) for answer in answers] == [[float(i)] for i in range(100)]
    assert sum(answer.reply.is_new for answer in answers) == 1
    [slot] = environment.slots
    assert slot.worker is not None
    assert slot.worker.n_loads == {ref.key: 1}


async def test_with_room_for_five_the_sixth_model_takes_the_place_of_the_least_recently_used(
    settings: Settings, tmp_path: Path
) -> None:
    pool = WorkerPool(replace(settings, max_loaded_models=5), tmp_path / "log")
    environment = pool.environment(sys.executable)
    refs = [toys.write_model(toys.SumModel(), tmp_path) for _ in range(6)]
    for ref in refs[:5]:
        await call(environment, ref, 1.0)
    await call(environment, refs[0], 1.0)
    answer = await call(environment, refs[5], 1.0)
    assert set(answer.reply.loaded) == {ref.key for ref in refs} - {refs[1].key}
    assert (await call(environment, refs[1], 1.0)).reply.is_new
    await pool.aclose()


async def test_models_above_the_byte_limit_are_let_go_but_never_the_one_in_use(
    settings: Settings, tmp_path: Path
) -> None:
    pool = WorkerPool(replace(settings, max_loaded_bytes=25 * MIB), tmp_path / "log")
    environment = pool.environment(sys.executable)
    refs = [toys.write_model(toys.BallastModel(10 * MIB), tmp_path) for _ in range(3)]
    for ref in refs:
        answer = await call(environment, ref, 1.0)
    assert list(answer.reply.loaded) == [refs[1].key, refs[2].key]
    assert all(n_bytes >= 10 * MIB for n_bytes in answer.reply.loaded.values())
    large = toys.write_model(toys.BallastModel(40 * MIB), tmp_path)
    answer = await call(environment, large, 1.0)
    assert json.loads(answer.body) == [1.0]
    assert list(answer.reply.loaded) == [large.key]
    await pool.aclose()


async def test_a_model_that_kills_its_process_fails_its_own_call_and_is_served_by_another(
    environment: Environment, tmp_path: Path
) -> None:
    ref = toys.write_model(toys.KillModel(), tmp_path)
    other = toys.write_model(toys.SumModel(), tmp_path)
    await call(environment, ref, 1.0)
    failing = asyncio.create_task(call(environment, ref, 13.0))
    waiting = [asyncio.create_task(call(environment, m, 2.0)) for m in (ref, other)]
    with pytest.raises(WorkerDied, match="SIGKILL") as caught:
        await failing
    assert caught.value.retry_after_s >= 1
    assert [json.loads((await task).body) for task in waiting] == [[2.0], [2.0]]
    assert environment.slots[0].n_replaced == 1


async def test_row_26_workers_that_are_killed_a_hundred_times_fail_only_the_calls_they_ran(
    environment: Environment, tmp_path: Path
) -> None:
    ref = toys.write_model(toys.SleepModel(), tmp_path)
    for _ in range(100):
        running = asyncio.create_task(call(environment, ref, 5.0))
        waiting = asyncio.create_task(call(environment, ref, 0.0))
        while not (environment.slots and environment.slots[0].busy):
            await asyncio.sleep(0.001)
        [slot] = environment.slots
        while slot.worker is None or slot.worker.pid < 0:
            await asyncio.sleep(0.001)
        os.kill(slot.worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied):
            await running
        assert json.loads((await waiting).body) == [0.0]


async def test_a_call_over_its_deadline_is_cut_and_the_next_one_is_answered(
    environment: Environment, tmp_path: Path
) -> None:
    ref = toys.write_model(toys.SleepModel(), tmp_path)
    await call(environment, ref, 0.0)
    with pytest.raises(DeadlineExceeded):
        await call(environment, ref, 60.0, timeout_s=0.2)
    assert json.loads((await call(environment, ref, 0.0)).body) == [0.0]


async def test_row_26_a_stopped_worker_is_replaced_at_the_deadline(
    environment: Environment, tmp_path: Path
) -> None:
    ref = toys.write_model(toys.SumModel(), tmp_path)
    await call(environment, ref, 1.0)
    worker = environment.slots[0].worker
    assert worker is not None
    os.kill(worker.pid, signal.SIGSTOP)
    with pytest.raises(DeadlineExceeded):
        await call(environment, ref, 1.0, timeout_s=0.3)
    await wait_until_dead(worker.pid)
    assert json.loads((await call(environment, ref, 2.0)).body) == [2.0]


async def test_a_call_that_waits_too_long_is_given_up_without_harm_to_the_one_that_runs(
    environment: Environment, tmp_path: Path
) -> None:
    ref = toys.write_model(toys.SleepModel(), tmp_path)
    await call(environment, ref, 0.0)
    running = asyncio.create_task(call(environment, ref, 1.0))
    await asyncio.sleep(0.05)
    with pytest.raises(DeadlineExceeded):
        await call(environment, ref, 0.0, timeout_s=0.1)
    assert json.loads((await running).body) == [1.0]
    assert environment.slots[0].n_replaced == 0


async def test_row_31_a_full_queue_refuses_at_once(settings: Settings, tmp_path: Path) -> None:
    pool = WorkerPool(replace(settings, max_queue_requests=2), tmp_path / "log")
    environment = pool.environment(sys.executable)
    ref = toys.write_model(toys.SleepModel(), tmp_path)
    await call(environment, ref, 0.0)
    running = [asyncio.create_task(call(environment, ref, 0.3))]
    await asyncio.sleep(0.05)
    running += [asyncio.create_task(call(environment, ref, 0.0)) for _ in range(2)]
    await asyncio.sleep(0.05)
    with pytest.raises(Overloaded):
        await call(environment, ref, 0.0)
    await asyncio.gather(*running)
    await pool.aclose()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited through Linux's own means")
@pytest.mark.parametrize("wanted_mib", [50_000, -2_000], ids=["at once", "bit by bit"])
async def test_a_model_that_takes_too_much_memory_fails_alone(
    environment: Environment, tmp_path: Path, wanted_mib: int
) -> None:
    ref = toys.write_model(toys.GreedyModel(), tmp_path)
    await call(environment, ref, 1.0)
    try:
        answer = await call(environment, ref, float(wanted_mib))
    except WorkerOutOfMemory:
        pass
    else:
        assert answer.error is not None
        assert answer.error.kind == "memory"
    assert environment.slots[0].n_replaced == 1
    assert json.loads((await call(environment, ref, 1.0)).body) == [1.0]


@pytest.mark.parametrize(
    ("value", "kind", "name"),
    [
        (0.0, "rejected", "ValueError"),
        (1.0, "predict", "ZeroDivisionError"),
        (2.0, "predict", "SystemExit"),
    ],
)
async def test_what_a_model_raises_is_reported_and_the_worker_lives_on(
    environment: Environment, tmp_path: Path, value: float, kind: str, name: str
) -> None:
    ref = toys.write_model(toys.ErrorModel(), tmp_path)
    answer = await call(environment, ref, value)
    assert answer.error is not None
    assert (answer.error.kind, answer.error.type) == (kind, name)
    assert "what it said" in answer.error.message
    assert environment.slots[0].n_replaced == 0


async def test_bytes_that_changed_on_disk_are_refused_at_load(
    environment: Environment, tmp_path: Path
) -> None:
    ref = toys.write_model(toys.SumModel(), tmp_path)
    with open(ref.path, "ab") as file:
        file.write(b"x")
    answer = await call(environment, ref, 1.0)
    assert answer.error is not None
    assert answer.error.kind == "corrupt"


async def test_what_a_model_has_forked_dies_with_its_worker(
    environment: Environment, tmp_path: Path
) -> None:
    ref = toys.write_model(toys.ForkModel(), tmp_path)
    [child] = json.loads((await call(environment, ref, 1.0)).body)
    worker = environment.slots[0].worker
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    await wait_until_dead(child)


async def test_an_interpreter_that_is_not_there_is_named(
    settings: Settings, tmp_path: Path
) -> None:
    pool = WorkerPool(settings, tmp_path / "log")
    ref = toys.write_model(toys.SumModel(), tmp_path)
    with pytest.raises(EnvironmentUnusable, match="/no/such/python"):
        await call(pool.environment("/no/such/python"), ref, 1.0)
    await pool.aclose()


async def test_workers_that_are_spawned_answer_as_those_that_are_forked(
    settings: Settings, tmp_path: Path
) -> None:
    pool = WorkerPool(replace(settings, worker_start_method="spawn"), tmp_path / "log")
    environment = pool.environment(sys.executable)
    ref = toys.write_model(toys.PidModel(), tmp_path)
    [pid] = json.loads((await call(environment, ref, 1.0)).body)
    worker = environment.slots[0].worker
    assert worker is not None
    os.kill(pid, signal.SIGKILL)
    while worker.alive:
        await asyncio.sleep(0.01)
    [next_pid] = json.loads((await call(environment, ref, 1.0)).body)
    assert next_pid != pid
    await pool.aclose()


async def test_an_environment_without_calls_gives_its_processes_back_and_starts_again(
    settings: Settings, tmp_path: Path
) -> None:
    pool = WorkerPool(replace(settings, worker_idle_s=0.2), tmp_path / "log")
    environment = pool.environment(sys.executable)
    ref = toys.write_model(toys.PidModel(), tmp_path)
    [pid] = json.loads((await call(environment, ref, 1.0)).body)
    await wait_until_dead(pid)
    [next_pid] = json.loads((await call(environment, ref, 1.0)).body)
    assert next_pid != pid
    await pool.aclose()


async def test_closing_leaves_no_process_behind(settings: Settings, tmp_path: Path) -> None:
    pool = WorkerPool(settings, tmp_path / "log")
    ref = toys.write_model(toys.PidModel(), tmp_path)
    environment = pool.environment(sys.executable)
    [pid] = json.loads((await call(environment, ref, 1.0)).body)
    await pool.aclose()
    await wait_until_dead(pid)


async def test_a_long_call_holds_up_neither_other_models_nor_its_own_while_a_worker_is_idle(
    settings: Settings, tmp_path: Path
) -> None:
    pool = WorkerPool(replace(settings, workers_per_environment=2), tmp_path / "log")
    environment = pool.environment(sys.executable)
    slow = toys.write_model(toys.SleepModel(), tmp_path)
    others = [toys.write_model(toys.SumModel(), tmp_path) for _ in range(4)]
    for ref in (slow, *others):
        await call(environment, ref, 0.0)
    blocking = asyncio.create_task(call(environment, slow, 4.0))
    await asyncio.sleep(0.01)
    at_once = [call(environment, ref, 1.0) for ref in others]
    assert len(await asyncio.gather(*at_once)) == 4
    await asyncio.sleep(0.2)
    assert json.loads((await call(environment, slow, 0.0)).body) == [0.0]
    assert not blocking.done()
    assert json.loads((await blocking).body) == [4.0]
    await pool.aclose()
