"""The rows that archives are made of: found, read, deleted and put back, some at a time.

No transaction here is long: the log is written meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from math import inf
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.settings import MIB
from mlserve_jupyter.storage.bulk import insert_rows, timestamp_text
from mlserve_jupyter.storage.engine import reading
from mlserve_jupyter.storage.monitoring_tables import labels
from mlserve_jupyter.storage.tables import (
    UtcDateTime,
    model_versions,
    models,
    predictions,
    users,
)

GROUP_BYTES = 8 * MIB
"""About what the rows of a group take in memory."""

_FETCHED_ROWS = 100
_MAX_ROWS = 10_000
_ROW_BYTES = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_NAMES = [column.name for column in predictions.columns]
_ID, _MODEL_ID, _VERSION_ID, _REQUEST_ID, _CREATED_AT = (
    _NAMES.index(name) for name in ("id", "model_id", "version_id", "request_id", "created_at")
)
_LABELS, _LABELLED_AT = len(_NAMES) + 3, len(_NAMES) + 4

Row = tuple[Any, ...]
"""The values of an archive's columns (see ``archive_file.SCHEMA``), of several types each."""


class Restored(NamedTuple):
    """What became of rows that were put back.

    Attributes
    ----------
    n_rows
        Those that are there again.
    n_without_model
        Those of versions that were deleted since.
    """

    n_rows: int
    n_without_model: int


def read_groups(engine: Engine, begins_at: datetime, ends_at: datetime) -> Iterator[list[Row]]:
    """Give the rows of a span in the order of time, in groups of about ``GROUP_BYTES``."""
    at = predictions.c.created_at
    place = at >= begins_at
    while True:
        found = _read_group(engine, _SELECT.where(place, at < ends_at))
        if not found:
            return
        yield [_values(row) for row in found]
        last = found[-1]
        place = sa.tuple_(at, predictions.c.id) > sa.tuple_(
            sa.literal(last.created_at, at.type), sa.literal(last.id, predictions.c.id.type)
        )


def delete_rows(connection: Connection, rows: Sequence[Row]) -> int:
    """Delete rows that an archive has, with what it knows of their labels.

    Returns
    -------
    int
        How many were there.
    """
    deleted = connection.execute(predictions.delete().where(_are(rows)))
    delete_labels(connection, rows)
    return deleted.rowcount


def delete_labels(connection: Connection, rows: Sequence[Row]) -> None:
    """Delete the labels that rows of an archive carry, unless they have changed since."""
    for row in rows:
        if row[_LABELS] is not None:
            connection.execute(
                labels.delete().where(
                    labels.c.model_id == row[_MODEL_ID],
                    labels.c.request_id == row[_REQUEST_ID],
                    labels.c.created_at <= _moment(row[_LABELLED_AT]),
                )
            )


def restore_rows(connection: Connection, rows: Sequence[Row]) -> Restored:
    """Put rows of an archive back, with their labels; those that are there stay as they are."""
    versions = {row[_VERSION_ID] for row in rows}
    known = set(
        connection.scalars(sa.select(model_versions.c.id).where(model_versions.c.id.in_(versions)))
    )
    there = set(connection.scalars(sa.select(predictions.c.id).where(_are(rows))))
    of_models = [row for row in rows if row[_VERSION_ID] in known]
    missing = [row for row in of_models if row[_ID] not in there]
    insert_rows(connection, predictions, [_as_inserted(row) for row in missing])
    for row in of_models:
        if row[_LABELS] is not None:
            _restore_label(connection, row)
    return Restored(len(of_models), len(rows) - len(of_models))


# Outer joins keep the order, and what was left of a model that was deleted.
_SELECT = (
    sa.select(
        predictions,
        users.c.name.label("owner"),
        models.c.name.label("model"),
        model_versions.c.version,
        labels.c.labels,
        labels.c.created_at.label("labelled_at"),
    )
    .outerjoin(models, models.c.id == predictions.c.model_id)
    .outerjoin(users, users.c.id == models.c.owner_id)
    .outerjoin(model_versions, model_versions.c.id == predictions.c.version_id)
    .outerjoin(
        labels,
        (labels.c.model_id == predictions.c.model_id)
        & (labels.c.request_id == predictions.c.request_id),
    )
    .order_by(predictions.c.created_at, predictions.c.id)
)


def _are(rows: Sequence[Row]) -> sa.ColumnElement[bool]:
    """Return the condition of being one of some rows, by the primary key: first the time."""
    times = [row[_CREATED_AT] for row in rows]
    return (
        (predictions.c.created_at >= _moment(min(times)))
        & (predictions.c.created_at <= _moment(max(times)))
        & predictions.c.id.in_([row[_ID] for row in rows])
    )


def _read_group(engine: Engine, query: sa.Select[Any]) -> list[sa.Row[Any]]:
    """Read rows until they are enough, since one may be a thousand times as large as another."""
    rows: list[sa.Row[Any]] = []
    n_bytes = 0
    with reading(engine, timeout_s=inf) as connection:
        streaming = connection.execution_options(stream_results=True, max_row_buffer=_FETCHED_ROWS)
        result = streaming.execute(query.limit(_MAX_ROWS))
        while n_bytes < GROUP_BYTES and (fetched := result.fetchmany(_FETCHED_ROWS)):
            rows += fetched
            n_bytes += sum(map(_size_bytes, fetched))
        result.close()
    return rows


def _values(row: sa.Row[Any]) -> Row:
    return tuple(
        (value - _EPOCH) // _MICROSECOND if isinstance(value, datetime) else value for value in row
    )


def _size_bytes(row: sa.Row[Any]) -> int:
    return _ROW_BYTES + len(row.inputs or "") + len(row.outputs or "")


def _moment(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)


def _as_inserted(row: Row) -> Row:
    return tuple(
        timestamp_text(_moment(value)) if isinstance(column.type, UtcDateTime) else value
        for column, value in zip(predictions.columns, row, strict=False)
    )


def _restore_label(connection: Connection, row: Row) -> None:
    is_it = (labels.c.model_id == row[_MODEL_ID]) & (labels.c.request_id == row[_REQUEST_ID])
    if connection.scalar(sa.select(labels.c.created_at).where(is_it)) is None:
        connection.execute(
            labels.insert().values(
                model_id=row[_MODEL_ID],
                request_id=row[_REQUEST_ID],
                labels=row[_LABELS],
                created_at=_moment(row[_LABELLED_AT]),
            )
        )
