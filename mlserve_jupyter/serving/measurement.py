"""What one process measures, as plain data: it goes to a sibling or to whoever draws it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from mlserve_jupyter.analytics.call_metrics import OTHER_MODELS, Histogram, RequestCounts
from mlserve_jupyter.errors import ModelNotFound

if TYPE_CHECKING:
    from mlserve_jupyter.analytics.prediction_log import PredictionLog
    from mlserve_jupyter.serving.live_catalog import LiveCatalog
    from mlserve_jupyter.serving.predict import Predictor
    from mlserve_jupyter.serving.result_cache import ResultCache
    from mlserve_jupyter.serving.workers import WorkerPool


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
) -> Measurement:
    """Read the counters of the rooms."""
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
    )


def measure_requests(requests: RequestCounts) -> list[tuple[str, str, int, int]]:
    """Read the counters of requests."""
    return [(*kind, n) for kind, n in requests.n_by_kind.items()]


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
