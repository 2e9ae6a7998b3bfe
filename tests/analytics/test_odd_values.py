"""Values that PostgreSQL refuses cost the other rows of their batch nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.prediction_pages import CallFilter, read_calls
from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.analytics.prediction_rows import WaitingRow, write_rows
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.tables import predictions
from tests.analytics.calls import call, losses_by_reason, n_rows
from tests.registry.deploys import Deploys
from tests.storage.databases import opened, settings_in

N_ROWS = 512


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> Settings:
    return settings_in(tmp_path, database_url=postgres_url)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    with opened(settings) as engine:
        yield engine


@pytest.fixture
def served(engine: Engine, settings: Settings) -> ServedVersion:
    return Deploys(engine, settings.artifacts_dir)()


def n_attempts(engine: Engine, records: list[PredictionRecord]) -> int:
    """Write a batch, and return how many savepoints that took."""
    names: list[str] = []

    def note(connection: object, name: str) -> None:
        names.append(name)

    sa.event.listen(engine, "savepoint", note)
    with writing(engine) as connection:
        rows = [WaitingRow(i, each, False, 100) for i, each in enumerate(records, 1)]
        write_rows(connection, "00000000-0000-0000-0000-000000000001", rows)
    sa.event.remove(engine, "savepoint", note)
    return len(names)


def batch(served: ServedVersion, *odd: bytes) -> list[PredictionRecord]:
    records = [call(served, n) for n in range(N_ROWS)]
    for n, inputs in enumerate(odd):
        records[7 + 31 * n] = call(served, 7 + 31 * n, inputs=inputs)
    return records


def test_what_jsonb_refuses_is_written_with_the_others(
    engine: Engine, served: ServedVersion
) -> None:
    records = batch(served, b'[["a\\u0000b"]]', b"[[1e-200000]]", b'[["\\ud800"]]')
    assert n_attempts(engine, records) == 1
    with reading(engine) as connection:
        kept = connection.execute(
            sa.select(predictions.c.inputs, predictions.c.truncated)
            .where(predictions.c.request_id.in_(["r7", "r38", "r69"]))
            .order_by(predictions.c.sequence)
        ).all()
    assert [tuple(row) for row in kept] == [
        ('[["a\ufffdb"]]', False),
        ("[[0.0]]", False),
        ('[["\ufffd"]]', False),
    ]


def test_a_row_that_nobody_has_foreseen_costs_few_steps(
    engine: Engine, served: ServedVersion
) -> None:
    assert n_attempts(engine, batch(served, b"no JSON")) < 30
    assert n_rows(engine) == N_ROWS
    with reading(engine) as connection:
        truncated = connection.scalars(
            sa.select(predictions.c.request_id).where(predictions.c.truncated)
        ).all()
    assert truncated == ["r7"]
    assert losses_by_reason(engine) == {}


@pytest.mark.parametrize(
    ("contains", "found"),
    [("[[1e-131073]]", ["r38"]), ('[["a\\u0000b"]]', ["r7"]), ("[[1e-99999, 1]]", [])],
)
def test_odd_values_are_found_as_they_are_kept(
    engine: Engine, served: ServedVersion, contains: str, found: list[str]
) -> None:
    n_attempts(engine, batch(served, b'[["a\\u0000b"]]', b"[[1e-200000]]"))
    with reading(engine) as connection:
        page = read_calls(
            connection, served.model_id, CallFilter(contains=contains), limit=10, cursor=None
        )
    assert [each.request_id for each in page.items] == found
