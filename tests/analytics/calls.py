"""Calls to log, and logs to hand them to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.prediction_log import PredictionLog
from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.analytics.prediction_rows import Observer
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.tables import prediction_log_losses, predictions

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
WAIT_S = 30.0


def call(served: ServedVersion, number: int = 0, **others: object) -> PredictionRecord:
    record = PredictionRecord(
        model_id=served.model_id,
        version_id=served.id,
        request_id=f"r{number}",
        principal="owner",
        method="predict",
        created_at=NOON + timedelta(milliseconds=number),
        n_rows=1,
        predict_ms=0.5,
        inputs=b'{"instances":[[9007199254740993,"NaN"]]}',
        outputs=b"[1]",
    )
    return msgspec.structs.replace(record, **others)


@contextmanager
def opened_log(
    engine: Engine, settings: Settings, observers: Sequence[Observer] = ()
) -> Iterator[PredictionLog]:
    log = PredictionLog(engine, settings, settings.data_dir / "log", observers)
    try:
        yield log
    finally:
        log.close()


@contextmanager
def blocked(engine: Engine) -> Iterator[None]:
    """Let nobody write to the log for the block."""
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("LOCK TABLE predictions IN ACCESS EXCLUSIVE MODE"))
        yield


def n_rows(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(
            connection.execute(sa.select(sa.func.count()).select_from(predictions)).scalar_one()
        )


def losses_by_reason(engine: Engine) -> dict[str, int]:
    with reading(engine) as connection:
        rows = connection.execute(
            sa.select(
                prediction_log_losses.c.reason, sa.func.sum(prediction_log_losses.c.n_rows)
            ).group_by(prediction_log_losses.c.reason)
        )
        return {reason: int(n) for reason, n in rows}
