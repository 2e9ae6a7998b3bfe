from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from threading import Thread

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics import prediction_log
from mlserve_jupyter.analytics.prediction_log import BATCH_ROWS, PredictionLog
from mlserve_jupyter.analytics.prediction_pages import CallFilter
from mlserve_jupyter.api.resources import UpdateVersion
from mlserve_jupyter.errors import InvalidRequest, StorageUnavailable
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading
from mlserve_jupyter.storage.tables import predictions
from tests.analytics.calls import (
    NOON,
    WAIT_S,
    blocked,
    call,
    losses_by_reason,
    n_rows,
    opened_log,
)
from tests.registry.deploys import Deploys


def test_a_call_reaches_the_table_as_it_was(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()
    at = datetime(2026, 5, 1, 14, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    with opened_log(engine, settings) as log:
        log.append(
            call(served, created_at=at, status="model_failed", error="boom \ud800\0", cached=True)
        )
        assert log.flush(WAIT_S)
        (found,) = log.list_predictions(served.model_id).items
    assert found.created_at == at
    assert (found.model, found.version, found.method) == ("clf", 1, "predict")
    assert (found.status, found.error, found.cached) == ("model_failed", "boom ??", True)
    assert msgspec.json.decode(found.inputs) == {"instances": [[9007199254740993, "NaN"]]}
    assert bytes(found.outputs) == b"[1]"
    assert (found.n_rows, found.predict_ms, found.truncated) == (1, 0.5, False)


def test_what_there_is_none_of_is_null(engine: Engine, settings: Settings, deploy: Deploys) -> None:
    served = deploy()
    with opened_log(engine, settings) as log:
        log.append(call(served, inputs=None, outputs=None))
        assert log.flush(WAIT_S)
        (found,) = log.list_predictions(served.model_id).items
    assert (bytes(found.inputs), bytes(found.outputs)) == (b"null", b"null")
    assert (found.truncated, found.error) == (False, None)


def test_a_value_over_the_limit_is_left_out_and_the_row_says_so(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()
    with opened_log(engine, replace(settings, log_max_value_bytes=2000)) as log:
        log.append(call(served, inputs=b'"%s"' % (b"x" * 2000)))
        log.append(call(served, 1, inputs=b'"%s"' % (b"x" * 1998)))
        assert log.flush(WAIT_S)
        newest, oldest = log.list_predictions(served.model_id).items
    assert (newest.truncated, len(bytes(newest.inputs))) == (False, 2000)
    assert (oldest.truncated, bytes(oldest.inputs)) == (True, b"null")
    assert bytes(oldest.outputs) == b"[1]"


def test_calls_of_many_threads_are_written_once_each_and_in_batches(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()
    n_each = 3 * BATCH_ROWS
    with opened_log(engine, replace(settings, log_buffer_rows=9 * BATCH_ROWS)) as log:

        def append(first: int) -> None:
            for number in range(first, first + n_each):
                log.append(call(served, number))

        threads = [Thread(target=append, args=(n * n_each,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert log.flush(WAIT_S)
        assert n_rows(engine) == 3 * n_each
        assert log.last_calls([served.model_id])[served.model_id].n_predictions == 3 * n_each
    with reading(engine) as connection:
        sequences = connection.scalars(sa.select(predictions.c.sequence)).all()
        names = connection.scalars(sa.select(predictions.c.request_id)).all()
    assert sorted(sequences) == list(range(1, 3 * n_each + 1))
    assert len(set(names)) == 3 * n_each
    assert losses_by_reason(engine) == {}


def test_pages_come_newest_first_and_meet_without_gap_or_overlap(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    first, second = deploy(), deploy()
    with opened_log(engine, settings) as log:
        for number in range(7):
            # Two calls each have the same time.
            at = NOON + timedelta(seconds=number // 2)
            log.append(call(first if number % 3 else second, number, created_at=at))
        assert log.flush(WAIT_S)
        names, cursor = [], None
        while True:
            page = log.list_predictions(first.model_id, limit=2, cursor=cursor)
            names += [item.request_id for item in page.items]
            times = [item.created_at for item in page.items]
            assert times == sorted(times, reverse=True)
            cursor = page.next_cursor
            if cursor is None:
                break
        assert sorted(names) == [f"r{number}" for number in range(7)]
        assert names[0] == "r6"
        of_second = log.list_predictions(first.model_id, CallFilter(version=2))
        assert {item.request_id for item in of_second.items} == {"r0", "r3", "r6"}
        assert {item.version for item in of_second.items} == {2}
        assert log.list_predictions(first.model_id, CallFilter(version=3)).items == ()
        with pytest.raises(InvalidRequest, match="cursor"):
            log.list_predictions(first.model_id, cursor="W10")
        with pytest.raises(InvalidRequest, match="limit"):
            log.list_predictions(first.model_id, limit=1001)


def test_last_calls_name_each_model_that_was_called(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    a1, a2, b, silent = deploy("a"), deploy("a"), deploy("b"), deploy("silent")
    with opened_log(engine, settings) as log:
        for number, served in enumerate([a1, a2, a1, b]):
            log.append(call(served, number))
            assert log.flush(WAIT_S)
        # Out of order, as another process may write it.
        log.append(call(a1, -5))
        assert log.flush(WAIT_S)
        ids = [a1.model_id, b.model_id, silent.model_id]
        assert log.last_calls(ids) == {
            a1.model_id: (NOON + timedelta(milliseconds=2), 4),
            b.model_id: (NOON + timedelta(milliseconds=3), 1),
        }
        assert log.last_calls([]) == {}


def test_what_the_buffer_cannot_hold_is_dropped_counted_and_said(
    engine: Engine, settings: Settings, deploy: Deploys, caplog: pytest.LogCaptureFixture
) -> None:
    served = deploy()
    with opened_log(engine, replace(settings, log_buffer_rows=10)) as log:
        with blocked(engine):
            for number in range(25):
                log.append(call(served, number))
            assert log.losses() == 15
        assert log.flush(WAIT_S)
    assert n_rows(engine) == 10
    assert losses_by_reason(engine) == {"buffer_full": 15}
    assert "15 predictions were not logged" in caplog.text


def test_the_buffer_is_bounded_by_bytes_too(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()
    large = b'"%s"' % (b"x" * 250_000)
    small = replace(settings, log_buffer_bytes=1_000_000, log_max_value_bytes=0)
    with opened_log(engine, small) as log:
        with blocked(engine):
            for number in range(5):
                log.append(call(served, number, inputs=large))
        assert log.flush(WAIT_S)
        log.append(call(served, 5, inputs=large))
        assert log.flush(WAIT_S)
    assert n_rows(engine) == 4
    assert losses_by_reason(engine) == {"buffer_full": 2}


def test_a_row_that_the_database_refuses_does_not_keep_the_others_out(
    engine: Engine, settings: Settings, deploy: Deploys, caplog: pytest.LogCaptureFixture
) -> None:
    served, gone = deploy(), deploy("gone")
    deploy.registry.update_version(gone.model_id, 1, UpdateVersion(status="archived"))
    deploy.registry.delete_model(gone.model_id)
    with opened_log(engine, settings) as log:
        log.append(call(served))
        log.append(call(gone, 1))
        log.append(call(served, 2, method=object()))
        log.append(call(served, 3))
        assert log.flush(WAIT_S)
        names = [item.request_id for item in log.list_predictions(served.model_id).items]
        assert log.losses() == 2
    assert names == ["r3", "r0"]
    assert losses_by_reason(engine) == {"version_deleted": 1, "refused": 1}
    assert "Prediction r2 cannot be logged" in caplog.text


def test_a_deleted_model_takes_its_log_with_it(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served, kept = deploy(), deploy("kept")
    with opened_log(engine, settings) as log:
        for number in range(20):
            log.append(call(served, number))
        log.append(call(kept))
        assert log.flush(WAIT_S)
        deploy.registry.update_version(served.model_id, 1, UpdateVersion(status="archived"))
        deploy.registry.delete_model(served.model_id)
        assert log.last_calls([served.model_id]) == {}
    assert n_rows(engine) == 1
    assert losses_by_reason(engine) == {}


def test_nobody_waits_for_a_log_that_cannot_be_written(
    engine: Engine, settings: Settings, deploy: Deploys, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise StorageUnavailable("The database is away.")

    served = deploy()
    with opened_log(engine, settings) as log:
        with monkeypatch.context() as away:
            away.setattr(prediction_log, "write_rows", fail)
            log.append(call(served))
            assert not log.flush_if_written(WAIT_S)
            began_s = time.monotonic()
            assert not log.flush_if_written(WAIT_S)
            assert time.monotonic() - began_s < WAIT_S / 2
        assert log.flush(WAIT_S)
    assert n_rows(engine) == 1


def test_closing_writes_what_waits_and_leaves_no_file(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()
    log = PredictionLog(engine, replace(settings, log_flush_s=1000.0), settings.data_dir / "log")
    for number in range(3):
        log.append(call(served, number))
    log.close()
    log.close()
    log.append(call(served, 4))
    assert n_rows(engine) == 3
    assert list((settings.data_dir / "log").iterdir()) == []
    assert losses_by_reason(engine) == {}
