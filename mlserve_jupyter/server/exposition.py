"""Measurements in Prometheus' words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from mlserve_jupyter.analytics.call_metrics import BOUNDS_MS
from mlserve_jupyter.serving.measurement import MeasuredStage, Measurements
from mlserve_jupyter.version import __version__

_GAUGES = (
    ("mlserve_queue_length", "Calls that wait for a worker or a thread.", "n_waiting"),
    ("mlserve_workers", "Worker processes.", "n_workers"),
    ("mlserve_loaded_bytes", "Models and compiled graphs in memory.", "loaded_bytes"),
    ("mlserve_log_buffered_predictions", "Calls that wait to be logged.", "log_rows"),
    ("mlserve_log_buffered_bytes", "Their size.", "log_bytes"),
    ("mlserve_database_connections", "Open connections to the database.", "n_connections"),
    ("mlserve_database_connections_in_use", "Those at work.", "n_connections_in_use"),
    ("mlserve_database_connections_max", "How many there may be.", "max_connections"),
    ("mlserve_disk_bytes", "Size of the disk with the data folder.", "disk_bytes"),
    ("mlserve_disk_free_bytes", "What of it is free.", "disk_free_bytes"),
    ("mlserve_resident_bytes", "Memory of server processes, without workers.", "resident_bytes"),
    ("mlserve_maintenance_leader", "1 for the process that does maintenance.", "leads"),
)
_COUNTERS = (
    ("mlserve_worker_restarts", "Worker processes that were replaced.", "n_workers_replaced"),
    ("mlserve_log_lost_predictions", "Calls that the log has no row of.", "n_log_lost"),
    ("mlserve_slow_predictions", "Calls that took longer than slow_request_s.", "n_slow"),
)


class MeasurementCollector(Collector):
    """Draws a measurement whenever a registry is read.

    Parameters
    ----------
    measure
        Called by each read.
    """

    def __init__(self, measure: Callable[[], Measurements]) -> None:
        self._measure = measure

    def describe(self) -> list[Metric]:
        """Name nothing ahead: a registry would measure to find out."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Return all metrics as they are now."""
        return families(self._measure())


def exposition(measurements: Measurements) -> bytes:
    """Return the text that Prometheus reads."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MeasurementCollector(lambda: measurements))
    return generate_latest(registry)


def families(measurements: Measurements) -> Iterator[Metric]:
    """Go through the metrics."""
    own = ["process"] if any(measurements) else []
    requests = CounterMetricFamily(
        "mlserve_http_requests",
        "HTTP requests that were answered.",
        labels=["route", "method", "status", *own],
    )
    calls = CounterMetricFamily(
        "mlserve_predictions",
        "Calls of models, by 'ok' or the code of the error.",
        labels=["model", "status", *own],
    )
    cached = CounterMetricFamily(
        "mlserve_predictions_cached",
        "Calls that the result cache answered.",
        labels=["model", *own],
    )
    rows = CounterMetricFamily("mlserve_prediction_rows", "Rows of input.", labels=["model", *own])
    seconds = HistogramMetricFamily(
        "mlserve_prediction_seconds",
        "What calls took, by stage: queue, load, predict, total.",
        labels=["model", "stage", *own],
    )
    lookups = CounterMetricFamily(
        "mlserve_cache_lookups",
        "Questions to the result cache: hit, miss, or bypassed since computing is cheaper.",
        labels=["outcome", *own],
    )
    alerts = GaugeMetricFamily(
        "mlserve_alerts", "Alerts of the platform's own that fire.", labels=["rule", *own]
    )
    for process, measurement in measurements.items():
        of = [process] if own else []
        for rule, n in measurement.n_alerts.items():
            alerts.add_metric([rule, *of], n)
        for route, method, status, n in measurement.requests:
            requests.add_metric([route, method, str(status), *of], n)
        for outcome, n in measurement.n_cache_lookups.items():
            lookups.add_metric([outcome, *of], n)
        for model in measurement.models:
            for code, n in model.n_by_status.items():
                calls.add_metric([model.model, code, *of], n)
            cached.add_metric([model.model, *of], model.n_cached)
            rows.add_metric([model.model, *of], model.n_rows)
            for name, stage in model.stages.items():
                buckets = _buckets(stage)
                seconds.add_metric([model.model, name, *of], buckets, stage.sum_ms / 1e3)
    yield from (requests, calls, cached, rows, seconds, lookups, alerts)
    for name, text, field in _COUNTERS:
        yield _of_processes(CounterMetricFamily(name, text, labels=own), field, measurements)
    for name, text, field in _GAUGES:
        yield _of_processes(GaugeMetricFamily(name, text, labels=own), field, measurements)
    yield InfoMetricFamily("mlserve_build", "The release.", value={"version": __version__})
    yield GaugeMetricFamily(
        "mlserve_processes", "Server processes that have answered.", value=len(measurements)
    )


def _of_processes(
    family: CounterMetricFamily | GaugeMetricFamily, field: str, measurements: Measurements
) -> Metric:
    for process, measurement in measurements.items():
        family.add_metric([process] if any(measurements) else [], getattr(measurement, field))
    return family


def _buckets(stage: MeasuredStage) -> list[tuple[str, float]]:
    """Return the cumulative counts by upper bound in seconds."""
    bounds = [*(repr(bound / 1e3) for bound in BOUNDS_MS), "+Inf"]
    total = 0
    found: list[tuple[str, float]] = []
    for bound, count in zip(bounds, stage.counts, strict=True):
        total += count
        found.append((bound, total))
    return found
