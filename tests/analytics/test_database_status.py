"""When the disk will be full, if all goes on as it does."""

from __future__ import annotations

from math import inf

import pytest
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics import database_status
from mlserve_jupyter.analytics.database_status import days_until_full, read_status
from mlserve_jupyter.settings import Settings
from tests.analytics.archives import DAY, TODAY, log_calls, times_on
from tests.registry.deploys import Deploys


@pytest.mark.parametrize(
    ("free", "growth", "until_removed", "archives", "days"),
    [
        (1000, 0, inf, 0, None),  # nothing comes
        (1000, 10, inf, 0, 100),  # nothing goes
        (1000, 10, 50, 0, None),  # in 50 days as much goes as comes
        (1000, 10, 100, 0, 100),  # just then it is full
        (1000, 10, 50, 2, 300),  # from then on there are only archives
        (1000, 10, 0, 2, 500),  # as it is already
        (0, 10, 50, 2, 0),
    ],
)
def test_the_disk_is_full_in(
    free: float, growth: float, until_removed: float, archives: float, days: float | None
) -> None:
    assert days_until_full(free, growth, until_removed, archives) == days


def test_sizes_of_tables_are_counted_or_projected(
    engine: Engine, settings: Settings, deploy: Deploys, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_calls(engine, settings, deploy(), *times_on(TODAY - DAY, 2000))
    counted = read_status(engine, settings)
    monkeypatch.setattr(database_status, "MAX_COUNTED_BYTES", 0)
    projected = read_status(engine, settings)
    sizes = {table.name: table.size_bytes for table in counted.tables}
    assert counted.tables[0].name == projected.tables[0].name == "predictions"
    assert projected.tables[0].size_bytes == pytest.approx(sizes["predictions"], rel=0.5)
    assert sum(sizes.values()) <= counted.size_bytes


def test_an_empty_log_grows_by_nothing(engine: Engine, settings: Settings) -> None:
    status = read_status(engine, settings)
    assert status.oldest_prediction_at is None
    assert status.growth_bytes_per_day == 0
    assert status.days_until_full is None
