"""The prediction log as it is read: page by page, newest first, and by what a caller looks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection

from mlserve_jupyter.api.resources import DescribePrediction
from mlserve_jupyter.errors import InvalidRequest
from mlserve_jupyter.storage.jsonb_text import as_jsonb_takes
from mlserve_jupyter.storage.monitoring_tables import labels
from mlserve_jupyter.storage.paging import Page, decode_cursor, encode_cursor
from mlserve_jupyter.storage.tables import (
    model_versions,
    models,
    prediction_counts,
    predictions,
)

MAX_PAGE_BYTES = 4 * 2**20
"""A page ends where its inputs and outputs have come to this: a row may have half a megabyte."""

FAILED = "failed"
"""Stands for every status but ``ok``."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_BODY_KEYS = {"instances", "inputs", "dataframe_records", "dataframe_split", "base64"}
_CHUNK_IDS = 500
_FETCHED_ROWS = 50


@dataclass(frozen=True)
class CallFilter:
    """Which calls of a model are looked for; None of anything for all.

    Attributes
    ----------
    since, until
        When they came; with a time zone, and ``until`` itself left out.
    status
        ``ok``, the code of an error, or ``failed`` for all but ``ok``.
    principal
        Who called, as the log shows it.
    labelled
        Whether somebody has said what turned out to be true of them.
    contains
        JSON that is in their inputs, as of PostgreSQL's ``@>``: values of a row by column,
        whatever form the call had, or a part of a body.
    """

    version: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    status: str | None = None
    method: str | None = None
    principal: str | None = None
    labelled: bool | None = None
    contains: str | None = None


class LastCalls(NamedTuple):
    """When a model was last called, and how often in all."""

    last_called_at: datetime
    n_predictions: int


def read_calls(
    connection: Connection,
    model_id: str,
    wanted: CallFilter,
    limit: int,
    cursor: str | None,
) -> Page[DescribePrediction]:
    """Return a page of a model's log, newest first: of ``limit`` calls, fewer where they are large.

    Raises
    ------
    InvalidRequest
        ``cursor`` is not one of this list, or ``contains`` is no JSON or the database cannot
        search for it.
    """
    query = _filtered(connection, _calls(), model_id, wanted)
    if cursor is not None:
        at_us, id = decode_cursor(cursor, tuple[int, UUID])
        query = query.where(
            sa.tuple_(predictions.c.created_at, predictions.c.id)
            < sa.tuple_(
                sa.literal(_EPOCH + timedelta(microseconds=at_us), predictions.c.created_at.type),
                sa.literal(str(id), predictions.c.id.type),
            )
        )
    # Fetched as it is read: a page that has become too large is left where it is.
    result = connection.execute(
        query.limit(limit + 1),
        execution_options={"stream_results": True, "max_row_buffer": _FETCHED_ROWS},
    )
    calls: list[DescribePrediction] = []
    position: tuple[int, str] | None = None
    n_bytes = 0
    with result:
        for row in result:
            if len(calls) == limit or n_bytes >= MAX_PAGE_BYTES:
                assert position is not None
                return Page(tuple(calls), encode_cursor(position))
            calls.append(_describe(row))
            n_bytes += len(row.inputs or "") + len(row.outputs or "") + len(row.labels or "")
            position = (row.created_at - _EPOCH) // timedelta(microseconds=1), row.id
    return Page(tuple(calls), None)


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


def _calls() -> sa.Select[Any]:
    """Return the query of calls with what describes them; the columns' types differ: ``Any``."""
    return (
        sa.select(
            predictions,
            models.c.name.label("model"),
            model_versions.c.version,
            labels.c.labels,
        )
        .join(model_versions, model_versions.c.id == predictions.c.version_id)
        .join(models, models.c.id == predictions.c.model_id)
        .outerjoin(
            labels,
            sa.and_(
                labels.c.model_id == predictions.c.model_id,
                labels.c.request_id == predictions.c.request_id,
            ),
        )
        .order_by(predictions.c.created_at.desc(), predictions.c.id.desc())
    )


def _filtered(
    connection: Connection, query: sa.Select[Any], model_id: str, wanted: CallFilter
) -> sa.Select[Any]:
    columns = predictions.c
    if wanted.version is None:
        query = query.where(columns.model_id == model_id)
    else:
        # By the version's id, so that its own index serves the page.
        version_id = connection.execute(
            sa.select(model_versions.c.id).where(
                model_versions.c.model_id == model_id, model_versions.c.version == wanted.version
            )
        ).scalar_one_or_none()
        query = query.where(columns.version_id == version_id)
    if wanted.since is not None:
        query = query.where(columns.created_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(columns.created_at < wanted.until)
    if wanted.status is not None and wanted.status != FAILED:
        query = query.where(columns.status == wanted.status)
    if wanted.status not in (None, "ok"):
        # In the very words of the index of those that failed, also where one status is wanted.
        query = query.where(columns.status != sa.literal_column("'ok'"))
    if wanted.method is not None:
        query = query.where(columns.method == wanted.method)
    if wanted.principal is not None:
        query = query.where(columns.principal == wanted.principal)
    if wanted.labelled is not None:
        is_missing = labels.c.request_id.is_(None)
        query = query.where(sa.not_(is_missing) if wanted.labelled else is_missing)
    if wanted.contains is not None:
        query = query.where(_contains(connection, wanted.contains))
    return query


def _contains(connection: Connection, text: str) -> sa.ColumnElement[bool]:
    if connection.dialect.name != "postgresql":
        raise InvalidRequest(
            "Inputs can be searched on PostgreSQL alone (see the setting database_url): leave "
            "'contains' out, and filter what comes."
        )
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest(
            "'contains' must be JSON that is in the inputs, such as "
            f'{{"city": "Bern"}}, not {text[:80]!r}.'
        ) from None
    text = as_jsonb_takes(text)
    found = predictions.c.inputs.op("@>", is_comparison=True)
    return sa.or_(*(found(sa.cast(sa.literal(form, sa.Text), JSONB)) for form in _forms(text)))


def _forms(text: str) -> list[str]:
    """Return the bodies that have a row with these values by column; what is a body is itself.

    The values stay as they are written: PostgreSQL's numbers have more digits than Python's.
    """
    try:
        row = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return [text]
    if not row or row.keys() & _BODY_KEYS:
        return [text]
    by_column = {name: [value] for name, value in row.items()}
    bodies: list[Any] = [
        {"instances": [row]},
        {"inputs": [row]},
        {"inputs": by_column},
        {"dataframe_records": [row]},
        {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}},
    ]
    return [text, *(msgspec.json.encode(body).decode() for body in bodies)]


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
        labels=_raw(row.labels),
    )


def _raw(text: str | None) -> msgspec.Raw:
    return msgspec.Raw(b"null" if text is None else text.encode())
