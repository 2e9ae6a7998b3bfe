"""How many calls a second the prediction log takes into SQLite and into PostgreSQL.

Calls of one row of ten numbers are handed over as fast as the buffer takes them, by one thread,
while the log's own thread writes them, with all that is kept beside them in the same transaction;
the time runs until the table has the last one. Then they come at a rate, and what handing one over
takes is measured, as the event loop would feel it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report import Options, Report, Requirement
from mlserve_jupyter.analytics.live_histograms import LiveHistograms
from mlserve_jupyter.analytics.prediction_log import PredictionLog
from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.analytics.rollups import count_calls
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.settings import Settings
from tests.registry.deploys import Deploys
from tests.storage.databases import opened
from tests.storage.postgres_process import PostgresProcess

N_ROWS = 200_000
N_QUICK = 10_000
N_PACED = 20_000
PACED_PER_S = 4_000
BUFFER_ROWS = 20_000
REQUIRED = {
    "SQLite": Requirement(50_000),
    "PostgreSQL": Requirement(20_000),
}
WAIT_S = 120.0


def measure(report: Report, options: Options) -> None:
    """Measure both databases in turn, and judge the medians of the rounds."""
    n_rows = N_QUICK if options.is_quick else N_ROWS
    n_paced = N_QUICK // 10 if options.is_quick else N_PACED
    rates: dict[str, list[float]] = {name: [] for name in REQUIRED}
    with postgres() as new_database:
        for i_round in range(options.rounds(3)):
            for name in REQUIRED:
                url = new_database() if name == "PostgreSQL" else ""
                with TemporaryDirectory() as folder, log_on(Path(folder), url) as (log, version):
                    rate, cpu_us = rows_per_s(log, version, n_rows)
                    rates[name].append(rate)
                    p50_us, p99_us = append_us(log, version, n_paced)
                report.measured(
                    f"{name}, round {i_round + 1}",
                    rows_s=rate,
                    cpu_us=cpu_us,
                    append_p50_us=p50_us,
                    append_p99_us=p99_us,
                )
    for name, requirement in REQUIRED.items():
        report.figure(
            f"calls a second into {name}", statistics.median(rates[name]), "/s", requirement
        )


@contextmanager
def postgres() -> Iterator[Callable[[], str]]:
    """Run a PostgreSQL until the block ends; give what makes a database and returns its URL."""
    server = PostgresProcess()
    try:
        yield server.new_database
    finally:
        server.close()


@contextmanager
def log_on(folder: Path, url: str) -> Iterator[tuple[PredictionLog, ServedVersion]]:
    """Open a log as the platform does, with all that is told of its batches, and a version."""
    settings = Settings(data_dir=folder / "data", database_url=url, log_buffer_rows=BUFFER_ROWS)
    with opened(settings) as engine:
        version = Deploys(engine, settings.artifacts_dir)()
        histograms = LiveHistograms(engine)
        observers = (count_calls, histograms.observe)
        log = PredictionLog(engine, settings, settings.data_dir / "log", observers)
        try:
            yield log, version
        finally:
            log.close()
            histograms.close()


def rows_per_s(log: PredictionLog, version: ServedVersion, n_rows: int) -> tuple[float, float]:
    """Hand rows over as fast as the buffer takes them.

    Returns
    -------
    tuple of float and float
        How many reach the table a second, and the µs of processor time that one costs this process
        in all, which other work on the machine changes little.
    """
    records = [record(version, i) for i in range(n_rows)]
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    for start in range(0, n_rows, 1000):
        while log.n_held > BUFFER_ROWS - 1000:
            time.sleep(0.001)
        for each in records[start : start + 1000]:
            log.append(each)
    if not log.flush(WAIT_S) or log.n_lost:
        raise RuntimeError(f"{log.n_lost} calls were lost, or did not arrive in {WAIT_S:g} s.")
    cpu_us = (time.process_time() - began_cpu_s) / n_rows * 1e6
    return n_rows / (time.perf_counter() - began_s), cpu_us


def append_us(log: PredictionLog, version: ServedVersion, n_rows: int) -> tuple[float, float]:
    """Hand rows over at a rate; return the median and the 99th percentile of what one takes."""
    took = []
    began_s = time.perf_counter()
    for i in range(n_rows):
        each = record(version, i)
        while time.perf_counter() < began_s + i / PACED_PER_S:
            time.sleep(0)
        before_s = time.perf_counter()
        log.append(each)
        took.append((time.perf_counter() - before_s) * 1e6)
    percentiles = statistics.quantiles(took, n=100)
    return percentiles[49], percentiles[98]


def record(version: ServedVersion, i: int) -> PredictionRecord:
    """Return a call; ten callers in turn, and every hundredth fails."""
    row = ", ".join(f"{(i * k) % 977 / 7:.4f}" for k in range(1, 11))
    return PredictionRecord(
        model_id=version.model_id,
        version_id=version.id,
        request_id=f"{i:032x}",
        principal=f"user{i % 10} (key)",
        method="predict",
        created_at=datetime.now(timezone.utc) + timedelta(microseconds=i),
        status="input_rejected" if i % 100 == 0 else "ok",
        n_rows=1,
        queue_ms=i % 13 / 10,
        predict_ms=i % 101 / 50,
        total_ms=i % 103 / 30,
        inputs=b'{"instances": [[%s]]}' % row.encode(),
        outputs=b"[%d]" % (i % 3),
    )
