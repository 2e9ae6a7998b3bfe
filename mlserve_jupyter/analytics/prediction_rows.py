"""The prediction log in the database: written in batches, and its losses counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, OperationalError, StatementError

from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.errors import StorageFull, StorageUnavailable
from mlserve_jupyter.storage.bulk import insert_rows, timestamp_text
from mlserve_jupyter.storage.ids import new_id, new_ids
from mlserve_jupyter.storage.jsonb_text import as_jsonb_takes
from mlserve_jupyter.storage.tables import (
    model_versions,
    prediction_counts,
    prediction_log_losses,
    prediction_log_processes,
    predictions,
)

log = logging.getLogger(__name__)

_MAX_ERROR_CHARS = 10_000


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


def _insert(connection: Connection) -> Any:
    """Return the ``insert`` that knows ON CONFLICT; the dialects' classes differ, hence ``Any``."""
    return sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert


def _write_together(
    connection: Connection, process_id: str, rows: Sequence[WaitingRow]
) -> Sequence[WaitingRow]:
    """Write rows at once, or what of them is not refused, and return what was written."""
    try:
        with connection.begin_nested():
            _insert_kept(connection, process_id, rows)
            _count_calls(connection, rows)
        return rows
    except OperationalError:
        raise
    except StatementError:
        written = _write_halves(
            connection, process_id, _of_present_versions(connection, process_id, rows)
        )
        _count_calls(connection, written)
        return written


def _write_halves(
    connection: Connection, process_id: str, rows: Sequence[WaitingRow]
) -> list[WaitingRow]:
    """Write rows; where they are refused, the halves of them, so that one row costs few steps."""
    if not rows:
        return []
    try:
        with connection.begin_nested():
            _insert_kept(connection, process_id, rows)
        return list(rows)
    except OperationalError:
        raise
    except StatementError as error:
        if len(rows) == 1:
            return _write_without_values(connection, process_id, rows[0], error)
    middle = len(rows) // 2
    return [
        *_write_halves(connection, process_id, rows[:middle]),
        *_write_halves(connection, process_id, rows[middle:]),
    ]


def _write_without_values(
    connection: Connection, process_id: str, row: WaitingRow, reason: StatementError
) -> list[WaitingRow]:
    """Write a row that was refused, in case that its values are the reason."""
    record = msgspec.structs.replace(row.record, inputs=None, outputs=None)
    without = msgspec.structs.replace(row, record=record, truncated=True)
    try:
        with connection.begin_nested():
            _insert_kept(connection, process_id, [without])
        return [row]
    except OperationalError:
        raise
    except StatementError:
        log.warning("Prediction %s cannot be logged: %s", row.record.request_id, reason.orig)
        record_loss(connection, process_id, "refused", 1)
        return []


def _of_present_versions(
    connection: Connection, process_id: str, rows: Sequence[WaitingRow]
) -> list[WaitingRow]:
    """Return the rows whose version is there, and stays until the end of the transaction."""
    present: set[str] = set()
    for version_id in sorted({row.record.version_id for row in rows}):
        found = connection.execute(
            sa.select(model_versions.c.id)
            .where(model_versions.c.id == version_id)
            .with_for_update(read=True, key_share=True)
        ).first()
        if found is not None:
            present.add(version_id)
    kept = [row for row in rows if row.record.version_id in present]
    if len(kept) < len(rows):
        record_loss(connection, process_id, "version_deleted", len(rows) - len(kept))
    return kept


def _insert_kept(connection: Connection, process_id: str, rows: Sequence[WaitingRow]) -> None:
    kept = [row for row in rows if row.is_kept]
    if kept:
        text = _text if connection.dialect.name == "sqlite" else _jsonb_text
        insert_rows(connection, predictions, _values(process_id, kept, text))


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
    # Sorted, so that two processes lock the rows in the same order.
    for (version_id, model_id), called_at in sorted(times.items()):
        insert = _insert(connection)(prediction_counts).values(
            version_id=version_id,
            model_id=model_id,
            n_predictions=len(called_at),
            last_called_at=max(called_at),
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


def _values(
    process_id: str, rows: Sequence[WaitingRow], text: Callable[[bytes | None], str | None]
) -> list[tuple[Any, ...]]:
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
            text(record.inputs),
            text(record.outputs),
            row.truncated,
            None if record.error is None else _storable(record.error),
            process_id,
            row.sequence,
        )
        for id, row in zip(new_ids(len(rows)), rows, strict=True)
    ]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _jsonb_text(value: bytes | None) -> str | None:
    return None if value is None else as_jsonb_takes(value.decode("utf-8", "replace"))


def _storable(error: str) -> str:
    """Return what a model raised without what no database takes: lone surrogates and NUL."""
    return error[:_MAX_ERROR_CHARS].encode("utf-8", "replace").decode().replace("\0", "?")
