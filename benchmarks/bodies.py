"""Large bodies: what decoding them costs, and how long the event loop stands still meanwhile.

1,000 rows × 30 columns are sent as JSON, CSV, Arrow and Parquet, held against ``orjson.loads`` and
``model.predict`` alone in this process, in turns; then bodies of a million rows, while another
process asks ``health/live`` again and again. Only ratios within one run mean anything, and on a
busy machine those of the fastest tenth.
"""

from __future__ import annotations

import http.client
import io
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
from pyarrow import parquet
from sklearn.linear_model import LogisticRegression

import mlserve_jupyter
from benchmarks.hosts import with_quota
from benchmarks.report import Options, Report, Requirement
from tests.live import LiveServer, start_server

ROOT = Path(__file__).parents[1]
N_COLUMNS = 30
N_ROUNDS = 100
N_ROWS = 1_000_000
REQUIRED = {"JSON": Requirement(1.3, at_most=True), "Arrow": Requirement(0.6, at_most=True)}
PROBE_S = 0.002


@dataclass(frozen=True)
class Body:
    """A body and its content type."""

    name: str
    content: bytes
    content_type: str


def bodies_of(frame: pd.DataFrame) -> list[Body]:
    """Write a frame in all forms."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    stream, file = io.BytesIO(), io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    parquet.write_table(table, file)
    return [
        Body("JSON", orjson.dumps({"instances": frame.to_numpy().tolist()}), "application/json"),
        Body("CSV", frame.to_csv(index=False).encode(), "text/csv"),
        Body("Arrow", stream.getvalue(), "application/vnd.apache.arrow.stream"),
        Body("Parquet", file.getvalue(), "application/vnd.apache.parquet"),
    ]


class Caller:
    """One connection to the server, kept alive.

    Parameters
    ----------
    path
        Below the platform's routes.
    """

    def __init__(self, server: LiveServer, path: str) -> None:
        parts = urlsplit(server.url + path)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        self._path = parts.path
        self._key = with_quota(server)

    def post(self, body: Body) -> bytes:
        """Send a body; return the answer."""
        headers = {**self._key, "Content-Type": body.content_type}
        self._connection.request("POST", self._path, body.content, headers)
        return self._read()

    def _read(self) -> bytes:
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(content[:500].decode())
        return content


def compare(server: LiveServer, model: LogisticRegression, n_rounds: int, report: Report) -> None:
    """Measure what 1,000 rows cost in each form."""
    rng = np.random.default_rng(1)
    names = [f"c{i}" for i in range(N_COLUMNS)]
    caller = Caller(server, "api/v1/predict/wide")
    forms = bodies_of(pd.DataFrame(rng.normal(size=(1000, N_COLUMNS)), columns=names))

    def alone() -> list[int]:
        rows = np.array(orjson.loads(forms[0].content)["instances"])
        return model.predict(pd.DataFrame(rows, columns=names, copy=False)).tolist()

    calls: dict[str, Callable[[], object]] = {"orjson and predict alone": alone}
    for form in forms:
        assert json.loads(caller.post(form))["predictions"] == alone()
        calls[form.name] = lambda form=form: caller.post(form)
    taken_ms: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(n_rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            taken_ms[name].append((time.perf_counter() - started) * 1e3)
    first = taken_ms["orjson and predict alone"]
    sizes = {form.name: len(form.content) for form in forms}
    for name, each in taken_ms.items():
        median_ms, fast_ms = statistics.median(each), _fastest_tenth(each)
        report.measured(
            f"1,000 × 30, {name}", bytes=sizes.get(name, 0), median_ms=median_ms,
            fastest_tenth_ms=fast_ms,
        )  # fmt: skip
        if each is not first:
            report.figure(
                f"1,000 rows × 30 columns as {name} / orjson and predict alone, median",
                median_ms / statistics.median(first),
                requirement=REQUIRED.get(name),
                note=f"fastest tenth {fast_ms / _fastest_tenth(first):.2f} ×",
            )


def _fastest_tenth(taken_ms: list[float]) -> float:
    return sorted(taken_ms)[len(taken_ms) // 10]


def stall(server: LiveServer, n_rows: int, report: Report) -> None:
    """Measure how long ``health/live`` waits at most while one body is answered."""
    frame = pd.DataFrame({"x": np.random.default_rng(2).normal(size=n_rows)})
    caller = Caller(server, "api/v1/predict/narrow")
    idle_ms, idle_s = _longest_wait_ms(server, lambda: time.sleep(2))
    report.measured("health/live, idle", bytes=0, answer_s=idle_s, longest_wait_ms=idle_ms)
    for body in bodies_of(frame):
        for _ in range(2):  # the first one may start a process
            wait_ms, took_s = _longest_wait_ms(server, lambda body=body: caller.post(body))
            report.measured(
                f"health/live, {n_rows:,} rows as {body.name}", bytes=len(body.content),
                answer_s=took_s, longest_wait_ms=wait_ms,
            )  # fmt: skip


def _longest_wait_ms(server: LiveServer, run: Callable[[], object]) -> tuple[float, float]:
    """Return the longest answer of ``health/live`` while ``run`` runs, and how long that took."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    # In a process of its own, so that what this one does is not measured.
    probe = spawn.Process(target=_probe, args=(server.url, theirs))
    probe.start()
    ours.recv()
    started = time.perf_counter()
    run()
    took_s = time.perf_counter() - started
    ours.send("stop")
    longest_ms = ours.recv()
    probe.join()
    return longest_ms, took_s


def _probe(url: str, pipe: Connection) -> None:
    parts = urlsplit(url + "health/live")
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    longest_s = 0.0
    while True:
        started = time.perf_counter()
        connection.request("GET", parts.path)
        connection.getresponse().read()
        if not longest_s:
            pipe.send("ready")
            longest_s = 1e-9
            continue
        longest_s = max(longest_s, time.perf_counter() - started)
        if pipe.poll(PROBE_S):
            pipe.send(longest_s * 1e3)
            return


def measure(report: Report, options: Options) -> None:
    """Measure both."""
    rng = np.random.default_rng(0)
    wide = pd.DataFrame(
        rng.normal(size=(2000, N_COLUMNS)), columns=[f"c{i}" for i in range(N_COLUMNS)]
    )
    target = wide.sum(axis=1) > 0
    narrow = wide[["c0"]].rename(columns={"c0": "x"})
    with (
        tempfile.TemporaryDirectory() as folder,
        start_server(
            Path(folder), "--MLServeApp.result_cache=off", env={"PYTHONPATH": str(ROOT)}
        ) as server,
    ):
        model = LogisticRegression().fit(wide, target)
        os.environ.update(MLSERVE_URL=server.url, MLSERVE_KEY=server.key)
        mlserve_jupyter.deploy(model, name="wide", sample=wide)
        mlserve_jupyter.deploy(
            LogisticRegression().fit(narrow, target), name="narrow", sample=narrow
        )
        compare(server, model, 10 if options.is_quick else N_ROUNDS, report)
        stall(server, 10_000 if options.is_quick else N_ROWS, report)
