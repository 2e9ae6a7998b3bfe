"""The writer of the log against a PostgreSQL that is stopped, hangs or ends its connections."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.prediction_log import PredictionLog
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.storage.engine import reading
from mlserve_jupyter.storage.tables import prediction_counts, predictions
from tests.analytics.calls import WAIT_S, call, losses_by_reason, opened_log
from tests.registry.deploys import Deploys
from tests.storage.databases import opened, settings_in
from tests.storage.postgres_process import PostgresProcess

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresProcess]:
    with PostgresProcess() as postgres:
        yield postgres


@dataclass
class Rig:
    engine: Engine
    log: PredictionLog
    served: ServedVersion

    def rows(self) -> list[int]:
        with reading(self.engine) as connection:
            return list(
                connection.scalars(
                    sa.select(predictions.c.sequence).order_by(predictions.c.sequence)
                )
            )

    def counted(self) -> int:
        with reading(self.engine) as connection:
            return int(
                connection.execute(
                    sa.select(sa.func.sum(prediction_counts.c.n_predictions))
                ).scalar_one()
            )


@pytest.fixture
def rig(postgres: PostgresProcess, tmp_path: Path) -> Iterator[Rig]:
    settings = settings_in(
        tmp_path, database_url=postgres.new_database(), log_flush_s=0.05, log_buffer_rows=100_000
    )
    with opened(settings) as engine:
        served = Deploys(engine, settings.artifacts_dir)()
        with opened_log(engine, settings) as log:
            yield Rig(engine, log, served)


@contextmanager
def calls(rig: Rig) -> Iterator[list[float]]:
    """Log calls all the time; gives what handing each over took, in seconds."""
    took: list[float] = []
    ending = Event()

    def go_on() -> None:
        while not ending.is_set():
            record = call(rig.served, len(took))
            began_s = time.perf_counter()
            rig.log.append(record)
            took.append(time.perf_counter() - began_s)
            time.sleep(0.001)

    thread = Thread(target=go_on)
    thread.start()
    try:
        yield took
    finally:
        ending.set()
        thread.join()


def wait_for_more(took: list[float], n: int = 200) -> None:
    """Return when n more calls were handed over."""
    wanted = len(took) + n
    deadline_s = time.monotonic() + WAIT_S
    while len(took) < wanted:
        assert time.monotonic() < deadline_s, "handing calls over waits"
        time.sleep(0.01)


def test_a_restart_under_load_loses_and_doubles_nothing(
    rig: Rig, postgres: PostgresProcess
) -> None:
    with calls(rig) as took:
        for _ in range(2):
            wait_for_more(took)
            postgres.stop()
            wait_for_more(took)
            postgres.start()
            assert rig.log.flush(WAIT_S)
    assert rig.log.flush(WAIT_S)
    assert rig.rows() == list(range(1, len(took) + 1))
    assert rig.counted() == len(took)
    assert losses_by_reason(rig.engine) == {}


def test_what_waited_is_written_within_five_seconds_of_a_start(
    rig: Rig, postgres: PostgresProcess
) -> None:
    with calls(rig) as took:
        wait_for_more(took)
        postgres.stop()
        time.sleep(6)  # longer than any pause between two attempts
        wait_for_more(took)
        postgres.start()
        began_s = time.monotonic()
        assert rig.log.flush(WAIT_S)
        assert time.monotonic() - began_s < 5


def test_a_database_that_hangs_delays_no_call_and_loses_none(
    rig: Rig, postgres: PostgresProcess
) -> None:
    with calls(rig) as took:
        wait_for_more(took)
        postgres.freeze()
        try:
            wait_for_more(took, 1000)
            assert not rig.log.flush(0.2)
        finally:
            postgres.thaw()
        assert rig.log.flush(WAIT_S)
    assert rig.log.flush(WAIT_S)
    assert rig.rows() == list(range(1, len(took) + 1))
    assert rig.log.losses() == 0


def test_connections_that_the_server_ends_cost_no_row(rig: Rig, postgres: PostgresProcess) -> None:
    ended = 0
    admin = sa.create_engine(postgres.url, isolation_level="AUTOCOMMIT")
    with calls(rig) as took, admin.connect() as connection:
        for _ in range(20):
            wait_for_more(took, 30)
            rows = connection.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = :name AND pid <> pg_backend_pid()"
                ),
                {"name": rig.engine.url.database},
            )
            ended += len(rows.all())
    admin.dispose()
    assert ended
    assert rig.log.flush(WAIT_S)
    assert rig.rows() == list(range(1, len(took) + 1))
    assert rig.counted() == len(took)
    assert losses_by_reason(rig.engine) == {}
