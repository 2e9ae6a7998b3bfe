"""What is said of slow calls, and how much of it."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from pathlib import Path

import pytest

from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.serving.slow_calls import MAX_LINES_PER_S, SlowCalls
from tests import toys
from tests.serving.versions import served

LONG_MS = 1500.0


@pytest.fixture
def version(tmp_path: Path) -> ServedVersion:
    return served(toys.write_model(toys.SumModel(), tmp_path))


def call(version: ServedVersion, total_ms: float) -> PredictionRecord:
    return PredictionRecord(
        model_id=version.model_id,
        version_id=version.id,
        request_id="r",
        principal="ann",
        method="predict",
        created_at=datetime.now(timezone.utc),
        total_ms=total_ms,
    )


def test_only_what_takes_longer_than_the_limit_is_slow(
    version: ServedVersion, caplog: pytest.LogCaptureFixture
) -> None:
    slow = SlowCalls(1.0)
    slow.note(version, call(version, 999.0))
    assert not caplog.records
    slow.note(version, call(version, LONG_MS))
    assert len(caplog.records) == slow.n_slow == 1
    slow.apply(2.0)
    slow.note(version, call(version, LONG_MS))
    slow.apply(0)
    slow.note(version, call(version, 1e9))
    assert len(caplog.records) == slow.n_slow == 1


def test_a_flood_of_slow_calls_makes_a_bounded_number_of_lines(
    version: ServedVersion, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr("mlserve_jupyter.serving.slow_calls.time.monotonic", lambda: now_s)
    slow = SlowCalls(1.0)
    for _ in range(1000):
        slow.note(version, call(version, LONG_MS))
    assert len(caplog.records) == MAX_LINES_PER_S
    assert slow.n_slow == 1000
    now_s = 101.0
    slow.note(version, call(version, LONG_MS))
    [*_, last] = caplog.records
    assert last.levelno == logging.WARNING
    assert vars(last)["left_out"] == 1000 - MAX_LINES_PER_S
    slow.note(version, call(version, LONG_MS))
    assert "left_out" not in vars(caplog.records[-1])
