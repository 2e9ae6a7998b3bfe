"""What administrators see of users, and change of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.engine import Connection, Engine, Row

from mlserve_jupyter.accounts.audit import Facts, Origin
from mlserve_jupyter.accounts.epoch import raise_epoch
from mlserve_jupyter.api.users import DescribeUser, UpdateUser
from mlserve_jupyter.errors import Conflict, NotFound
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.paging import Page, check_limit, decode_cursor, encode_cursor
from mlserve_jupyter.storage.tables import models, prediction_counts, refresh_tokens, users
from mlserve_jupyter.storage.users import Role


class Usage(NamedTuple):
    """What a user's models are used for."""

    n_models: int = 0
    n_calls: int = 0
    last_called_at: datetime | None = None


def list_users(
    engine: Engine,
    limit: int,
    cursor: str | None,
    *,
    name: str | None = None,
    role: Role | None = None,
    is_active: bool | None = None,
) -> Page[DescribeUser]:
    """Return a page of the users, by name.

    Parameters
    ----------
    name, role, is_active
        Those of this name, role or state alone.

    Raises
    ------
    InvalidRequest
        ``limit`` or ``cursor`` is not valid.
    StorageUnavailable
        The database does not answer.
    """
    check_limit(limit)
    query = sa.select(users).order_by(users.c.name).limit(limit + 1)
    wanted = {users.c.name: name, users.c.role: role, users.c.is_active: is_active}
    for column, value in wanted.items():
        if value is not None:
            query = query.where(column == value)
    if cursor is not None:
        [after] = decode_cursor(cursor, tuple[str])
        query = query.where(users.c.name > after)
    with reading(engine) as connection:
        rows = connection.execute(query).all()
        usage = _usage(connection, [row.id for row in rows[:limit]])
    next_cursor = encode_cursor((rows[limit - 1].name,)) if len(rows) > limit else None
    items = [_describe(row, usage.get(row.id, Usage())) for row in rows[:limit]]
    return Page(tuple(items), next_cursor)


def change_user(engine: Engine, user: str, changes: UpdateUser, origin: Origin) -> DescribeUser:
    """Change a user's role, state or limit, and end what it takes away.

    Parameters
    ----------
    user
        An id or a name; where it is one's id and another's name, the id counts.

    Raises
    ------
    NotFound
        There is no such user.
    Conflict
        No active administrator would be left.
    StorageUnavailable, StorageFull
        Nothing was changed.
    """
    with writing(engine) as connection:
        before = _lock(connection, user)
        values = {
            name: value
            for name in ("role", "is_active", "rate_limit")
            if (value := getattr(changes, name)) is not UNSET and value != getattr(before, name)
        }
        if values:
            _change(connection, before, values)
            facts: Facts = {**values, **{f"{n}_before": getattr(before, n) for n in values}}
            origin.write(connection, "user.change", f"user {before.name}", facts)
        row = connection.execute(sa.select(users).where(users.c.id == before.id)).one()
        return _describe(row, _usage(connection, [row.id]).get(row.id, Usage()))


def _lock(connection: Connection, user: str) -> Row[Any]:
    """Return a user, who stays as found with all active administrators, locked in one order."""
    wanted = users.c.name == user
    try:
        user_id = str(UUID(user))
    except ValueError:
        user_id = None
    else:
        wanted = sa.or_(wanted, users.c.id == user_id)
    locked = connection.execute(
        sa.select(users)
        .where(sa.or_(wanted, _is_active_admin()))
        .order_by(users.c.id)
        .with_for_update()
    ).all()
    by_id, by_name = {row.id: row for row in locked}, {row.name: row for row in locked}
    found = by_id.get(user_id) or by_name.get(user)
    if found is None:
        raise NotFound(f"There is no user {user[:80]!r}, by id or by name: list the users.")
    return found


def _change(connection: Connection, before: Row[Any], values: dict[str, Any]) -> None:
    """Write values (of columns of several types, hence ``Any``), and end what they take away."""
    takes_away = values.get("role") == "user" or values.get("is_active") is False
    connection.execute(
        users.update()
        .where(users.c.id == before.id)
        .values(values | ({"token_epoch": users.c.token_epoch + 1} if takes_away else {}))
    )
    n_admins = sa.select(sa.func.count()).select_from(users).where(_is_active_admin())
    was_admin = before.role == "admin" and before.is_active
    if takes_away and was_admin and not connection.execute(n_admins).scalar_one():
        raise Conflict(
            f"{before.name!r} is the last active administrator: make another user one first.",
            user=before.name,
        )
    if takes_away:
        connection.execute(
            refresh_tokens.update()
            .where(refresh_tokens.c.user_id == before.id, refresh_tokens.c.revoked_at.is_(None))
            .values(revoked_at=datetime.now(timezone.utc))
        )
    raise_epoch(connection)


def _is_active_admin() -> sa.ColumnElement[bool]:
    return sa.and_(users.c.role == "admin", users.c.is_active)


def _usage(connection: Connection, user_ids: Sequence[str]) -> dict[str, Usage]:
    """Return by user what their models are used for; without those who have none."""
    rows = connection.execute(
        sa.select(
            models.c.owner_id,
            sa.func.count(sa.distinct(models.c.id)),
            sa.func.coalesce(sa.func.sum(prediction_counts.c.n_predictions), 0),
            sa.func.max(prediction_counts.c.last_called_at),
        )
        .join_from(models, prediction_counts, isouter=True)
        .where(models.c.owner_id.in_(user_ids))
        .group_by(models.c.owner_id)
    )
    return {row[0]: Usage(row[1], int(row[2]), row[3]) for row in rows}


def _describe(row: Row[Any], usage: Usage) -> DescribeUser:
    return DescribeUser(
        id=row.id,
        name=row.name,
        email=row.email,
        role=row.role,
        is_active=row.is_active,
        rate_limit=row.rate_limit,
        created_at=row.created_at,
        **usage._asdict(),
    )
