"""The months of the prediction log on a real PostgreSQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from mlserve_jupyter.errors import StorageUnavailable
from mlserve_jupyter.storage import partitions as module
from mlserve_jupyter.storage.bulk import insert_rows
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.partitions import DEFAULT_PARTITION, make_partitions, read_partitions
from mlserve_jupyter.storage.tables import predictions
from tests.storage.databases import opened, settings_in
from tests.storage.prediction_rows import prediction_row

pytestmark = pytest.mark.slow


@pytest.fixture
def engine(postgres_url: str, tmp_path: Path) -> Iterator[Engine]:
    with opened(settings_in(tmp_path, database_url=postgres_url)) as engine:
        yield engine


def insert(engine: Engine, *times: datetime) -> None:
    with writing(engine) as connection:
        insert_rows(connection, predictions, [prediction_row(at) for at in times])


def n_in(engine: Engine, table: str) -> int:
    with reading(engine) as connection:
        return int(connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) or 0)


def tables_of(engine: Engine) -> dict[datetime, str]:
    """Return in which partition each row is."""
    query = sa.text("SELECT created_at, CAST(tableoid::regclass AS text) FROM predictions")
    with reading(engine) as connection:
        return {at.astimezone(timezone.utc): table for at, table in connection.execute(query)}


def months(engine: Engine) -> Sequence[str]:
    with reading(engine) as connection:
        return [f"{each.begins_at:%Y-%m}" for each in read_partitions(connection)]


def month_after(at: datetime, n: int) -> datetime:
    years, index = divmod(at.month - 1 + n, 12)
    return datetime(at.year + years, index + 1, 1, tzinfo=timezone.utc)


NOW = datetime.now(timezone.utc)


def test_a_new_database_has_this_month_and_three_more(engine: Engine) -> None:
    assert months(engine) == [f"{month_after(NOW, n):%Y-%m}" for n in range(4)]
    assert make_partitions(engine) == []
    with reading(engine) as connection:
        first = read_partitions(connection)[0]
    assert (first.begins_at, first.ends_at) == (month_after(NOW, 0), month_after(NOW, 1))
    assert first.name == f"predictions_y{NOW:%Y}m{NOW:%m}"


def test_each_row_is_in_its_month_to_the_microsecond(engine: Engine) -> None:
    border = month_after(NOW, 1)
    last = border - timedelta(microseconds=1)
    insert(engine, last, border)
    assert tables_of(engine) == {
        last: f"predictions_y{last:%Y}m{last:%m}",
        border: f"predictions_y{border:%Y}m{border:%m}",
    }


def test_partitions_are_made_ahead_of_time_also_over_the_new_year(engine: Engine) -> None:
    later = datetime(NOW.year + 1, 11, 30, 23, 59, tzinfo=timezone.utc)
    made = make_partitions(engine, now=later)
    assert [f"{each.begins_at:%Y-%m}" for each in made] == [
        f"{NOW.year + 1}-11",
        f"{NOW.year + 1}-12",
        f"{NOW.year + 2}-01",
        f"{NOW.year + 2}-02",
    ]
    assert make_partitions(engine, now=later) == []


def test_row_36_a_missing_partition_costs_no_row_and_its_rows_move_when_it_is_made(
    engine: Engine,
) -> None:
    old, older, far = (
        datetime(2001, 2, 28, 12, tzinfo=timezone.utc),
        datetime(2000, 12, 31, 23, 59, 59, 999999, tzinfo=timezone.utc),
        month_after(NOW, 30),
    )
    insert(engine, old, older, far, NOW)
    assert n_in(engine, DEFAULT_PARTITION) == 3
    made = make_partitions(engine)
    assert [each.name for each in made] == [
        "predictions_y2000m12",
        "predictions_y2001m02",
        f"predictions_y{far:%Y}m{far:%m}",
    ]
    assert n_in(engine, DEFAULT_PARTITION) == 0
    found = tables_of(engine)
    assert found[older] == "predictions_y2000m12"
    assert found[old] == "predictions_y2001m02"
    assert len(found) == 4


def test_rows_of_the_last_months_that_can_be_told_keep_no_other_from_a_partition(
    engine: Engine,
) -> None:
    last = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=timezone.utc)
    before, far = datetime(9999, 11, 30, tzinfo=timezone.utc), month_after(NOW, 30)
    insert(engine, last, before, far)
    made = [each.name for each in make_partitions(engine)]
    assert made == [f"predictions_y{far:%Y}m{far:%m}", "predictions_y9999m11"]
    assert tables_of(engine)[last] == DEFAULT_PARTITION
    assert make_partitions(engine) == []


def test_rows_that_come_while_a_partition_is_made_are_neither_lost_nor_in_its_way(
    engine: Engine,
) -> None:
    month = datetime(2001, 2, 1, tzinfo=timezone.utc)
    insert(engine, month)
    stop = threading.Event()
    written, refused = [month], list[datetime]()

    def write() -> None:
        while not stop.is_set():
            at = month + timedelta(seconds=len(written))
            try:
                insert(engine, at, NOW)
            except IntegrityError:
                # On its way to the default partition when that ceased to be the right one.
                refused.append(at)
            else:
                written.append(at)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while len(written) < 20:
            time.sleep(0.01)
        made = make_partitions(engine)
        n_written = len(written)
        while len(written) < n_written + 20:
            time.sleep(0.01)
    finally:
        stop.set()
        writer.join()
    assert [each.name for each in made] == ["predictions_y2001m02"]
    assert n_in(engine, DEFAULT_PARTITION) == 0
    assert n_in(engine, "predictions_y2001m02") == len(written)
    assert len(refused) <= 1


def test_two_processes_that_make_the_same_partitions_make_them_once(engine: Engine) -> None:
    later = month_after(NOW, 24)
    made: list[int] = []

    def make() -> None:
        made.append(len(make_partitions(engine, now=later)))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(made) == 4
    assert len(made) == 4


def test_whoever_reads_for_long_holds_up_a_new_partition_and_nobody_else(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOCK_FOR_S", 0.5)
    later = month_after(NOW, 24)
    with reading(engine) as reader:
        reader.execute(sa.text(f"SELECT count(*) FROM {DEFAULT_PARTITION}"))
        with pytest.raises(StorageUnavailable, match="lock timeout"):
            make_partitions(engine, now=later)
        insert(engine, NOW)
    assert len(make_partitions(engine, now=later)) == 4


def test_a_query_of_some_days_looks_into_their_month_only(engine: Engine) -> None:
    begin = month_after(NOW, 1)
    query = sa.select(predictions.c.id).where(
        predictions.c.created_at >= begin, predictions.c.created_at < begin + timedelta(days=3)
    )
    with reading(engine) as connection:
        compiled = query.compile(engine, compile_kwargs={"literal_binds": True})
        plan = "\n".join(connection.scalars(sa.text(f"EXPLAIN {compiled}")))
    assert f"predictions_y{begin:%Y}m{begin:%m}" in plan
    assert plan.count("predictions_y") == 2 or plan.count("Scan") == 1, plan
    assert DEFAULT_PARTITION not in plan
