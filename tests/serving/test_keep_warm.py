"""Models that are loaded before they are called, in real workers behind the whole platform."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from sklearn.tree import DecisionTreeClassifier

import mlserve_jupyter
from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.api.manifest import Environment
from mlserve_jupyter.api.resources import UpdateModel, UpdateVersion, Verification
from mlserve_jupyter.api.signature import Signature
from mlserve_jupyter.errors import WorkerDied
from mlserve_jupyter.platform import Platform
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.services import Services
from mlserve_jupyter.serving import keep_warm
from mlserve_jupyter.serving.call_record import PredictRequest
from mlserve_jupyter.serving.runtimes import compiled_runtime
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.tables import prediction_counts
from tests import toys
from tests.live import start_server
from tests.registry.deploys import manifest_of

pytestmark = pytest.mark.anyio

CALLER = Principal("owner", "test")
MIB = 2**20


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", workers_per_environment=1, result_cache="off")


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Services]:
    platform = Platform(settings)
    try:
        yield await platform.services()
    finally:
        await platform.aclose()


async def publish(services: Services, name: str, model: Any, folder: Path) -> ServedVersion:
    content = Path(toys.write_model(model, folder).path).read_bytes()
    manifest = msgspec.structs.replace(
        manifest_of(name, content),
        methods=["predict"],
        signature=Signature(toys.ONE_FEATURE),
        environment=Environment(interpreter=sys.executable, python_version="3.12.1"),
    )
    staged = services.store.stage("pkl")
    staged.write(content)
    version: ServedVersion = await services.change(
        services.registry.publish,
        await services.user(CALLER),
        manifest,
        staged,
        Verification(verified=True, methods=["predict"]),
    )
    return version


def called_tree(folder: Path) -> tuple[Path, str]:
    """Deploy a compiled version that tells whether a number is over 9, and call it.

    Returns the platform's folder and the version's id.
    """
    X = np.arange(40.0).reshape(20, 2)
    with start_server(folder) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLSERVE_URL", server.url)
        patch.setenv("MLSERVE_KEY", server.key)
        mlserve_jupyter.deploy(
            DecisionTreeClassifier().fit(X, X[:, 0] > 9), name="tree", sample=X, runtime="onnx"
        )
        version = server.request("GET", "api/v1/models/tree/versions/1").json()
        assert version["runtime"] == "onnx"
        server.request("POST", "api/v1/predict/tree", json={"instances": [[1.0, 2.0]]})
    return server.data_dir / "mlserve", version["id"]


async def call(services: Services, version: ServedVersion, value: float = 1.0) -> None:
    await predict(services, version.model, value)


async def predict(services: Services, model: str, *row: float) -> Any:
    answer = await services.predictor.predict(
        PredictRequest(
            request_id=os.urandom(8).hex(),
            principal=str(CALLER),
            user=await services.user(CALLER),
            model=model,
            version=None,
            method=None,
            body=msgspec.json.encode({"instances": [row]}),
            content_type="",
        )
    )
    return msgspec.json.decode(answer)["predictions"]


def loaded(services: Services) -> list[str]:
    """Return the models in memory, least recently used first."""
    slots = [slot for env in services.workers.environments() for slot in env.slots]
    workers = [slot.worker for slot in slots if slot.worker is not None and slot.worker.alive]
    return [key for worker in workers for key in worker.loaded]


async def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def kill_worker(services: Services) -> None:
    [slot] = services.workers.environments()[0].slots
    worker = slot.worker
    assert worker is not None
    await until(lambda: worker.pid > 0)
    os.kill(worker.pid, signal.SIGKILL)
    await until(lambda: slot.worker is not worker or not worker.alive)


async def last_load_ms(services: Services, version: ServedVersion) -> float:
    assert await asyncio.to_thread(services.log.flush, 5.0)
    page = await asyncio.to_thread(services.log.list_predictions, version.model_id)
    return page.items[0].load_ms


async def test_what_was_called_lately_is_loaded_at_start_the_latest_first(
    settings: Settings, tmp_path: Path
) -> None:
    async with opened(settings) as services:
        first, second, never, gone = [
            await publish(services, name, toys.SumModel(), tmp_path)
            for name in ("first", "second", "never", "gone")
        ]
        for version in (gone, second, first, second):
            await call(services, version)
        change = UpdateVersion(status="archived")
        await services.change(services.registry.update_version, gone.model_id, 1, change)
    async with opened(settings) as services:
        assert loaded(services) == []
        await until(lambda: len(loaded(services)) == 2)
        assert loaded(services) == [second.id, first.id]
        await call(services, first)
        assert await last_load_ms(services, first) == 0
        await call(services, never)
        assert await last_load_ms(services, never) > 0


async def test_what_was_not_called_for_a_day_is_not_loaded(
    settings: Settings, tmp_path: Path
) -> None:
    async with opened(settings) as services:
        old, new = [
            await publish(services, name, toys.SumModel(), tmp_path) for name in ("old", "new")
        ]
        await call(services, old)
        await call(services, new)
        await asyncio.to_thread(services.log.flush, 5.0)
        at = prediction_counts.c.last_called_at
        with services.engine.begin() as connection:
            of_old = prediction_counts.c.version_id == old.id
            last = connection.execute(sa.select(at).where(of_old)).scalar_one()
            connection.execute(
                prediction_counts.update()
                .where(of_old)
                .values(last_called_at=last - timedelta(days=1, minutes=1))
            )
    async with opened(settings) as services:
        await until(lambda: loaded(services) == [new.id])


async def test_no_more_is_loaded_than_fits_and_than_is_set(
    settings: Settings, tmp_path: Path
) -> None:
    async with opened(settings) as services:
        models = toys.BallastModel(10 * MIB), toys.BallastModel(10 * MIB), toys.SumModel()
        versions = [
            await publish(services, f"m{i}", model, tmp_path) for i, model in enumerate(models)
        ]
        large, larger, small = versions
        for version in (small, large, larger):
            await call(services, version)
    async with opened(replace(settings, max_loaded_bytes=15 * MIB)) as services:
        await until(lambda: set(loaded(services)) == {larger.id, small.id})
    async with opened(replace(settings, keep_warm_models=1)) as services:
        await until(lambda: loaded(services) == [larger.id])
    async with opened(replace(settings, keep_warm_models=0)) as services:
        await asyncio.sleep(1.5)
        assert services.workers.environments() == []


async def keep(services: Services, version: ServedVersion, wanted: bool = True) -> None:
    change = UpdateModel(keep_warm=wanted)
    await services.change(services.registry.update_model, version.model_id, change)


async def test_what_is_kept_is_loaded_at_start_before_all_else_though_nobody_has_called_it(
    settings: Settings, tmp_path: Path
) -> None:
    async with opened(settings) as services:
        called, kept, *old_and_new = [
            await publish(services, name, toys.SumModel(), tmp_path)
            for name in ("called", "kept", "two", "two")
        ]
        await call(services, called)
        await keep(services, kept)
        await keep(services, old_and_new[0])
        await keep(services, called)
        await keep(services, called, False)
    async with opened(settings) as services:
        await until(lambda: len(loaded(services)) == 3)
        assert loaded(services) == [kept.id, old_and_new[1].id, called.id]
        await call(services, kept)
        assert await last_load_ms(services, kept) == 0


async def test_what_is_kept_counts_towards_the_memory_but_not_towards_what_was_called_lately(
    settings: Settings, tmp_path: Path
) -> None:
    async with opened(settings) as services:
        versions = [
            await publish(services, name, toys.BallastModel(10 * MIB), tmp_path)
            for name in ("called", "first", "second")
        ]
        called, first, second = versions
        await call(services, called)
        await keep(services, first)
        await keep(services, second)
    async with opened(replace(settings, keep_warm_models=1)) as services:
        await until(lambda: loaded(services) == [first.id, second.id, called.id])
    async with opened(replace(settings, max_loaded_bytes=25 * MIB)) as services:
        await until(lambda: loaded(services) == [first.id, second.id])
    async with opened(replace(settings, keep_warm_models=0)) as services:
        await asyncio.sleep(1.5)
        assert services.workers.environments() == []


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept is looked after without the waits that spare others."""
    monkeypatch.setattr(keep_warm, "START_AFTER_S", 0.05)
    monkeypatch.setattr(keep_warm, "KEEP_EVERY_S", 0.05)
    monkeypatch.setattr(keep_warm, "RELOAD_EVERY_S", 0.0)


@pytest.mark.usefixtures("often")
async def test_what_is_kept_is_loaded_soon_wherever_that_was_said(
    settings: Settings, tmp_path: Path
) -> None:
    async with opened(settings) as services:
        version = await publish(services, "kept", toys.SumModel(), tmp_path)
    async with opened(settings) as services, opened(settings) as others:
        await keep(others, version)
        await until(lambda: loaded(services) == loaded(others) == [version.id])


@pytest.mark.usefixtures("often")
async def test_what_is_kept_is_loaded_first_after_its_worker_has_ended(
    settings: Settings, tmp_path: Path
) -> None:
    async with opened(settings) as services:
        kept, called = [
            await publish(services, name, toys.SumModel(), tmp_path) for name in ("kept", "called")
        ]
        await keep(services, kept)
        await until(lambda: loaded(services) == [kept.id])
        await call(services, called)
        await kill_worker(services)
        await until(lambda: loaded(services) == [kept.id, called.id])


@pytest.mark.usefixtures("often")
async def test_what_is_kept_stays_where_nobody_calls(settings: Settings, tmp_path: Path) -> None:
    async with opened(replace(settings, worker_idle_s=0.3)) as services:
        kept = await publish(services, "kept", toys.SumModel(), tmp_path)
        await keep(services, kept)
        await until(lambda: loaded(services) == [kept.id])
        await asyncio.sleep(1.5)
        assert loaded(services) == [kept.id]
        await keep(services, kept, False)
        await until(lambda: loaded(services) == [])


@pytest.mark.usefixtures("often")
async def test_what_is_kept_and_cannot_be_loaded_is_tried_once(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(settings) as services:
        bad = await publish(services, "bad", toys.ExitAtLoad(), tmp_path)
        with caplog.at_level(logging.WARNING, "mlserve_jupyter"):
            await keep(services, bad)
            await until(lambda: "cannot be loaded ahead" in caplog.text)
            await asyncio.sleep(1.0)
        assert caplog.text.count("cannot be loaded ahead") == 1


@pytest.mark.parametrize("how", ["killed while idle", "killed by a call"])
async def test_after_a_worker_has_ended_its_models_are_loaded_again_in_the_order_of_their_use(
    settings: Settings, tmp_path: Path, how: str
) -> None:
    async with opened(settings) as services:
        first, second, third = [
            await publish(services, name, toys.KillModel(), tmp_path) for name in "abc"
        ]
        for version in (first, second, third, first):
            await call(services, version)
        if how == "killed while idle":
            await kill_worker(services)
        else:
            with pytest.raises(WorkerDied):
                await call(services, first, 13.0)
        await until(lambda: loaded(services) == [first.id, third.id, second.id])
        await call(services, second)
        assert await last_load_ms(services, second) == 0


async def test_a_model_that_kills_its_worker_at_load_is_tried_once_and_the_others_are_served(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(settings) as services:
        good = await publish(services, "good", toys.SumModel(), tmp_path)
        bad = await publish(services, "bad", toys.ExitAtLoad(), tmp_path)
        await call(services, good)
        with pytest.raises(WorkerDied):
            await call(services, bad)
    with caplog.at_level(logging.WARNING, "mlserve_jupyter"):
        async with opened(settings) as services:
            await until(lambda: loaded(services) == [good.id])
            await asyncio.sleep(0.5)
            assert sum("cannot be loaded ahead" in text for text in caplog.messages) == 1
            assert services.workers.environments()[0].slots[0].n_replaced == 1
            await call(services, good)


async def test_models_whose_worker_ends_again_and_again_are_not_loaded_ahead_each_time(
    settings: Settings, tmp_path: Path
) -> None:
    async with opened(settings) as services:
        version = await publish(services, "a", toys.SumModel(), tmp_path)
        await call(services, version)
    async with opened(settings) as services:
        await until(lambda: loaded(services) == [version.id])
        await kill_worker(services)
        await until(lambda: loaded(services) == [version.id])
        await kill_worker(services)
        await asyncio.sleep(0.5)
        assert loaded(services) == []
        await call(services, version)


async def test_callers_go_first(settings: Settings, tmp_path: Path) -> None:
    async with opened(settings) as services:
        recent = await publish(services, "recent", toys.SumModel(), tmp_path)
        slow = await publish(services, "slow", toys.SleepModel(), tmp_path)
        await call(services, recent)
    async with opened(settings) as services:
        calling = asyncio.create_task(call(services, slow, 2.0))
        await asyncio.sleep(1.7)
        assert recent.id not in loaded(services)
        await calling
        await until(lambda: recent.id in loaded(services))


async def test_workers_that_start_later_find_what_the_first_one_imported(
    settings: Settings, tmp_path: Path
) -> None:
    settings = replace(settings, workers_per_environment=2)
    async with opened(settings) as services:
        first = await publish(services, "first", toys.ImportingModel(), tmp_path)
        await publish(services, "second", toys.ImportingModel(), tmp_path)
        await call(services, first)
    async with opened(settings) as services:
        await until(lambda: loaded(services) == [first.id])
        assert await predict(services, "first", 1.0) == [False]
        assert await predict(services, "second", 1.0) == [True]
        assert len(services.workers.environments()[0].slots) == 2


@pytest.mark.slow
async def test_of_a_compiled_version_the_graph_is_opened_and_no_worker_is_started(
    tmp_path: Path,
) -> None:
    data_dir, version_id = called_tree(tmp_path)
    async with opened(Settings(data_dir=data_dir)) as services:
        await until(lambda: version_id in services.predictor._compiled._open)
        assert all(not env.slots for env in services.workers.environments())


@pytest.mark.slow
async def test_while_a_large_graph_is_opened_the_model_itself_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir, version_id = called_tree(tmp_path)
    settings = Settings(data_dir=data_dir, keep_warm_models=0, result_cache="off")
    may_open = threading.Event()
    open_graph = compiled_runtime.open_graph
    monkeypatch.setattr(
        compiled_runtime,
        "open_graph",
        lambda version: open_graph(version) if may_open.wait(30) else None,
    )
    monkeypatch.setattr(compiled_runtime, "SLOW_TO_OPEN_BYTES", 1)
    async with opened(settings) as services:
        for _ in range(2):
            assert await predict(services, "tree", 10.0, 11.0) == [True]
        assert loaded(services) == [version_id]
        may_open.set()
        await until(lambda: version_id in services.predictor._compiled._open)
        [environment] = services.workers.environments()
        await environment.aclose()
        assert await predict(services, "tree", 8.0, 9.0) == [False]
        assert not environment.slots, "which the graph has answered"
