"""What a dashboard over 90 days and 10 million predictions waits for, on SQLite and on PostgreSQL.

The calls are made up: ten models, two versions and two methods of each, sixty callers, more by day
than by night. What they add up to is put into the tables of the rollups as the log's writer and the
folding would have; the rest is real: a standalone server answers over HTTP, one request after the
other, on a connection that is kept.
"""

from __future__ import annotations

import io
import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from benchmarks.hosts import standalone
from benchmarks.log import postgres
from benchmarks.report import Options, Report, Requirement
from mlserve_jupyter.analytics.latency_histogram import BOUNDS_MS
from mlserve_jupyter.analytics.rollup_steps import DAY_S, KEPT_S, WEEK_S
from mlserve_jupyter.analytics.tally import SlowCall, slowest_of
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import writing
from mlserve_jupyter.storage.monitoring_tables import (
    caller_stats,
    model_stats,
    prediction_stats,
)
from tests.live import NO_TLS
from tests.registry.deploys import Deploys
from tests.storage.databases import opened

N_CALLS = 10_000_000
N_DAYS = 90
N_MODELS = 10
N_CALLERS = 60
N_REQUESTS = 100
REQUIRED = {
    "SQLite": Requirement(100, aim=10, at_most=True),
    "PostgreSQL": Requirement(50, aim=10, at_most=True),
}
METHODS = ("predict", "sim")
STAGES = ("total_ms", "queue_ms", "predict_ms")
N_BUCKETS = len(BOUNDS_MS) + 1

ROUTES = {
    "all models": "summary?since={90d}",
    "all models over time": "usage?since={90d}",
    "one model": "models/m0/summary?since={90d}",
    "one model over time": "models/m0/timeseries?since={90d}",
    "two versions": "models/m0/compare?a=1&b=2&since={90d}",
    "one caller over time": "models/m0/timeseries?since={90d}&principal=user0",
    "one model, a week by hours": "models/m0/timeseries?since={7d}",
    "one model, a day by quarters": "models/m0/timeseries?since={1d}",
    "all models, a day": "summary?since={1d}",
}


def measure(report: Report, options: Options) -> None:
    """Measure both databases; each route's 95th percentile is judged."""
    n_days = 3 if options.is_quick else N_DAYS
    n_calls = N_CALLS * n_days // N_DAYS // (10 if options.is_quick else 1)
    n_requests = 5 if options.is_quick else N_REQUESTS
    with postgres() as new_database:
        for name, requirement in REQUIRED.items():
            url = new_database() if name == "PostgreSQL" else ""
            with filled(url, n_calls, n_days, report, name) as client:
                for what, path in ROUTES.items():
                    p50_ms, p95_ms, n_bytes = answer_ms(client, path, n_requests)
                    report.measured(
                        f"{name}: {what}", p50_ms=p50_ms, p95_ms=p95_ms, answer_bytes=n_bytes
                    )
                    report.figure(f"{name}: {what}, p95", p95_ms, "ms", requirement)


@contextmanager
def filled(
    url: str, n_calls: int, n_days: int, report: Report, name: str
) -> Iterator[httpx.Client]:
    """Start a server on a database with rollups of so many calls; yields a client of it."""
    with TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder) / "data" / "mlserve", database_url=url)
        began_s = time.perf_counter()
        with opened(settings) as engine:
            deploy = Deploys(engine, settings.artifacts_dir)
            versions = [deploy(f"m{i}", b"x" * v) for v in (1, 2) for i in range(N_MODELS)]
            n_rows = fill(engine, versions, n_calls, n_days)
        report.measured(
            f"{name}: filled", calls=n_calls, rows=n_rows, s=time.perf_counter() - began_s
        )
        options = [f"--MLServeServer.database_url={url}"] if url else []
        with (
            standalone(*options, folder=Path(folder)) as server,
            httpx.Client(
                base_url=server.url + "api/v1/analytics/",
                headers={"X-MLServe-Key": server.key},
                timeout=60,
                verify=NO_TLS,
            ) as client,
        ):
            yield client


def answer_ms(client: httpx.Client, path: str, n_requests: int) -> tuple[float, float, int]:
    """Return the median and the 95th percentile of answers, and how large one is."""
    now = datetime.now(timezone.utc)
    for words, days in (("{90d}", 90), ("{7d}", 7), ("{1d}", 1)):
        since = (now - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = path.replace(words, since)
    took_ms = []
    for i in range(n_requests + 3):
        began_s = time.perf_counter()
        answer = client.get(path)
        if i >= 3:  # the first ones compile statements
            took_ms.append((time.perf_counter() - began_s) * 1e3)
        answer.raise_for_status()
    p95_ms = statistics.quantiles(took_ms, n=20)[18] if len(took_ms) > 1 else took_ms[0]
    return statistics.median(took_ms), p95_ms, len(answer.content)


@dataclass(frozen=True)
class Calls:
    """Some calls, as columns of equal length.

    Attributes
    ----------
    at_s
        When they came, int64.
    version, method, caller
        Which, int64.
    buckets
        Of the histograms, by stage, int64; -1 where a call did not go through it.
    """

    at_s: Any
    version: Any
    method: Any
    caller: Any
    failed: Any
    cached: Any
    buckets: dict[str, Any]


def fill(engine: Engine, versions: list[ServedVersion], n_calls: int, n_days: int) -> int:
    """Put what so many calls add up to into the tables; returns how many rows that takes."""
    draw = np.random.default_rng(7)
    now_s = int(time.time())
    ends_s = (now_s // DAY_S + 1) * DAY_S
    begins_s = ends_s - n_days * DAY_S
    n_rows = 0
    while begins_s < ends_s:
        until_s = min((begins_s // WEEK_S + 1) * WEEK_S, ends_s)
        days = (until_s - begins_s) // DAY_S
        is_late = begins_s > ends_s - n_days * DAY_S / 2
        calls = calls_of(draw, n_calls * days // n_days, begins_s, days, is_late)
        for step_s, kept_s in KEPT_S.items():
            if until_s < now_s - kept_s:
                continue
            for table in (model_stats, prediction_stats, caller_stats):
                rows = list(rows_of(calls, table, step_s, versions))
                n_rows += len(rows)
                with writing(engine, durable=False) as connection:
                    insert(connection, table, rows)
        begins_s = until_s
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("VACUUM ANALYZE"))
    return n_rows


def insert(connection: Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows; by COPY where there is one."""
    if connection.dialect.name == "sqlite":
        connection.execute(table.insert(), rows)
        return
    text = io.StringIO()
    for row in rows:
        text.write("\t".join(copied(value) for value in row.values()) + "\n")
    text.seek(0)
    connection.connection.cursor().copy_expert(
        f"COPY {table.name} ({', '.join(rows[0])}) FROM STDIN", text
    )


def copied(value: Any) -> str:
    """Return a value (a column's, hence ``Any``) as COPY takes it."""
    if value is None:
        return "\\N"
    return "\\\\x" + value.hex() if isinstance(value, bytes) else str(value)


def calls_of(draw: Any, n: int, begins_s: int, days: int, is_late: bool) -> Calls:
    """Make up the calls of some days; the second versions come when half of all are over."""
    hour = draw.normal(14, 4, n) % 24
    day = draw.integers(0, days, n)
    model = np.minimum(draw.zipf(1.7, n) - 1, N_MODELS - 1)
    is_second = is_late & (draw.random(n) < 0.95)
    cached = draw.random(n) < 0.15
    queue_ms = np.where(cached | (draw.random(n) < 0.6), -1, draw.exponential(0.8, n))
    predict_ms = np.where(cached, -1, draw.lognormal(0.5 + model / 5, 0.7, n))
    total_ms = np.maximum(queue_ms, 0) + np.maximum(predict_ms, 0) + draw.lognormal(-1.5, 0.3, n)
    times_ms = {"total_ms": total_ms, "queue_ms": queue_ms, "predict_ms": predict_ms}
    return Calls(
        at_s=begins_s + day * DAY_S + (hour * 3600).astype(np.int64),
        version=model + N_MODELS * is_second,
        method=(draw.random(n) < 0.1).astype(np.int64),
        # A caller uses a model or two.
        caller=(model * 7 + draw.zipf(1.5, n) % 12) % N_CALLERS,
        failed=draw.random(n) < 0.01,
        cached=cached,
        buckets={
            stage: np.where(ms < 0, -1, np.searchsorted(BOUNDS_MS, ms))
            for stage, ms in times_ms.items()
        },
    )


def rows_of(
    calls: Calls, table: sa.Table, step_s: int, versions: list[ServedVersion]
) -> Iterator[dict[str, Any]]:
    """Add the calls up to the rows of one table, for periods of one length."""
    is_by_caller = table is caller_stats
    caller = calls.caller if is_by_caller else np.zeros_like(calls.caller)
    is_by_model = table is model_stats
    sizes = (len(versions), len(METHODS), N_CALLERS)
    version_of = calls.version % N_MODELS if is_by_model else calls.version
    method_of = np.zeros_like(calls.method) if is_by_model else calls.method
    place = np.ravel_multi_index((version_of, method_of, caller), sizes)
    cell = calls.at_s // step_s * math.prod(sizes) + place
    cells, of_call = np.unique(cell, return_inverse=True)
    counts = np.bincount(of_call)
    failed = np.bincount(of_call, calls.failed, len(cells)).astype(int)
    cached = np.bincount(of_call, calls.cached, len(cells)).astype(int)
    histograms = {
        stage: list(encoded(of_call, buckets, len(cells)))
        for stage, buckets in calls.buckets.items()
    }
    periods, places = np.divmod(cells, math.prod(sizes))
    columns = (periods, *np.unravel_index(places, sizes))
    keys = zip(*(column.tolist() for column in columns), strict=True)
    for i, (period, version, method, caller_number) in enumerate(keys):
        row: dict[str, Any] = {
            "model_id": versions[version].model_id,
            "step_s": step_s,
            "start_s": period * step_s,
            "n_predictions": int(counts[i]),
            "n_errors": int(failed[i]),
            "n_cached": int(cached[i]),
            "n_rows": int(counts[i]),
            "load_ms": None,
            **{stage: histograms[stage][i] for stage in STAGES},
        }
        if not is_by_model:
            row |= {"version_id": versions[version].id, "method": METHODS[method]}
        if is_by_caller:
            row["principal"] = f"user{caller_number}"
        if table is prediction_stats:
            row |= slowest_of(slow_calls(period * step_s, min(int(counts[i]), 10)))
        yield row


def encoded(of_call: Any, buckets: Any, n_cells: int) -> Iterator[bytes | None]:
    """Encode the histogram of each cell."""
    went = buckets >= 0
    table = of_call[went] * N_BUCKETS + buckets[went]
    filled_buckets, counts = np.unique(table, return_counts=True)
    cell, bucket = np.divmod(filled_buckets, N_BUCKETS)
    edges = np.searchsorted(cell, np.arange(n_cells + 1))
    for begins, ends in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if begins == ends:
            yield None
            continue
        own = bucket[begins:ends]
        lanes = np.zeros(int(own[-1] - own[0]) + 1, "<u4")
        lanes[own - own[0]] = counts[begins:ends]
        yield int(own[0]).to_bytes(2, "little") + lanes.tobytes()


def slow_calls(at_s: int, n: int) -> list[SlowCall]:
    """Make up the slowest calls of a period."""
    slow = SlowCall(
        90.0, at_s * 10**6, "0123456789abcdef" * 2, "user1 (key)", "ok", 1, 1.0, 0.0, 88.0
    )
    return [replace_ms(slow, 90.0 - i + (at_s // 60) % 97) for i in range(n)]


def replace_ms(call: SlowCall, total_ms: float) -> SlowCall:
    """Return the same call with another time."""
    return SlowCall(total_ms, *(getattr(call, name) for name in SlowCall.__struct_fields__[1:]))
