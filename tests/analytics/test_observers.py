from __future__ import annotations

from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.analytics.prediction_rows import WaitingRow
from mlserve_jupyter.api.resources import UpdateVersion
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading
from mlserve_jupyter.storage.tables import models
from tests.analytics.calls import WAIT_S, call, losses_by_reason, n_rows, opened_log
from tests.registry.deploys import Deploys


class Noting:
    """An observer that writes what it is told into the model's description."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __call__(self, connection: Connection, rows: Sequence[WaitingRow]) -> None:
        self.told += [row.record.request_id for row in rows]
        connection.execute(sa.update(models).values(description=" ".join(self.told)))


def noted(engine: Engine) -> str:
    with reading(engine) as connection:
        return str(connection.execute(sa.select(models.c.description)).scalar_one())


def test_observers_are_told_of_each_row_in_order_and_write_in_its_transaction(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served, observer = deploy(), Noting()
    with opened_log(engine, settings, [observer]) as log:
        for number in range(3):
            log.append(call(served, number))
            assert log.flush(WAIT_S)
    assert observer.told == ["r0", "r1", "r2"]
    assert noted(engine) == "r0 r1 r2"


def test_what_an_observer_wrote_is_gone_with_the_batch_that_was_not_committed(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served, observer = deploy(), Noting()

    def fail_once(connection: sa.Connection) -> None:
        sa.event.remove(engine, "commit", fail_once)
        raise sa.exc.OperationalError("COMMIT", None, Exception("disk I/O error"))

    with opened_log(engine, settings, [observer]) as log:
        sa.event.listen(engine, "commit", fail_once)
        log.append(call(served))
        assert log.flush(WAIT_S)
    assert observer.told == ["r0", "r0"], "the batch was tried again"
    assert n_rows(engine) == 1


def test_an_observer_that_fails_costs_neither_the_log_nor_the_others_anything(
    engine: Engine, settings: Settings, deploy: Deploys, caplog: pytest.LogCaptureFixture
) -> None:
    served, good = deploy(), Noting()

    def bad(connection: Connection, rows: Sequence[WaitingRow]) -> None:
        connection.execute(sa.update(models).values(description="half done"))
        raise RuntimeError("no such bin")

    with opened_log(engine, settings, [bad, good, bad]) as log:
        log.append(call(served))
        assert log.flush(WAIT_S)
    assert n_rows(engine) == 1
    assert noted(engine) == "r0"
    assert "no such bin" in caplog.text
    assert losses_by_reason(engine) == {}


def test_what_nobody_has_foreseen_is_tried_again_and_then_counted(
    engine: Engine, settings: Settings, deploy: Deploys, caplog: pytest.LogCaptureFixture
) -> None:
    served = deploy()
    n_begun = 0

    def fail(connection: sa.Connection) -> None:
        nonlocal n_begun
        n_begun += 1
        if n_begun <= n_failing:
            raise RuntimeError("of the driver")

    with opened_log(engine, settings) as log:
        sa.event.listen(engine, "commit", fail)
        n_failing = 2
        log.append(call(served))
        assert log.flush(WAIT_S)
        assert (n_rows(engine), log.n_lost) == (1, 0)
        n_begun, n_failing = 0, 4
        log.append(call(served, 1))
        assert log.flush(WAIT_S)
        log.append(call(served, 2))
        assert log.flush(WAIT_S)
        sa.event.remove(engine, "commit", fail)
    assert n_rows(engine) == 2
    assert losses_by_reason(engine) == {"refused": 1}
    assert "1 predictions cannot be logged (4)" in caplog.text


def test_observers_are_not_told_of_rows_that_were_refused(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served, gone, observer = deploy(), deploy("gone"), Noting()
    deploy.registry.update_version(gone.model_id, 1, UpdateVersion(status="archived"))
    deploy.registry.delete_model(gone.model_id)
    with opened_log(engine, settings, [observer]) as log:
        for number, version in enumerate([served, gone, served]):
            log.append(call(version, number))
        assert log.flush(WAIT_S)
    assert observer.told == ["r0", "r2"]
    assert losses_by_reason(engine) == {"version_deleted": 1}
