"""Reports find their rows by an index on SQLite, which plans by tables and indexes alone.

PostgreSQL, which plans by what is in the tables, is in ``tests.storage.test_index_plans``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.analytics.rollup_reading import (
    Selection,
    read_callers,
    read_slowest,
    read_tallies,
)
from mlserve_jupyter.analytics.rollup_steps import DAY_S, cover
from mlserve_jupyter.storage.engine import reading
from tests.storage.databases import opened, settings_in

NOW_S = time.time()
MODELS = ("01a2087e-5878-7ea2-a7c5-56a22f16abec",)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with opened(settings_in(tmp_path)) as engine:
        yield engine


def plan_of(engine: Engine, read: Any, selection: Selection, *keys: Any) -> str:
    """Return how the database answers what ``read`` asks it (any of the functions: ``Any``)."""
    asked: list[tuple[str, Any]] = []

    def note(
        connection: Connection, cursor: Any, statement: str, parameters: Any, *rest: Any
    ) -> None:
        asked.append((statement, parameters))

    with reading(engine) as connection:
        sa.event.listen(engine, "before_cursor_execute", note)
        read(connection, selection, *keys)
        sa.event.remove(engine, "before_cursor_execute", note)
        (statement, parameters), *_ = asked
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return "\n".join(str(row[-1]) for row in rows)


@pytest.mark.parametrize(
    ("read", "keys", "selected", "index"),
    [
        (read_tallies, ("start_s",), {}, "model_stats"),
        (read_tallies, ("model_id",), {}, "model_stats"),
        (read_tallies, ("version_id", "method"), {}, "prediction_stats"),
        (read_tallies, ("start_s",), {"method": "predict"}, "prediction_stats"),
        (read_tallies, ("start_s",), {"principal": "ann"}, "caller_stats"),
        (read_callers, (), {}, "ix_caller_stats_callers"),
        (read_slowest, (), {}, "prediction_stats"),
    ],
)
def test_reports_of_a_model_are_read_by_an_index_of_its_model(
    engine: Engine, read: Any, keys: tuple[str, ...], selected: dict[str, Any], index: str
) -> None:
    span = cover(NOW_S - 90 * DAY_S, NOW_S, NOW_S)
    assert len(span.pieces) >= 2
    arguments = [keys] if keys else []
    plan = plan_of(engine, read, Selection(span, MODELS, **selected), *arguments)
    searches = [line for line in plan.splitlines() if line.startswith("SEARCH")]
    assert len(searches) == len(span.pieces) + 1
    assert all("model_id=?" in line and "start_s>?" in line for line in searches)
    assert sum(index in line for line in searches) == len(span.pieces)
    if read is read_callers:
        assert sum("COVERING INDEX" in line for line in searches) == len(span.pieces)


def test_all_models_are_read_by_the_index_of_periods(engine: Engine) -> None:
    span = cover(NOW_S - 90 * DAY_S, NOW_S, NOW_S)
    plan = plan_of(engine, read_tallies, Selection(span, None), ("model_id",))
    assert plan.count("ix_model_stats_step_s_start_s") == len(span.pieces)
