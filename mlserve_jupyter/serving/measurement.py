"""What one process measures, as plain data: it goes to a sibling or to whoever draws it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlserve_jupyter.analytics.call_metrics import OTHER_MODELS, Histogram, RequestCounts
from mlserve_jupyter.errors import ModelNotFound

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from mlserve_jupyter.analytics.alerts import Alerts
    from mlserve_jupyter.analytics.maintenance import Maintenance
    from mlserve_jupyter.analytics.prediction_log import PredictionLog
    from mlserve_jupyter.serving.live_catalog import LiveCatalog
    from mlserve_jupyter.serving.predict import Predictor
    from mlserve_jupyter.serving.result_cache import ResultCache
    from mlserve_jupyter.serving.workers import WorkerPool
    from mlserve_jupyter.settings import Settings


class MeasuredStage(msgspec.Struct):
    """A histogram: the count of each bucket of ``call_metrics.BOUNDS_MS``, and the sum."""

    counts: list[int]
    sum_ms: float


class MeasuredModel(msgspec.Struct):
    """The calls of one model, which is named ``owner~name``."""

    model: str
    n_by_status: dict[str, int]
    n_cached: int
    n_rows: int
    stages: dict[str, MeasuredStage]


class Measurement(msgspec.Struct, kw_only=True):
    """Everything that a process counts.

    Attributes
    ----------
    requests
        Route, method, status, and how many.
    n_cache_lookups
        By outcome: ``hit``, ``miss`` or ``bypassed``.
    n_waiting
        Calls that wait for a worker or a thread.
    loaded_bytes
        Of models in workers, and of compiled graphs in the process itself.
    n_slow
        Calls that took longer than ``slow_request_s``.
    n_connections, n_connections_in_use, max_connections
        To the database, those of them that are at work, and how many there may be; 0 where a file
        is the database.
    disk_bytes, disk_free_bytes
        Of the disk with the data folder; 0 where it cannot be asked.
    resident_bytes
        What the process itself takes, without its workers; 0 where that is not known.
    n_alerts
        Alerts that fire, by rule; of the process that looks.
    leads
        Whether this process does what one of all on its database has to do.
    """

    requests: list[tuple[str, str, int, int]]
    models: list[MeasuredModel] = []
    n_cache_lookups: dict[str, int] = {}
    n_waiting: int = 0
    n_workers: int = 0
    n_workers_replaced: int = 0
    loaded_bytes: int = 0
    log_rows: int = 0
    log_bytes: int = 0
    n_log_lost: int = 0
    n_slow: int = 0
    n_connections: int = 0
    n_connections_in_use: int = 0
    max_connections: int = 0
    disk_bytes: int = 0
    disk_free_bytes: int = 0
    resident_bytes: int = 0
    leads: bool = False
    n_alerts: dict[str, int] = {}


Measurements = Mapping[str, Measurement]
"""By process; the one of a host that is a single process has no name."""

MeasureAll = Callable[[], Awaitable[Measurements]]
"""What a host provides: the measurements of all its processes."""


def measure(
    requests: RequestCounts,
    catalog: LiveCatalog,
    workers: WorkerPool,
    predictor: Predictor,
    log: PredictionLog,
    results: ResultCache | None,
    maintenance: Maintenance,
    alerts: Alerts,
    engine: Engine,
    settings: Settings,
) -> Measurement:
    """Read the counters of the rooms."""
    n_idle, n_in_use = _connections(engine)
    disk_bytes, disk_free_bytes = _disk(settings.data_dir)
    slots = [slot for environment in workers.environments() for slot in environment.slots]
    return Measurement(
        requests=measure_requests(requests),
        models=_models(log, lambda model_id: _name_of(catalog, model_id)),
        n_cache_lookups={} if results is None else results.n_lookups(),
        n_waiting=sum(slot.n_waiting for slot in slots) + predictor.n_in_threads,
        n_workers=sum(slot.worker is not None and slot.worker.alive for slot in slots),
        n_workers_replaced=workers.n_replaced,
        loaded_bytes=sum(slot.load_estimate()[1] for slot in slots) + predictor.loaded_bytes,
        log_rows=log.n_held,
        log_bytes=log.held_bytes,
        n_log_lost=log.n_lost,
        n_slow=predictor.n_slow,
        n_connections=n_idle + n_in_use,
        n_connections_in_use=n_in_use,
        max_connections=0
        if engine.dialect.name == "sqlite"
        else settings.database_pool_size + settings.database_pool_overflow,
        disk_bytes=disk_bytes,
        disk_free_bytes=disk_free_bytes,
        resident_bytes=resident_bytes(),
        leads=maintenance.leads,
        n_alerts=dict(alerts.n_firing) if maintenance.leads else {},
    )


def measure_requests(requests: RequestCounts) -> list[tuple[str, str, int, int]]:
    """Read the counters of requests."""
    return [(*kind, n) for kind, n in requests.n_by_kind.items()]


def resident_bytes() -> int:
    """Return what this process takes of the machine's memory; 0 where that is not known."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _connections(engine: Engine) -> tuple[int, int]:
    """Return how many connections of the pool are idle, and how many are in use."""
    from sqlalchemy.pool import QueuePool

    pool = engine.pool
    return (pool.checkedin(), pool.checkedout()) if isinstance(pool, QueuePool) else (0, 0)


def _disk(folder: Path) -> tuple[int, int]:
    """Return how large a folder's disk is, and what of it the server's user may still fill."""
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return 0, 0
    # As `df` counts: what is kept for root is nobody else's.
    return disk.used + disk.free, disk.free


def _models(log: PredictionLog, name_of: Callable[[str], str]) -> list[MeasuredModel]:
    """Return the calls by the models' names; those of models that are gone are one model's."""
    found: dict[str, MeasuredModel] = {}
    for model_id, calls in log.calls.models.items():
        name = name_of(model_id)
        sums = found.setdefault(name, MeasuredModel(name, {}, 0, 0, {}))
        for status, n in calls.n_by_status.items():
            sums.n_by_status[status] = sums.n_by_status.get(status, 0) + n
        sums.n_cached += calls.n_cached
        sums.n_rows += calls.n_rows
        for stage in ("queue", "load", "predict", "total"):
            _add(sums.stages, stage, getattr(calls, stage))
    return list(found.values())


def _add(stages: dict[str, MeasuredStage], stage: str, histogram: Histogram) -> None:
    known = stages.get(stage)
    if known is None:
        stages[stage] = MeasuredStage(list(histogram.counts), histogram.sum_ms)
        return
    known.counts = [a + b for a, b in zip(known.counts, histogram.counts, strict=True)]
    known.sum_ms += histogram.sum_ms


def _name_of(catalog: LiveCatalog, model_id: str) -> str:
    if model_id == OTHER_MODELS:
        return "(others)"
    try:
        model = catalog.current.by_id(model_id)
    except ModelNotFound:
        return "(deleted)"
    return f"{model.owner}~{model.name}"
