"""The alerts in the database: opened, carried on and ended by looks, and read by people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from mlserve_jupyter.analytics.alert_states import (
    Reading,
    Standing,
    first_standing,
    next_standing,
)
from mlserve_jupyter.analytics.alert_texts import sentence
from mlserve_jupyter.api.alerts import AlertMessage, AlertState, DescribeAlert, Rule
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.monitoring_tables import alert_limits, alerts
from mlserve_jupyter.storage.paging import Page
from mlserve_jupyter.storage.time_pages import read_newest_first

UNSEEN = timedelta(hours=1)
"""An alert about whose subject nothing was found out for so long ends."""

TELL_WITHIN = timedelta(days=1)
"""What the webhook could not be told by then it is not told any more."""

FIRST_RETRY_S = 30.0
LAST_RETRY_S = 1800.0


def note_readings(
    connection: Connection, rules: Sequence[Rule], readings: Sequence[Reading], now: datetime
) -> None:
    """Open, carry on and end the alerts of ``rules`` by what a look has found.

    Parameters
    ----------
    rules
        Those that were looked at; the alerts of others stay as they are.
    readings
        At most one of a rule on a subject.
    """
    is_open = sa.and_(alerts.c.ended_at.is_(None), alerts.c.rule.in_(rules))
    rows = connection.execute(sa.select(alerts).where(is_open)).all()
    opened: dict[tuple[str, str], Row[Any]] = {(row.rule, row.subject): row for row in rows}
    for reading in readings:
        if reading.value is None:
            continue
        row = opened.pop((reading.rule, reading.subject), None)
        if row is None:
            _open(connection, reading, reading.value, now)
        else:
            _carry_on(connection, row, reading, reading.value, now)
    for row in opened.values():
        if now - row.seen_at > UNSEEN:
            _end_unseen(connection, row, now)


def has_open(connection: Connection, rules: Sequence[Rule]) -> bool:
    """Whether an alert of these rules is open."""
    is_open = sa.and_(alerts.c.ended_at.is_(None), alerts.c.rule.in_(rules))
    return connection.execute(sa.select(alerts.c.id).where(is_open).limit(1)).first() is not None


def read_last_end(connection: Connection, model_id: str) -> datetime | None:
    """Return when an alert of a model has last ended; None for never."""
    ended_at: datetime | None = connection.scalar(
        sa.select(sa.func.max(alerts.c.ended_at)).where(alerts.c.model_id == model_id)
    )
    return ended_at


def read_limits(connection: Connection, model_id: str | None = None) -> dict[str, dict[str, float]]:
    """Return the limits that models have of their own, by the models' ids and by rule."""
    query = sa.select(alert_limits)
    if model_id is not None:
        query = query.where(alert_limits.c.model_id == model_id)
    found: dict[str, dict[str, float]] = {}
    for row in connection.execute(query):
        found.setdefault(row.model_id, {})[row.rule] = row._mapping["limit"]
    return found


def write_limit(connection: Connection, model_id: str, rule: Rule, limit: float | None) -> None:
    """Give a model a limit of its own, or take it away; alerts that are open stay."""
    of_rule = sa.and_(alert_limits.c.model_id == model_id, alert_limits.c.rule == rule)
    connection.execute(alert_limits.delete().where(of_rule))
    if limit is not None:
        values = {"model_id": model_id, "rule": rule, "limit": limit}
        connection.execute(alert_limits.insert().values(values))


def list_alerts(
    connection: Connection,
    *,
    user_id: str | None,
    model_ids: Sequence[str] | None,
    state: AlertState | None,
    limit: int,
    cursor: str | None,
) -> Page[DescribeAlert]:
    """Return a page of alerts, those that began last first.

    Parameters
    ----------
    user_id
        Whose; None for everybody's.
    model_ids
        Only those of these models; None for all, and for what is no model.
    state
        None for all that have fired.

    Raises
    ------
    InvalidRequest
        ``limit`` or ``cursor`` is not valid.
    """
    query = sa.select(alerts)
    if state is None:
        query = query.where(alerts.c.fired_at.is_not(None))
    else:
        query = query.where(alerts.c.state == state)
    if user_id is not None:
        query = query.where(alerts.c.user_id == user_id)
    if model_ids is not None:
        query = query.where(alerts.c.model_id.in_(model_ids))
    page = read_newest_first(connection, query, alerts.c.began_at, alerts.c.id, limit, cursor)
    return Page(tuple(_describe(row) for row in page.items), page.next_cursor)


def count_firing(connection: Connection) -> dict[str, int]:
    """Return how many alerts fire, by rule."""
    query = (
        sa.select(alerts.c.rule, sa.func.count())
        .where(alerts.c.ended_at.is_(None), alerts.c.state == "firing")
        .group_by(alerts.c.rule)
    )
    return {rule: n for rule, n in connection.execute(query)}


def untold(connection: Connection, now: datetime, server: str, limit: int) -> list[AlertMessage]:
    """Return what the webhook is to be told now, the oldest first."""
    changed_at = sa.func.coalesce(alerts.c.ended_at, alerts.c.fired_at)
    query = (
        sa.select(alerts)
        .where(
            alerts.c.fired_at.is_not(None),
            alerts.c.told != alerts.c.state,
            changed_at > now - TELL_WITHIN,
            sa.or_(alerts.c.try_at.is_(None), alerts.c.try_at <= now),
        )
        .order_by(changed_at)
        .limit(limit)
    )
    return [_message(row, server) for row in connection.execute(query)]


def note_told(connection: Connection, message: AlertMessage, now: datetime, taken: bool) -> None:
    """Take note of what became of a message; one that was not taken is sent again later."""
    of_alert = alerts.update().where(alerts.c.id == message.id, alerts.c.state == message.state)
    if taken:
        connection.execute(of_alert.values(told=message.state, n_tries=0, try_at=None))
        return
    n_tries = connection.scalar(sa.select(alerts.c.n_tries).where(alerts.c.id == message.id)) or 0
    wait_s = min(FIRST_RETRY_S * 2.0 ** min(n_tries, 20), LAST_RETRY_S)
    connection.execute(of_alert.values(n_tries=n_tries + 1, try_at=now + timedelta(seconds=wait_s)))


def forget_ended(connection: Connection, before: datetime) -> None:
    """Remove alerts that ended before a time."""
    connection.execute(alerts.delete().where(alerts.c.ended_at < before))


def _open(connection: Connection, reading: Reading, value: float, now: datetime) -> None:
    standing = first_standing(value, reading.limit)
    if standing is None:
        return
    try:
        with connection.begin_nested():
            connection.execute(
                alerts.insert().values(
                    id=new_id(),
                    rule=reading.rule,
                    subject=reading.subject,
                    title=reading.title,
                    model_id=reading.model_id,
                    user_id=reading.user_id,
                    worst=value,
                    began_at=now,
                    told="",
                    n_tries=0,
                    **_seen(standing, reading, value, now),
                )
            )
    except IntegrityError:
        # Another process has opened it, or the model was deleted since it was read.
        return


def _carry_on(
    connection: Connection, row: Row[Any], reading: Reading, value: float, now: datetime
) -> None:
    standing = next_standing(Standing(row.state, row.n_over, row.n_under), value, reading.limit)
    of_row = alerts.c.id == row.id
    if standing is None:
        connection.execute(alerts.delete().where(of_row))
        return
    values = _seen(standing, reading, value, now)
    if row.state == "firing":
        # A limit that is changed decides when the alert ends; what it was about stays.
        del values["limit"]
    values["worst"] = max(row.worst, value)
    if standing.state != row.state:
        values.update(n_tries=0, try_at=None)
        values["fired_at" if standing.state == "firing" else "ended_at"] = now
    connection.execute(alerts.update().where(of_row).values(values))


def _seen(standing: Standing, reading: Reading, value: float, now: datetime) -> dict[str, Any]:
    """Return the columns that every look writes; they differ in type, hence ``Any``."""
    return {
        "state": standing.state,
        "n_over": standing.n_over,
        "n_under": standing.n_under,
        "value": value,
        "limit": reading.limit,
        "seen_at": now,
    }


def _end_unseen(connection: Connection, row: Row[Any], now: datetime) -> None:
    of_row = alerts.c.id == row.id
    if row.state == "pending":
        connection.execute(alerts.delete().where(of_row))
        return
    values = {"state": "ended", "ended_at": now, "n_tries": 0, "try_at": None}
    connection.execute(alerts.update().where(of_row).values(values))


def _describe(row: Row[Any]) -> DescribeAlert:
    return DescribeAlert(
        id=row.id,
        rule=row.rule,
        title=row.title,
        state=row.state,
        value=row.value,
        worst=row.worst,
        limit=row._mapping["limit"],
        text=_text(row),
        began_at=row.began_at,
        fired_at=row.fired_at,
        ended_at=row.ended_at,
        is_told=row.told == row.state,
    )


def _message(row: Row[Any], server: str) -> AlertMessage:
    return AlertMessage(
        text=_text(row),
        id=row.id,
        rule=row.rule,
        title=row.title,
        state=row.state,
        value=row.value,
        worst=row.worst,
        limit=row._mapping["limit"],
        began_at=row.began_at,
        fired_at=row.fired_at,
        ended_at=row.ended_at,
        server=server,
    )


def _text(row: Row[Any]) -> str:
    return sentence(
        row.rule, row.title, row.state, row.value, row.worst, row._mapping["limit"], row.began_at
    )
