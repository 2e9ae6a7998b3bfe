from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError, StatementError

from mlserve_jupyter.storage.bulk import insert_rows, timestamp_text
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.ids import new_ids
from mlserve_jupyter.storage.tables import UtcDateTime, uuid_text
from tests.storage.databases import opened
from tests.stores import Stores

KEPT = sa.Table(
    "kept",
    sa.MetaData(),
    sa.Column("id", uuid_text, primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("text", sa.Text),
    sa.Column("number", sa.Double),
    sa.Column("count", sa.BigInteger),
    sa.Column("is_so", sa.Boolean, nullable=False),
)


@pytest.fixture
def engine(stores: Stores, tmp_path: Path) -> Iterator[Engine]:
    with opened(stores.settings(tmp_path)) as engine:
        yield engine


@pytest.fixture
def table(engine: Engine) -> sa.Table:
    with writing(engine) as connection:
        KEPT.create(connection)
    return KEPT


def test_rows_come_back_as_if_they_had_been_inserted_one_by_one(
    engine: Engine, table: sa.Table
) -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    rows = [
        (new_id, at, text, number, count, count % 2 == 0)
        for new_id, at, text, number, count in zip(
            new_ids(4),
            [
                datetime(2026, 1, 1, tzinfo=timezone.utc),
                datetime(2026, 1, 1, 3, 2, 1, 123456, tzinfo=timezone.utc),
                datetime(2026, 1, 1, 0, 0, 0, 10, tzinfo=east),
                datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=timezone.utc),
            ],
            ['{"a": [1.50, "é\\n"]}', 'it\'s :rows, %s and "quoted"', None, "\U0001f600"],
            [0.1, 1e-300, None, -2.5],
            [2**62, 0, 1, -3],
            strict=True,
        )
    ]
    with writing(engine) as connection:
        insert_rows(connection, table, [(r[0], timestamp_text(r[1]), *r[2:]) for r in rows])
    with reading(engine) as connection:
        found = connection.execute(sa.select(table).order_by(table.c.id)).all()
        one = connection.execute(sa.select(table).where(table.c.at == rows[1][1])).one()
    assert [tuple(row) for row in found] == rows
    assert one.id == rows[1][0]


@pytest.mark.parametrize("n_rows", [0, 1, 5, 1023, 1025, 2500])
def test_any_number_of_rows_arrives_once_each(engine: Engine, table: sa.Table, n_rows: int) -> None:
    at = timestamp_text(datetime(2026, 1, 1, tzinfo=timezone.utc))
    with writing(engine) as connection:
        insert_rows(
            connection,
            table,
            [(id, at, None, None, count, True) for count, id in enumerate(new_ids(n_rows))],
        )
    with reading(engine) as connection:
        counts = connection.scalars(sa.select(table.c.count).order_by(table.c.id)).all()
    assert counts == list(range(n_rows))


@pytest.mark.parametrize("count", [object(), 2**70])
@pytest.mark.parametrize("text", ["fine", "\ud800"])
def test_what_no_database_can_keep_is_a_statement_error(
    engine: Engine, table: sa.Table, count: object, text: str
) -> None:
    at = timestamp_text(datetime(2026, 1, 1, tzinfo=timezone.utc))
    with pytest.raises(StatementError), writing(engine) as connection:
        insert_rows(connection, table, [(new_ids(1)[0], at, text, None, count, True)])


def test_one_row_that_cannot_be_kept_keeps_all_out(engine: Engine, table: sa.Table) -> None:
    [first, second] = new_ids(2)
    at = timestamp_text(datetime(2026, 1, 1, tzinfo=timezone.utc))
    row = (first, at, None, None, None, True)
    with pytest.raises(IntegrityError), writing(engine) as connection:
        insert_rows(connection, table, [row, row])
    with pytest.raises(StatementError), writing(engine) as connection:
        insert_rows(connection, table, [row, (second, at, object(), None, None, True)])
    with reading(engine) as connection:
        assert connection.execute(sa.select(table)).all() == []


def test_new_ids_are_all_different_and_grow() -> None:
    ids = new_ids(1000)
    assert len(set(ids)) == 1000
    assert ids == sorted(ids)
    assert {UUID(id).version for id in ids} == {7}
    assert {UUID(id).variant for id in ids} == {"specified in RFC 4122"}
