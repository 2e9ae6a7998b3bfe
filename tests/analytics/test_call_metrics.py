from __future__ import annotations

from datetime import datetime, timezone

import pytest

from mlserve_jupyter.analytics import call_metrics as module
from mlserve_jupyter.analytics.call_metrics import BOUNDS_MS, CallMetrics
from mlserve_jupyter.analytics.prediction_record import PredictionRecord


def record(model_id: str = "m", **facts: object) -> PredictionRecord:
    return PredictionRecord(
        model_id=model_id, version_id="v", request_id="r", principal="ada (key)",
        method="predict", created_at=datetime.now(timezone.utc), **facts,
    )  # fmt: skip


def test_calls_are_counted_by_status_and_by_the_stages_that_they_went_through() -> None:
    metrics = CallMetrics()
    metrics.note(record(n_rows=3, load_ms=700.0, predict_ms=2.0, total_ms=703.0))
    metrics.note(record(n_rows=1, queue_ms=0.1, predict_ms=2.0, total_ms=2.2))
    metrics.note(record(n_rows=1, cached=True, total_ms=0.2))
    metrics.note(record(status="input_rejected", total_ms=99_999.0))
    calls = metrics.models["m"]
    assert calls.n_by_status == {"ok": 3, "input_rejected": 1}
    assert (calls.n_rows, calls.n_cached) == (5, 1)
    assert [sum(h.counts) for h in (calls.queue, calls.load, calls.predict, calls.total)] == [
        1, 1, 2, 4,
    ]  # fmt: skip
    assert calls.predict.counts[BOUNDS_MS.index(2.5)] == 2
    assert calls.total.counts[-1] == 1, "what took longer than all bounds"
    assert calls.predict.sum_ms == 4.0


def test_no_number_of_models_makes_the_metrics_grow_without_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_MODELS", 3)
    metrics = CallMetrics()
    for i in range(100):
        metrics.note(record(f"model {i}"))
    assert len(metrics.models) == 4
    assert sum(calls.n_by_status["ok"] for calls in metrics.models.values()) == 100
