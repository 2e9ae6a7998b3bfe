"""API keys of users: made, listed and revoked. Of the key itself only the sha256 is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, Row

from mlserve_jupyter.accounts.audit import Facts, Origin
from mlserve_jupyter.accounts.epoch import raise_epoch
from mlserve_jupyter.accounts.keys import KEY_PREFIX, make_key
from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.api.keys import CreateKey, Scope
from mlserve_jupyter.errors import Conflict, InvalidRequest, NotFound, PermissionDenied
from mlserve_jupyter.settings import check_name
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.paging import Page, decode_cursor, encode_cursor
from mlserve_jupyter.storage.tables import api_keys, users
from mlserve_jupyter.storage.users import User

MAX_KEYS = 1000
"""Keys that a user may have at a time."""

_VALID = api_keys.c.revoked_at.is_(None)


@dataclass(frozen=True)
class ApiKey:
    """A key that is not revoked.

    Attributes
    ----------
    id
        Primary key.
    prefix
        The public part, as the key begins.
    model_ids
        The models that it is limited to; None for all.
    rate_limit
        Requests a minute; 0 for no limit, None for its user's.
    """

    id: str
    name: str
    prefix: str
    scopes: tuple[Scope, ...]
    model_ids: tuple[str, ...] | None
    rate_limit: int | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


def check_allowed(wanted: CreateKey, user: User, creator: Principal) -> None:
    """Return if a caller may make this key: never one that may more than the caller.

    Raises
    ------
    InvalidName, InvalidRequest
        The key cannot be.
    PermissionDenied
        Naming what is beyond the caller.
    """
    check_name(wanted.name)
    beyond = set(wanted.scopes) - creator.scopes
    if "admin" in wanted.scopes and user.role != "admin":
        beyond.add("admin")
    if beyond:
        shown = ", ".join(repr(scope) for scope in sorted(beyond))
        raise PermissionDenied(
            f"A key of yours cannot have the scope {shown}, which you do not have yourself."
        )
    if wanted.rate_limit == 0 and user.role != "admin":
        raise PermissionDenied(
            "Only an administrator makes a key without a rate limit: leave rate_limit out, or set "
            "it to requests a minute."
        )
    if "admin" in wanted.scopes and wanted.models is not None:
        raise InvalidRequest(
            "A key with the scope 'admin' cannot be limited to models: leave out one or the other."
        )


def create_key(
    engine: Engine,
    user: User,
    wanted: CreateKey,
    model_ids: Sequence[str] | None,
    origin: Origin,
) -> tuple[str, ApiKey]:
    """Make a key, which is shown to its owner and kept by nobody else.

    Parameters
    ----------
    model_ids
        Those of ``wanted.models``.

    Returns
    -------
    str
        The key itself.
    ApiKey
        What is kept of it.

    Raises
    ------
    Conflict
        The user has a key of that name, or too many.
    StorageUnavailable, StorageFull
        It cannot be kept.
    """
    key, record = make_key()
    now = datetime.now(timezone.utc)
    lifetime_s = wanted.expires_in_s
    made = ApiKey(
        id=new_id(),
        name=wanted.name,
        prefix=KEY_PREFIX + record.key_id,
        scopes=tuple(sorted(set(wanted.scopes))),
        model_ids=None if model_ids is None else tuple(dict.fromkeys(model_ids)),
        rate_limit=wanted.rate_limit,
        created_at=now,
        expires_at=None if lifetime_s is None else now + timedelta(seconds=lifetime_s),
        last_used_at=None,
    )
    with writing(engine) as connection:
        _check_room(connection, user, wanted.name)
        connection.execute(
            api_keys.insert().values(
                id=made.id,
                user_id=user.id,
                name=made.name,
                key_id=record.key_id,
                sha256=record.sha256,
                scopes=_json(made.scopes),
                model_ids=None if made.model_ids is None else _json(made.model_ids),
                rate_limit=made.rate_limit,
                created_at=made.created_at,
                expires_at=made.expires_at,
            )
        )
        origin.write(connection, "key.create", f"key {made.prefix}", _facts(made, user))
    return key, made


def list_keys(
    engine: Engine, user: User, limit: int = 100, cursor: str | None = None
) -> Page[ApiKey]:
    """Return a page of a user's keys, newest first; expired ones too.

    Raises
    ------
    InvalidRequest
        ``cursor`` is not one of this list.
    StorageUnavailable
        The database does not answer.
    """
    query = (
        sa.select(api_keys)
        .where(api_keys.c.user_id == user.id, _VALID)
        .order_by(api_keys.c.id.desc())
        .limit(limit + 1)
    )
    if cursor is not None:
        query = query.where(api_keys.c.id < str(decode_cursor(cursor, tuple[UUID])[0]))
    with reading(engine) as connection:
        keys = [_of_row(row) for row in connection.execute(query)]
    next_cursor = encode_cursor((keys[limit - 1].id,)) if len(keys) > limit else None
    return Page(tuple(keys[:limit]), next_cursor)


def revoke_key(engine: Engine, user: User, id: str, origin: Origin) -> None:
    """Revoke a key of a user's own, or anybody's where the user is an administrator.

    Raises
    ------
    NotFound
        There is none of that id that the user may revoke.
    StorageUnavailable, StorageFull
        The database does not answer.
    """
    not_found = NotFound("There is no such key: list the keys to see their ids.")
    try:
        query = sa.select(api_keys).where(api_keys.c.id == str(UUID(id)), _VALID)
    except ValueError:
        raise not_found from None
    if user.role != "admin":
        query = query.where(api_keys.c.user_id == user.id)
    with writing(engine) as connection:
        row = connection.execute(query.with_for_update()).one_or_none()
        if row is None:
            raise not_found
        connection.execute(
            api_keys.update()
            .where(api_keys.c.id == row.id)
            .values(revoked_at=datetime.now(timezone.utc))
        )
        raise_epoch(connection)
        revoked = _of_row(row)
        facts: Facts = {"name": revoked.name, "user_id": row.user_id}
        origin.write(connection, "key.revoke", f"key {revoked.prefix}", facts)


def _check_room(connection: Connection, user: User, name: str) -> None:
    """Refuse a second key of a name, with the user's row locked until the key is there.

    Raises
    ------
    Conflict
        Saying what to do.
    """
    connection.execute(sa.select(users.c.id).where(users.c.id == user.id).with_for_update())
    own = sa.select(sa.func.count()).where(api_keys.c.user_id == user.id, _VALID)
    if connection.execute(own.where(api_keys.c.name == name)).scalar_one():
        raise Conflict(f"You have a key {name!r} already: revoke it first, or take another name.")
    if connection.execute(own).scalar_one() >= MAX_KEYS:
        raise Conflict(f"You have {MAX_KEYS} keys: revoke those that nobody uses.")


def _of_row(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        prefix=KEY_PREFIX + row.key_id,
        scopes=msgspec.json.decode(row.scopes, type=tuple[Scope, ...]),
        model_ids=(
            None
            if row.model_ids is None
            else msgspec.json.decode(row.model_ids, type=tuple[str, ...])
        ),
        rate_limit=row.rate_limit,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )


def _facts(key: ApiKey, user: User) -> Facts:
    return {
        "name": key.name,
        "user_id": user.id,
        "scopes": list(key.scopes),
        "model_ids": None if key.model_ids is None else list(key.model_ids),
        "expires_at": None if key.expires_at is None else key.expires_at.isoformat(),
        "rate_limit": key.rate_limit,
    }


def _json(values: tuple[str, ...]) -> str:
    return msgspec.json.encode(values).decode()
