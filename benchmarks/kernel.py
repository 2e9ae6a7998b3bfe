"""A kernel's round trip while the embedded server predicts.

``execute_request`` goes through the server's websocket, as JupyterLab sends it, while nothing else
happens, and while the server answers 64 connections of predictions.

Jupyter Server writes to its websocket in several small pieces, and TCP holds the second one back
until the first was acknowledged, which receivers put off for 40 ms: most of what an idle round trip
takes. The client here acknowledges at once, so that what is compared is what servers and kernels
take.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import time
import uuid
from collections.abc import AsyncIterator

import httpx
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from benchmarks.hosts import embedded, with_quota
from benchmarks.models import MODELS, Runtime, deploy
from benchmarks.report import Options, Report, Requirement
from benchmarks.wrk import Load, Target, drive
from tests.live import NO_TLS, LiveServer

N_CONNECTIONS = 64
SECONDS = 6
ROUNDS = 3
PAUSE_S = 0.01
"""Between two round trips, so that each begins alone."""

REQUIRED = Requirement(2.0, at_most=True)
CASES: dict[str, Runtime] = {"lr": "auto", "rf-native": "native"}


def measure(report: Report, options: Options) -> None:
    """Measure in turn, idle and under load, several times."""
    with embedded("--MLServeApp.result_cache=off") as server:
        for name, runtime in CASES.items():
            deploy(server.url, server.key, name, MODELS[name.partition("-")[0]], runtime)
        asyncio.run(_measure(server, report, options))


async def _measure(server: LiveServer, report: Report, options: Options) -> None:
    seconds = options.seconds(SECONDS)
    token = {"Authorization": f"token {server.token}"}
    loads: dict[str, Target] = {"empty APIHandler": _target(server, "limits/empty", token)}
    key = with_quota(server)
    for name in CASES:
        path = f"mlserve/api/v1/predict/{name}"
        loads[f"predictions of {name}"] = _target(server, path, key)
    ratios: dict[str, list[float]] = {what: [] for what in loads}
    async with _kernel(server) as channels:
        await _round_trips(channels, 1)
        for i in range(options.rounds(ROUNDS)):
            idle = await _round_trips(channels, seconds)
            _note("idle", i, idle, None, report)
            for what, target in loads.items():
                driving = asyncio.create_task(_drive(target, seconds + 2))
                await asyncio.sleep(1)
                busy = await _round_trips(channels, seconds)
                _note(what, i, busy, await driving, report)
                ratios[what].append(_percentile(busy, 99) / _percentile(idle, 99))
    for what, found in ratios.items():
        report.figure(
            f"round trip of a kernel under {what} / idle, p99",
            statistics.median(found),
            requirement=REQUIRED if what.startswith("predictions") else None,
        )


def _target(server: LiveServer, path: str, headers: dict[str, str]) -> Target:
    return Target(path, server.jupyter_url + path, 4, headers)


async def _drive(target: Target, seconds: int) -> Load:
    return await asyncio.to_thread(
        drive, target, n_connections=N_CONNECTIONS, seconds=seconds, warm_up_s=0
    )


def _note(what: str, i: int, took_ms: list[float], load: Load | None, report: Report) -> None:
    report.measured(
        f"round trip, {what}",
        round=i + 1,
        n=len(took_ms),
        p50_ms=_percentile(took_ms, 50),
        p99_ms=_percentile(took_ms, 99),
        **({} if load is None else {"requests_s": load.requests_s, "bad": load.n_bad}),
    )


def _percentile(values: list[float], percent: float) -> float:
    return sorted(values)[min(int(len(values) * percent / 100), len(values) - 1)]


@contextlib.asynccontextmanager
async def _kernel(server: LiveServer) -> AsyncIterator[WebSocketClientConnection]:
    """Have the server start a kernel, and connect to it as a notebook does."""
    headers = {"Authorization": f"token {server.token}"}
    async with httpx.AsyncClient(
        base_url=server.jupyter_url, headers=headers, timeout=60, verify=NO_TLS
    ) as http:
        started = await http.post("api/kernels", json={"name": "python3"})
        started.raise_for_status()
        kernel_id = started.json()["id"]
        url = f"{server.jupyter_url}api/kernels/{kernel_id}/channels".replace("http", "ws", 1)
        channels = await websocket_connect(HTTPRequest(url, headers=headers))
        try:
            yield channels
        finally:
            channels.close()
            await http.delete(f"api/kernels/{kernel_id}")


async def _round_trips(channels: WebSocketClientConnection, seconds: float) -> list[float]:
    """Return the milliseconds from each request until its reply has come."""
    took_ms = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        await _execute(channels)
        took_ms.append((time.perf_counter() - started) * 1e3)
        await asyncio.sleep(PAUSE_S)
    return took_ms


async def _execute(channels: WebSocketClientConnection) -> None:
    message_id = uuid.uuid4().hex
    request = {
        "header": {
            "msg_id": message_id,
            "msg_type": "execute_request",
            "username": "",
            "session": "benchmark",
            "date": "",
            "version": "5.3",
        },
        "parent_header": {},
        "metadata": {},
        "content": {
            "code": "1 + 1",
            "silent": False,
            "store_history": False,
            "user_expressions": {},
            "allow_stdin": False,
        },
        "channel": "shell",
        "buffers": [],
    }
    await channels.write_message(json.dumps(request))
    while True:
        _acknowledge_at_once(channels)
        text = await channels.read_message()
        if text is None:
            raise RuntimeError("The server has closed the kernel's websocket.")
        message = json.loads(text)
        is_ours = message["parent_header"].get("msg_id") == message_id
        if is_ours and message["header"]["msg_type"] == "execute_reply":
            return


def _acknowledge_at_once(channels: WebSocketClientConnection) -> None:
    """Have what comes next acknowledged without delay; Linux forgets it again and again."""
    stream = channels.protocol.stream if channels.protocol is not None else None
    assert stream is not None
    stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
