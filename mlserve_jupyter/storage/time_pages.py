"""Pages of what happened, newest first, read along an index of a time and an id."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from mlserve_jupyter.storage.paging import Page, check_limit, decode_cursor, encode_cursor

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def read_newest_first(
    connection: Connection,
    query: sa.Select[Any],
    at: sa.Column[datetime],
    id: sa.Column[str],
    limit: int,
    cursor: str | None,
) -> Page[Row[Any]]:
    """Return a page of a query's rows (of any columns, hence ``Any``).

    Parameters
    ----------
    at, id
        The columns that order them, which the query selects; ``id`` holds UUIDs.

    Raises
    ------
    InvalidRequest
        ``limit`` is not in 1 to 1000, or ``cursor`` is not one of such a list.
    """
    check_limit(limit)
    if cursor is not None:
        at_us, last_id = decode_cursor(cursor, tuple[int, UUID])
        position = sa.tuple_(
            sa.literal(_EPOCH + timedelta(microseconds=at_us), at.type),
            sa.literal(str(last_id), id.type),
        )
        query = query.where(sa.tuple_(at, id) < position)
    rows = connection.execute(query.order_by(at.desc(), id.desc()).limit(limit + 1)).all()
    next_cursor = None
    if len(rows) > limit:
        last = rows[limit - 1]._mapping
        next_cursor = encode_cursor(((last[at] - _EPOCH) // timedelta(microseconds=1), last[id]))
    return Page(tuple(rows[:limit]), next_cursor)
