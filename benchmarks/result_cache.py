"""What a kept answer costs against a computed one.

Models are called one call at a time along the path of a prediction alone, without HTTP, which
``latency`` measures.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.models import MODELS, Runtime, deploy
from benchmarks.report import Options, Report
from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.platform import Platform
from mlserve_jupyter.services import Services
from mlserve_jupyter.serving.call_record import PredictRequest
from mlserve_jupyter.settings import Settings
from tests.cache.redis_process import RedisProcess
from tests.live import start_server

NAMES = ("lr", "rf")
RUNTIMES: tuple[Runtime, ...] = ("auto", "native")
N_CALLS = 300
N_KEPT = 16
"""Different bodies of the calls that are answered from the cache."""

CALLER = Principal("owner", "key")


def measure(report: Report, options: Options) -> None:
    """Measure what a call takes from the decoded request to the answer."""
    with TemporaryDirectory() as folder:
        asyncio.run(along_the_path(Path(folder), report))


async def along_the_path(folder: Path, report: Report) -> None:
    """Call each model, compiled or not, computed, kept in memory and kept in Redis."""
    with start_server(folder) as server:
        for runtime in RUNTIMES:
            for name in NAMES:
                deploy(server.url, server.key, f"{name}-{runtime}", MODELS[name], runtime)
    with closing_redis(folder) as redis:
        off = Settings(data_dir=server.data_dir / "mlserve", keep_warm_models=0, result_cache="off")
        on = replace(off, result_cache="on")
        # A memory that is too small for any answer leaves all of them to Redis.
        far = replace(on, cache_max_bytes=1, redis_url=redis.url)
        kinds = {"computed": (off, N_CALLS), "kept": (on, N_KEPT), "kept_in_redis": (far, N_KEPT)}
        for name in NAMES:
            for runtime in RUNTIMES:
                found = {}
                for kind, (settings, n_bodies) in kinds.items():
                    async with opened(settings) as services:
                        found[f"{kind}_us"] = await median_us(services, name, runtime, n_bodies)
                report.measured(f"{name} ({runtime})", **found)


@contextmanager
def closing_redis(folder: Path) -> Iterator[RedisProcess]:
    """Run a Redis until the block ends."""
    redis = RedisProcess(folder)
    try:
        yield redis
    finally:
        redis.kill()


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Services]:
    """Open the platform."""
    platform = Platform(settings)
    try:
        yield await platform.services()
    finally:
        await platform.aclose()


async def median_us(services: Services, name: str, runtime: str, n_bodies: int) -> float:
    """Call a model with ``n_bodies`` different rows in turn; the first round is not measured."""
    user = await services.user(CALLER)
    n_features = MODELS[name].n_features
    took = []
    for i in range(n_bodies + N_CALLS):
        row = [float(i % n_bodies)] * n_features
        request = PredictRequest(
            request_id=f"{i:032x}",
            principal=str(CALLER),
            user=user,
            model=f"{name}-{runtime}",
            version=None,
            method=None,
            body=msgspec.json.encode({"instances": [row]}),
            content_type="application/json",
        )
        started = time.perf_counter()
        await services.predictor.predict(request)
        took.append(time.perf_counter() - started)
    return statistics.median(took[n_bodies:]) * 1e6
