"""Where the microseconds of a request go: samples of a standalone server under load.

The server runs in this process, on asyncio's loop. A timer that runs with the processor's time asks
a thousand times a second which room of the walk the main thread is in; what other threads take is
the rest of the process's time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from tornado.httpserver import HTTPServer

from benchmarks.models import MODELS, deploy
from benchmarks.report import Options, Report
from benchmarks.wrk import Target, drive
from mlserve_jupyter.accounts.keys import make_key
from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.platform import Platform
from mlserve_jupyter.server.standalone.access_log import AccessLog
from mlserve_jupyter.server.standalone.handler import make_application
from mlserve_jupyter.server.standalone.hosts import HostNames
from mlserve_jupyter.serving.measurement import Measurements
from mlserve_jupyter.settings import Settings
from tests.live import free_port

SAMPLE_EVERY_S = 0.001
WARM_UP_S = 2

ROOMS = (
    ("the socket: receive and send", ("iostream.py:read_from_fd", "iostream.py:write_to_fd")),
    ("HTTP: tornado", ("/tornado/",)),
    ("the event loop", ("/asyncio/", "/selectors.py", "/uvloop/")),
    ("which version", ("/registry/",)),
    ("decode and check", ("mlserve_jupyter/api/",)),
    ("the model's graph", ("/runtimes/", "/onnxruntime/", "/numpy/")),
    ("the record and its hand-over to the log", ("/analytics/",)),
    ("who calls, and may they", ("/accounts/", "/credentials.py", "/policy.py", "/hosts.py")),
    ("the walk itself", ("/mlserve_jupyter/serving/",)),
    ("the door and the answer's head", ("/mlserve_jupyter/",)),
)
"""Rooms, and what the places in them contain; the first that fits is meant."""


def measure(report: Report, options: Options) -> None:
    """Profile the models that answer from a graph."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_measure(report, options, Path(folder)))


async def _measure(report: Report, options: Options, folder: Path) -> None:
    platform = Platform(Settings(data_dir=folder, result_cache="off"))
    key, record = make_key()
    platform.credentials.accept(record, Principal("owner", "host", role="admin"))
    port = free_port()
    names = HostNames("127.0.0.1", ())
    application, _ = make_application(platform, "/", names, AccessLog("off"), _measure_nothing)
    server = HTTPServer(application)
    server.listen(port, "127.0.0.1")
    url = f"http://127.0.0.1:{port}/mlserve/"
    try:
        for name in ("lr", "rf"):
            await asyncio.to_thread(deploy, url, key, name, MODELS[name])
            target = Target(
                name,
                f"{url}api/v1/predict/{name}",
                MODELS[name].n_features,
                {"X-MLServe-Key": key},
            )
            await asyncio.to_thread(drive, target, n_connections=64, seconds=WARM_UP_S)
            await _profile(target, options.seconds(10), report)
    finally:
        server.stop()
        await server.close_all_connections()
        await platform.aclose()


async def _profile(target: Target, seconds: int, report: Report) -> None:
    samples: Counter[str] = Counter()

    def sample(number: int, frame: FrameType | None) -> None:
        samples[_room_of(frame)] += 1

    before = signal.signal(signal.SIGPROF, sample)
    main_s, all_s = time.thread_time(), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, SAMPLE_EVERY_S, SAMPLE_EVERY_S)
    try:
        load = await asyncio.to_thread(
            drive, target, n_connections=64, seconds=seconds, warm_up_s=0
        )
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    main_s, all_s = time.thread_time() - main_s, time.process_time() - all_s
    us_per_request = 1e6 / (load.requests_s * seconds)
    report.measured(target.name, requests_s=load.requests_s, bad=load.n_bad)
    n_samples = sum(samples.values())
    for room, n in samples.most_common():
        share = n / n_samples
        report.figure(f"{target.name}: {room}", share * main_s * us_per_request, "µs")
    report.figure(f"{target.name}: the event loop's thread in all", main_s * us_per_request, "µs")
    others_s = all_s - main_s
    report.figure(f"{target.name}: other threads, the log's first", others_s * us_per_request, "µs")


def _room_of(frame: FrameType | None) -> str:
    """Return the innermost room that the main thread is in."""
    while frame is not None:
        place = f"{frame.f_code.co_filename.replace(os.sep, '/')}:{frame.f_code.co_name}"
        for room, marks in ROOMS:
            if any(mark in place for mark in marks):
                return room
        frame = frame.f_back
    return "anything else"


async def _measure_nothing() -> Measurements:
    """Nobody asks this server for its metrics."""
    return {}
