"""The prediction log on SQLite: what is about that database itself."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.prediction_log import PredictionLog
from mlserve_jupyter.analytics.prediction_pages import CallFilter
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage import engine as engine_module
from mlserve_jupyter.storage.engine import open_engine, writing
from tests.analytics.calls import NOON, WAIT_S, call, losses_by_reason, n_rows, opened_log
from tests.registry.deploys import Deploys
from tests.storage.databases import settings_in
from tests.waiting import wait_for


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_in(tmp_path, log_flush_s=0.01)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (CallFilter(), "ix_predictions_model_id_created_at_id"),
        (CallFilter(since=NOON, until=NOON), "ix_predictions_model_id_created_at_id"),
        (CallFilter(version=1), "ix_predictions_version_id_created_at_id"),
        (CallFilter(status="failed"), "ix_predictions_failed"),
        (CallFilter(status="model_failed"), "ix_predictions_failed"),
        (CallFilter(labelled=False), "ix_predictions_model_id_created_at_id"),
    ],
)
def test_an_index_serves_the_pages(
    engine: Engine, settings: Settings, deploy: Deploys, wanted: CallFilter, index: str
) -> None:
    served = deploy()
    plans: list[str] = []

    with opened_log(engine, settings) as log:
        log.append(call(served))
        log.append(call(served, 1))
        assert log.flush(WAIT_S)
        cursor = log.list_predictions(served.model_id, limit=1).next_cursor

        @sa.event.listens_for(engine, "before_cursor_execute")
        def explain(conn: sa.Connection, cursor: object, statement: str, parameters: object,
                    context: object, executemany: bool) -> None:  # fmt: skip
            if "FROM predictions" in statement and not statement.startswith("EXPLAIN"):
                rows = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[arg-type]
                plans.append("; ".join(row[3] for row in rows))

        log.list_predictions(served.model_id, wanted, cursor=cursor)
        sa.event.remove(engine, "before_cursor_execute", explain)
    (plan,) = plans
    assert "SCAN" not in plan
    assert "TEMP B-TREE" not in plan
    assert f"USING INDEX {index}" in plan


def test_the_log_waits_for_a_locked_database_and_loses_nothing(
    settings: Settings, deploy: Deploys, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    served = deploy()
    monkeypatch.setattr(engine_module, "BUSY_TIMEOUT_S", 0.01)
    impatient = open_engine(settings)
    with opened_log(impatient, settings) as log:
        with writing(impatient):
            log.append(call(served))
            assert not log.flush(0.3)
        log.append(call(served, 1))
        # A flush does not wait while the last attempt has failed; the next one follows by itself.
        assert wait_for(lambda: log.flush(WAIT_S), WAIT_S)
        assert n_rows(impatient) == 2
        assert log.losses() == 0
    impatient.dispose()
    assert "waits for its database" in caplog.text


def test_a_write_whose_answer_was_lost_is_not_written_twice(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()

    def lose_the_answer(connection: sa.Connection) -> None:
        sa.event.remove(engine, "commit", lose_the_answer)
        connection.connection.commit()
        raise sa.exc.OperationalError("COMMIT", None, Exception("disk I/O error"))

    with opened_log(engine, settings) as log:
        sa.event.listen(engine, "commit", lose_the_answer)
        for number in range(3):
            log.append(call(served, number))
        assert log.flush(WAIT_S)
        assert n_rows(engine) == 3
        assert log.last_calls([served.model_id])[served.model_id].n_predictions == 3
    assert losses_by_reason(engine) == {}


def test_what_cannot_be_written_before_the_close_is_counted_at_the_next_start(
    settings: Settings, deploy: Deploys, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    served = deploy()
    monkeypatch.setattr(engine_module, "BUSY_TIMEOUT_S", 0.01)
    impatient = open_engine(settings)
    log = PredictionLog(impatient, settings, settings.data_dir / "log")
    with writing(impatient):
        for number in range(3):
            log.append(call(served, number))
        log.close(timeout_s=0.1)
    with caplog.at_level(logging.WARNING), opened_log(impatient, settings) as log:
        assert log.losses() == 3
    impatient.dispose()
    assert "3 predictions of process" in caplog.text
