"""Each index of the prediction log is worth its keep: at a million rows, its query without it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.storage.engine import open_engine, reading, writing
from mlserve_jupyter.storage.partitions import make_partitions
from mlserve_jupyter.storage.schema import prepare_schema
from mlserve_jupyter.storage.tables import predictions
from tests.storage.databases import settings_in
from tests.storage.postgres_process import PostgresProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

N_ROWS = 1_000_000
"""Of a month and a half, of a hundred models, and of one that was called at first and no more."""

STEP = timedelta(seconds=4)
NOW = datetime.now(timezone.utc)
MODEL = "00000000-0000-0000-0000-000000000001"
VERSION = "00000000-0000-0000-0001-000000000001"

FILL = f"""
INSERT INTO predictions
SELECT gen_random_uuid(),
       CAST('00000000-0000-0000-0000-' || lpad(CAST(which AS text), 12, '0') AS uuid),
       CAST('00000000-0000-0000-0001-' || lpad(CAST(which AS text), 12, '0') AS uuid),
       CAST(:now AS timestamptz) - i * interval '{STEP.total_seconds()} seconds',
       'request-' || i, 'user:ann', 'predict',
       CASE WHEN i % 3000 = 1 THEN 'model_failed' ELSE 'ok' END,
       false, 1, 0.1, 0, 0.3, 0.5,
       jsonb_build_object('dataframe_records', jsonb_build_array(jsonb_build_object(
           'customer', i / 100, 'age', i % 90, 'amount', i * 0.37, 'country', 'c' || i % 30))),
       jsonb_build_array(i % 3), false, NULL, gen_random_uuid(), i
FROM generate_series(1, {N_ROWS}) AS i,
     LATERAL (SELECT CASE WHEN i > 700000 AND i % 30 = 1 THEN 1 ELSE 2 + i % 100 END) AS of (which)
"""


@pytest.fixture(scope="module")
def engine(postgres: PostgresProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder: Path = tmp_path_factory.mktemp("million")
    url = postgres.new_database()
    engine = open_engine(settings_in(folder, database_url=url))
    prepare_schema(engine)
    make_partitions(engine, now=NOW - timedelta(days=62))
    with writing(engine, timeout_s=900) as connection:
        # Built at once, they take less time.
        indexes = connection.execute(
            sa.text(
                "SELECT indexname, indexdef FROM pg_indexes "
                "WHERE tablename = 'predictions' AND indexname LIKE 'ix%'"
            )
        ).all()
        for name, _ in indexes:
            connection.execute(sa.text(f"DROP INDEX {name}"))
        connection.execute(sa.text(FILL), {"now": NOW})
        for _, definition in indexes:
            connection.exec_driver_sql(definition.replace(" ON ONLY ", " ON "))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("VACUUM ANALYZE predictions"))
    yield engine
    engine.dispose()
    postgres.drop_database(url)


COLUMNS = predictions.c
PLACE = sa.tuple_(COLUMNS.created_at, COLUMNS.id)
NEWEST_FIRST = sa.select(predictions).order_by(COLUMNS.created_at.desc(), COLUMNS.id.desc())
OF_MODEL = COLUMNS.model_id == MODEL

QUERIES: dict[str, sa.Select[Any]] = {
    "ix_predictions_model_id_created_at_id": NEWEST_FIRST.where(OF_MODEL).limit(101),
    "ix_predictions_version_id_created_at_id": NEWEST_FIRST.where(
        COLUMNS.version_id == VERSION
    ).limit(101),
    "ix_predictions_failed": NEWEST_FIRST.where(OF_MODEL, COLUMNS.status != "ok").limit(101),
    "ix_predictions_model_id_request_id": sa.select(predictions).where(
        OF_MODEL, COLUMNS.request_id == "request-800011"
    ),
    "ix_predictions_inputs": NEWEST_FIRST.where(
        OF_MODEL,
        COLUMNS.inputs.op("@>")(
            sa.literal_column("""CAST('{"dataframe_records": [{"customer": 8000}]}' AS jsonb)""")
        ),
    ).limit(101),
    "pk_predictions": sa.select(predictions)
    .where(
        COLUMNS.created_at >= NOW - timedelta(days=20),
        COLUMNS.created_at < NOW - timedelta(days=19),
    )
    .order_by(COLUMNS.created_at, COLUMNS.id)
    .limit(1000),
}


def test_no_index_is_without_a_query_here(engine: Engine) -> None:
    with reading(engine) as connection:
        inspector = sa.inspect(connection)
        names = {str(index["name"]) for index in inspector.get_indexes("predictions")}
    assert names | {"pk_predictions"} == set(QUERIES)


@pytest.mark.parametrize("index", QUERIES)
def test_without_it_its_query_reads_ten_times_as_much(engine: Engine, index: str) -> None:
    with engine.connect() as connection:
        blocks, plan, n_found = explained(connection, QUERIES[index])
        assert n_found > 0
        if index.startswith("pk_"):
            connection.execute(sa.text(f"ALTER TABLE predictions DROP CONSTRAINT {index}"))
        else:
            connection.execute(sa.text(f"DROP INDEX {index}"))
        blocks_without, _, n_found_without = explained(connection, QUERIES[index])
        connection.rollback()
    assert n_found_without == n_found
    assert 10 * blocks < blocks_without, (blocks, blocks_without, plan)


def explained(connection: Connection, query: sa.Select[Any]) -> tuple[int, str, int]:
    """Run a query; return the blocks that it read, its plan and the number of its rows."""
    compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
    text = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {compiled}"
    [explained] = json.loads(connection.exec_driver_sql(text.replace("%", "%%")).scalar_one())
    plan = explained["Plan"]
    blocks = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return blocks, json.dumps(plan, indent=1), plan["Actual Rows"]
