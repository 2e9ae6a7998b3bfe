"""The audit log as administrators read it: in pages, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Engine, Row

from mlserve_jupyter.api.audit import DescribeEvent
from mlserve_jupyter.storage.engine import reading
from mlserve_jupyter.storage.paging import Page
from mlserve_jupyter.storage.tables import audit_log
from mlserve_jupyter.storage.time_pages import read_newest_first


@dataclass(frozen=True)
class EventFilter:
    """Which events are read; None for all.

    Attributes
    ----------
    actor
        A name.
    action
        An action, or its first part: ``user`` stands for ``user.change``, too.
    since, until
        From this time on, and before that; with a time zone.
    """

    actor: str | None = None
    action: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def list_events(
    engine: Engine, wanted: EventFilter, limit: int, cursor: str | None
) -> Page[DescribeEvent]:
    """Return a page of the audit log, newest first.

    Raises
    ------
    InvalidRequest
        ``limit`` or ``cursor`` is not valid.
    StorageUnavailable
        The database does not answer.
    """
    columns = audit_log.c
    query = sa.select(audit_log)
    if wanted.actor is not None:
        query = query.where(columns.actor == wanted.actor)
    if wanted.action is not None:
        is_it = columns.action == wanted.action
        if "." not in wanted.action:
            begins_so = columns.action.startswith(wanted.action + ".", autoescape=True)
            is_it = sa.or_(is_it, begins_so)
        query = query.where(is_it)
    if wanted.outcome is not None:
        query = query.where(columns.outcome == wanted.outcome)
    if wanted.since is not None:
        query = query.where(columns.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(columns.at < wanted.until)
    with reading(engine) as connection:
        page = read_newest_first(connection, query, columns.at, columns.id, limit, cursor)
    return Page(tuple(_describe(row) for row in page.items), page.next_cursor)


def _describe(row: Row[tuple[object, ...]]) -> DescribeEvent:
    values = dict(row._mapping)
    details = values["details"]
    return DescribeEvent(
        **(values | {"details": msgspec.Raw(b"{}" if details is None else details.encode())})
    )
