"""The prediction log in the database: written in batches, read in pages, and its losses counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, StatementError

from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.api.resources import DescribePrediction
from mlserve_jupyter.errors import StorageFull, StorageUnavailable
from mlserve_jupyter.storage.bulk import insert_rows, timestamp_text
from mlserve_jupyter.storage.ids import new_id, new_ids
from mlserve_jupyter.storage.paging import Page, check_limit, decode_cursor, encode_cursor
from mlserve_jupyter.storage.tables import (
    model_versions,
    models,
    prediction_counts,
    prediction_log_losses,
    prediction_log_processes,
    predictions,
)

log = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MAX_ERROR_CHARS = 10_000
_CHUNK_IDS = 500


class WaitingRow(msgspec.Struct, frozen=True, gc=False):
    """A record on its way to the table.

    Attributes
    ----------
    sequence
        Its number among its process's calls.
    truncated
        Whether a value was left out because it was too large.
    n_bytes
        About what it takes in memory.
    is_kept
        Whether the call itself is to be in the log. Others are counted all the same, and have
        neither inputs nor outputs.
    """

    sequence: int
    record: PredictionRecord
    truncated: bool
    n_bytes: int
    is_kept: bool = True


Observer = Callable[[Connection, Sequence[WaitingRow]], None]
"""Told of each batch in the very transaction that writes it, once a row and in their order."""


class LastCalls(NamedTuple):
    """When a model was last called, and how often in all."""

    last_called_at: datetime
    n_predictions: int


def write_rows(
    connection: Connection,
    process_id: str,
    rows: Sequence[WaitingRow],
    observers: Sequence[Observer] = (),
) -> None:
    """Write a process's next rows, in a transaction of the caller's.

    Rows that an earlier attempt has written, whose answer was lost, are left out. A row that the
    database refuses by itself is counted as lost and does not keep the others out.

    Parameters
    ----------
    rows
        In the order of their sequence.
    observers
        Told of what was written and of what is not to be kept.
    """
    through = connection.execute(
        sa.select(prediction_log_processes.c.written_through).where(
            prediction_log_processes.c.id == process_id
        )
    ).scalar_one_or_none()
    rows = [row for row in rows if row.sequence > (through or 0)]
    if not rows:
        return
    written = _write_together(connection, process_id, rows)
    for observe in observers:
        _tell(connection, observe, written)
    insert = _insert(connection)(prediction_log_processes).values(
        id=process_id, rows_written=len(written), written_through=rows[-1].sequence
    )
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["id"],
            set_={
                "rows_written": prediction_log_processes.c.rows_written
                + insert.excluded.rows_written,
                "written_through": insert.excluded.written_through,
            },
        )
    )


def record_loss(connection: Connection, process_id: str, reason: str, n_rows: int) -> None:
    """Add to what a process has lost for one reason."""
    insert = _insert(connection)(prediction_log_losses).values(
        id=new_id(),
        process_id=process_id,
        reason=reason,
        n_rows=n_rows,
        at=datetime.now(timezone.utc),
    )
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["process_id", "reason"],
            set_={
                "n_rows": prediction_log_losses.c.n_rows + insert.excluded.n_rows,
                "at": insert.excluded.at,
            },
        )
    )


def count_losses(connection: Connection, process_id: str | None = None) -> int:
    """Return how many rows one process, or all, are known to have lost."""
    query = sa.select(sa.func.coalesce(sa.func.sum(prediction_log_losses.c.n_rows), 0))
    if process_id is not None:
        query = query.where(prediction_log_losses.c.process_id == process_id)
    return int(connection.execute(query).scalar_one())


def settle_process(connection: Connection, process_id: str, n_appended: int) -> int:
    """Record what a process that is gone has appended and nobody has written or counted.

    Returns
    -------
    int
        How many rows that is; 0 the second time.
    """
    n_written = connection.execute(
        sa.select(prediction_log_processes.c.rows_written).where(
            prediction_log_processes.c.id == process_id
        )
    ).scalar_one_or_none()
    n_lost = n_appended - (n_written or 0) - count_losses(connection, process_id)
    if n_lost > 0:
        record_loss(connection, process_id, "process_ended", n_lost)
    return max(n_lost, 0)


def forget_process(connection: Connection, process_id: str) -> None:
    """Remove the row of a process that is settled and whose file is gone."""
    connection.execute(
        prediction_log_processes.delete().where(prediction_log_processes.c.id == process_id)
    )


def list_rows(
    connection: Connection, model_id: str, version: int | None, limit: int, cursor: str | None
) -> Page[DescribePrediction]:
    """Return a page of a model's or a version's log, newest first.

    Raises
    ------
    InvalidRequest
        ``limit`` is not in 1 to 1000, or ``cursor`` is not one of this list.
    """
    check_limit(limit)
    query = (
        sa.select(predictions, models.c.name.label("model"), model_versions.c.version)
        .join(model_versions, model_versions.c.id == predictions.c.version_id)
        .join(models, models.c.id == predictions.c.model_id)
        .order_by(predictions.c.created_at.desc(), predictions.c.id.desc())
        .limit(limit + 1)
    )
    if version is None:
        query = query.where(predictions.c.model_id == model_id)
    else:
        # By the version's id, so that its own index serves the page.
        version_id = connection.execute(
            sa.select(model_versions.c.id).where(
                model_versions.c.model_id == model_id, model_versions.c.version == version
            )
        ).scalar_one_or_none()
        query = query.where(predictions.c.version_id == version_id)
    if cursor is not None:
        at_us, id = decode_cursor(cursor, tuple[int, UUID])
        query = query.where(
            sa.tuple_(predictions.c.created_at, predictions.c.id)
            < sa.tuple_(
                sa.literal(_EPOCH + timedelta(microseconds=at_us), predictions.c.created_at.type),
                sa.literal(str(id), predictions.c.id.type),
            )
        )
    rows = connection.execute(query).all()
    next_cursor = None
    if len(rows) > limit:
        last = rows[limit - 1]
        next_cursor = encode_cursor(
            ((last.created_at - _EPOCH) // timedelta(microseconds=1), last.id)
        )
    return Page(tuple(_describe(row) for row in rows[:limit]), next_cursor)


def read_last_calls(connection: Connection, model_ids: Sequence[str]) -> dict[str, LastCalls]:
    """Return by model its last call and their number; models without a call are left out."""
    found = {}
    for start in range(0, len(model_ids), _CHUNK_IDS):
        rows = connection.execute(
            sa.select(
                prediction_counts.c.model_id,
                sa.func.max(prediction_counts.c.last_called_at).label("last_called_at"),
                sa.func.sum(prediction_counts.c.n_predictions).label("n_predictions"),
            )
            .where(prediction_counts.c.model_id.in_(model_ids[start : start + _CHUNK_IDS]))
            .group_by(prediction_counts.c.model_id)
        )
        for row in rows:
            found[row.model_id] = LastCalls(row.last_called_at, int(row.n_predictions))
    return found


def read_recently_called(connection: Connection, since: datetime, limit: int) -> list[str]:
    """Return the ids of the versions that were called since then, the latest first."""
    called_at = prediction_counts.c.last_called_at
    query = (
        sa.select(prediction_counts.c.version_id)
        .where(called_at >= since)
        .order_by(called_at.desc())
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def _insert(connection: Connection) -> Any:
    """Return the ``insert`` that knows ON CONFLICT; the dialects' classes differ, hence ``Any``."""
    return sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert


def _write_together(
    connection: Connection, process_id: str, rows: Sequence[WaitingRow]
) -> Sequence[WaitingRow]:
    """Write rows at once, or one by one where that is refused, and return what was written."""
    try:
        with connection.begin_nested():
            kept = [row for row in rows if row.is_kept]
            if kept:
                insert_rows(connection, predictions, _values(process_id, kept))
            _count_calls(connection, rows)
        return rows
    except OperationalError:
        raise
    except StatementError:
        written = [row for row in rows if _write_alone(connection, process_id, row)]
        _count_calls(connection, written)
        return written


def _write_alone(connection: Connection, process_id: str, row: WaitingRow) -> bool:
    """Write one row of a batch that was refused; without its values where they are the reason."""
    if not row.is_kept:
        return _has_version(connection, process_id, row)
    without = msgspec.structs.replace(row.record, inputs=None, outputs=None)
    for attempt in (row, msgspec.structs.replace(row, record=without, truncated=True)):
        try:
            with connection.begin_nested():
                insert_rows(connection, predictions, _values(process_id, [attempt]))
            return True
        except OperationalError:
            raise
        except IntegrityError:  # the version was deleted, and its log with it
            record_loss(connection, process_id, "version_deleted", 1)
            return False
        except StatementError as error:
            reason = error
    log.warning("Prediction %s cannot be logged: %s", row.record.request_id, reason.orig)
    record_loss(connection, process_id, "refused", 1)
    return False


def _has_version(connection: Connection, process_id: str, row: WaitingRow) -> bool:
    """Whether a row's version is there, and stays until the end of the transaction."""
    found = connection.execute(
        sa.select(model_versions.c.id)
        .where(model_versions.c.id == row.record.version_id)
        .with_for_update(read=True, key_share=True)
    ).first()
    if found is None:
        record_loss(connection, process_id, "version_deleted", 1)
    return found is not None


def _tell(connection: Connection, observe: Observer, rows: Sequence[WaitingRow]) -> None:
    """Let one observer write what it makes of rows; its mistakes cost nobody else anything."""
    try:
        with connection.begin_nested():
            observe(connection, rows)
    except (OperationalError, StorageUnavailable, StorageFull):
        raise  # the database's: the batch is tried again, observers and all
    except Exception as error:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise
        log.exception("What follows from %d predictions cannot be kept.", len(rows))


def _count_calls(connection: Connection, rows: Sequence[WaitingRow]) -> None:
    times: dict[tuple[str, str], list[datetime]] = {}
    for row in rows:
        record = row.record
        times.setdefault((record.version_id, record.model_id), []).append(record.created_at)
    counts = {key: LastCalls(max(called_at), len(called_at)) for key, called_at in times.items()}
    # Sorted, so that two processes lock the rows in the same order.
    for (version_id, model_id), calls in sorted(counts.items()):
        insert = _insert(connection)(prediction_counts).values(
            version_id=version_id,
            model_id=model_id,
            n_predictions=calls.n_predictions,
            last_called_at=calls.last_called_at,
        )
        newer = insert.excluded.last_called_at > prediction_counts.c.last_called_at
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["version_id"],
                set_={
                    "n_predictions": prediction_counts.c.n_predictions
                    + insert.excluded.n_predictions,
                    "last_called_at": sa.case(
                        (newer, insert.excluded.last_called_at),
                        else_=prediction_counts.c.last_called_at,
                    ),
                },
            )
        )


def _values(process_id: str, rows: Sequence[WaitingRow]) -> list[tuple[Any, ...]]:
    """Return the values of rows in the order of the columns; their types differ, hence ``Any``."""
    return [
        (
            id,
            (record := row.record).model_id,
            record.version_id,
            timestamp_text(record.created_at),
            record.request_id,
            record.principal,
            record.method,
            record.status,
            record.cached,
            record.n_rows,
            record.queue_ms,
            record.load_ms,
            record.predict_ms,
            record.total_ms,
            _text(record.inputs),
            _text(record.outputs),
            row.truncated,
            None if record.error is None else _storable(record.error),
            process_id,
            row.sequence,
        )
        for id, row in zip(new_ids(len(rows)), rows, strict=True)
    ]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _storable(error: str) -> str:
    """Return what a model raised without what no database takes: lone surrogates and NUL."""
    return error[:_MAX_ERROR_CHARS].encode("utf-8", "replace").decode().replace("\0", "?")


def _describe(row: sa.Row[Any]) -> DescribePrediction:
    return DescribePrediction(
        request_id=row.request_id,
        model=row.model,
        version=row.version,
        method=row.method,
        principal=row.principal,
        created_at=row.created_at,
        status=row.status,
        cached=row.cached,
        n_rows=row.n_rows,
        queue_ms=row.queue_ms,
        load_ms=row.load_ms,
        predict_ms=row.predict_ms,
        total_ms=row.total_ms,
        inputs=_raw(row.inputs),
        outputs=_raw(row.outputs),
        truncated=row.truncated,
        error=row.error,
    )


def _raw(text: str | None) -> msgspec.Raw:
    return msgspec.Raw(b"null" if text is None else text.encode())
