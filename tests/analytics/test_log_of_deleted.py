"""Calls whose model is deleted while they are on their way to the table."""

from __future__ import annotations

import threading

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.prediction_rows import WaitingRow, count_losses, write_rows
from mlserve_jupyter.api.resources import UpdateVersion
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.tables import predictions
from tests.analytics.calls import call, n_rows
from tests.registry.deploys import Deploys


def test_a_deletion_waits_for_a_batch_that_is_being_written_and_takes_it_along(
    deploy: Deploys, engine: Engine
) -> None:
    served = deploy()
    deploy.registry.update_version(served.model_id, 1, UpdateVersion(status="archived"))
    deletion = threading.Thread(target=deploy.registry.delete_model, args=(served.model_id,))
    with writing(engine) as connection:
        write_rows(connection, new_id(), [WaitingRow(1, call(served), False, 100)])
        deletion.start()
        deletion.join(1.0)
        assert deletion.is_alive()
    deletion.join(30)
    assert not deletion.is_alive()
    assert n_rows(engine) == 0
    assert deploy.registry.snapshot().list_models(deploy.user).items == ()


def test_calls_of_a_version_that_is_gone_are_counted_as_lost_and_the_others_kept(
    deploy: Deploys, engine: Engine
) -> None:
    kept, gone = deploy("kept"), deploy("gone")
    deploy.registry.update_version(gone.model_id, 1, UpdateVersion(status="archived"))
    deploy.registry.delete_model(gone.model_id)
    process_id = new_id()
    rows = [
        WaitingRow(number, call(kept if number % 2 else gone, number), False, 100)
        for number in range(1, 6)
    ]
    with writing(engine) as connection:
        write_rows(connection, process_id, rows)
    with reading(engine) as connection:
        assert set(connection.scalars(sa.select(predictions.c.sequence))) == {1, 3, 5}
        assert count_losses(connection, process_id) == 2
