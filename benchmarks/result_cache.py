"""What a kept answer costs against a computed one.

``python -m benchmarks.result_cache`` calls models in their workers, one call at a time: over HTTP
with ``wrk``, beside an empty authenticated handler of Jupyter, and then along the path of a
prediction alone, without HTTP. Only ratios within one run mean anything.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.models import MODELS, deploy
from benchmarks.serving import embedded
from benchmarks.wrk import drive
from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.platform import Platform, Services
from mlserve_jupyter.serving.predict import PredictRequest
from mlserve_jupyter.settings import Settings
from tests.cache.redis_process import RedisProcess
from tests.live import start_server

NAMES = ("lr", "rf")
N_CALLS = 300
N_KEPT = 16
"""Different bodies of the calls that are answered from the cache."""

CALLER = Principal("owner", "benchmark")


def over_http(seconds: int) -> None:
    """Print latencies at one connection."""
    print(f"{'over HTTP, p50 ms':20}{'empty handler':>16}{'call':>8}{'against it':>12}")
    for kind, mode in {"computed": "off", "kept": "on"}.items():
        with embedded(f"--MLServeApp.result_cache={mode}") as server:
            key = {"X-MLServe-Key": server.key}
            token = {"Authorization": f"token {server.token}"}
            for name in NAMES:
                n_features = MODELS[name].n_features
                deploy(server.url, server.key, name, MODELS[name])
                empty, found = (
                    drive(
                        url, n_features, headers,
                        n_connections=1, seconds=seconds, n_bodies=N_KEPT,
                    )
                    for url, headers in (
                        (f"{server.jupyter_url}limits/empty", token),
                        (f"{server.url}api/v1/predict/{name}", key),
                    )
                )  # fmt: skip
                print(
                    f"{name + ' ' + kind:20}{empty.p50_ms:>16.2f}{found.p50_ms:>8.2f}"
                    f"{found.p50_ms / empty.p50_ms:>10.2f} ×",
                    flush=True,
                )


async def along_the_path(folder: Path) -> None:
    """Print what a call takes from the decoded request to the answer."""
    with start_server(folder) as server:
        for name in NAMES:
            deploy(server.url, server.key, name, MODELS[name])
    redis = RedisProcess(folder)
    off = Settings(data_dir=server.data_dir / "mlserve", keep_warm_models=0, result_cache="off")
    on = replace(off, result_cache="on")
    # A memory that is too small for any answer leaves all of them to Redis.
    far = replace(on, cache_max_bytes=1, redis_url=redis.url)
    kinds = {"computed": (off, N_CALLS), "kept": (on, N_KEPT), "kept in Redis": (far, N_KEPT)}
    print(f"\n{'without HTTP, p50 µs':28}" + "".join(f"{kind:>16}" for kind in kinds))
    for name in NAMES:
        line = f"{name:28}"
        for settings, n_bodies in kinds.values():
            async with opened(settings) as services:
                line += f"{await median_us(services, name, n_bodies):>16.0f}"
        print(line)
    redis.kill()


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Services]:
    """Open the platform."""
    platform = Platform(settings)
    try:
        yield await platform.services()
    finally:
        await platform.aclose()


async def median_us(services: Services, name: str, n_bodies: int) -> float:
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
            model=name,
            version=None,
            method=None,
            body=msgspec.json.encode({"instances": [row]}),
            content_type="application/json",
        )
        started = time.perf_counter()
        await services.predictor.predict(request)
        took.append(time.perf_counter() - started)
    return statistics.median(took[n_bodies:]) * 1e6


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3)
    over_http(parser.parse_args().seconds)
    with TemporaryDirectory() as folder:
        asyncio.run(along_the_path(Path(folder)))


if __name__ == "__main__":
    main()
