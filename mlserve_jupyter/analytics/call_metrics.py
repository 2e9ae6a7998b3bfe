"""Plain counters of this process: what the metrics are made of when somebody asks for them.

A request costs a few increments here. Names, labels and the sums over processes are left to whoever
reads (``measurement``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from mlserve_jupyter.analytics.prediction_record import PredictionRecord

BOUNDS_MS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0,
             1e3, 2.5e3, 5e3, 1e4, 3e4)  # fmt: skip
"""Upper bounds of the histograms' buckets; one more is for all that took longer."""

MAX_MODELS = 500
"""Models that are counted one by one; those that are called first after that are one."""

OTHER_MODELS = ""


class Histogram:
    """How often something took how long, in milliseconds."""

    __slots__ = ("counts", "sum_ms")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_MS) + 1)
        self.sum_ms = 0.0

    def add(self, ms: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS_MS, ms)] += 1
        self.sum_ms += ms


class ModelCalls:
    """The calls of one model.

    Attributes
    ----------
    n_by_status
        By ``ok`` or the code of an error.
    queue, load, predict
        Of the calls that had to wait, to load the model, and to run it.
    total
        Of all calls.
    """

    __slots__ = ("load", "n_by_status", "n_cached", "n_rows", "predict", "queue", "total")

    def __init__(self) -> None:
        self.n_by_status: Counter[str] = Counter()
        self.n_cached = 0
        self.n_rows = 0
        self.queue = Histogram()
        self.load = Histogram()
        self.predict = Histogram()
        self.total = Histogram()


class CallMetrics:
    """The calls of all models, by the model's id."""

    def __init__(self) -> None:
        self.models: dict[str, ModelCalls] = {}

    def note(self, record: PredictionRecord) -> None:
        """Count a call; only stages that it went through are."""
        calls = self.models.get(record.model_id)
        if calls is None:
            calls = self._begin(record.model_id)
        calls.n_by_status[record.status] += 1
        calls.n_rows += record.n_rows
        calls.total.add(record.total_ms)
        if record.cached:
            calls.n_cached += 1
            return
        if record.predict_ms:
            calls.predict.add(record.predict_ms)
        if record.queue_ms:
            calls.queue.add(record.queue_ms)
        if record.load_ms:
            calls.load.add(record.load_ms)

    def _begin(self, model_id: str) -> ModelCalls:
        key = model_id if len(self.models) < MAX_MODELS else OTHER_MODELS
        return self.models.setdefault(key, ModelCalls())


class RequestCounts:
    """The HTTP requests, by route, method and status."""

    def __init__(self) -> None:
        self.n_by_kind: Counter[tuple[str, str, int]] = Counter()

    def note(self, route: str, method: str, status: int) -> None:
        """Count a request that was answered; ``route`` is a pattern, of which there are few."""
        self.n_by_kind[route, method, status] += 1
