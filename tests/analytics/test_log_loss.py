"""What a killed process can lose: no more than is stated, and all of it counted."""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.prediction_log import PredictionLog
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import open_engine, reading
from mlserve_jupyter.storage.tables import predictions
from tests.analytics.calls import WAIT_S, call, losses_by_reason, n_rows, opened_log
from tests.registry.deploys import Deploys
from tests.storage.databases import processes


@pytest.mark.slow
def test_row_27_a_killed_process_loses_its_last_moment_and_all_of_it_is_counted(
    engine: Engine, settings: Settings, deploy: Deploys, tmp_path: Path
) -> None:
    served = deploy()
    said = tmp_path / "said"
    for _ in range(3):
        said.write_text("0")
        child = processes.Process(
            target=log_until_killed, args=(settings, served, said), daemon=True
        )
        before = n_rows(engine) + sum(losses_by_reason(engine).values())
        child.start()
        deadline_s = time.monotonic() + WAIT_S
        while int(said.read_text() or 0) < 1000:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        killed_at = datetime.now(timezone.utc)
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
        with opened_log(engine, settings):
            pass  # a start settles what the last process has left
        counted = n_rows(engine) + sum(losses_by_reason(engine).values())
        assert counted - before >= 1000, "what was handed over is there, or counted"
        with reading(engine) as connection:
            newest: datetime = connection.execute(
                sa.select(sa.func.max(predictions.c.created_at))
            ).scalar_one()
        # Stated: log_flush_s, and what writing a batch takes; with much room for a busy machine.
        assert newest > killed_at - timedelta(seconds=settings.log_flush_s + 5)
    assert set(losses_by_reason(engine)) <= {"process_ended"}


def log_until_killed(settings: Settings, served: ServedVersion, said: Path) -> None:
    """Log calls for ever, and say how many there were."""
    engine = open_engine(settings)
    log = PredictionLog(engine, settings, settings.data_dir / "log")
    number = 0
    while True:
        number += 1
        log.append(call(served, number, created_at=datetime.now(timezone.utc)))
        if number % 100 == 0:
            said.write_text(str(number))
            time.sleep(0.02)
