"""Invitations: codes that let somebody register; shown once, and kept as a digest."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.accounts.audit import AuditEvent, Origin, write_event
from mlserve_jupyter.accounts.people import Person, check_email
from mlserve_jupyter.errors import Conflict, NotFound, PermissionDenied
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.paging import Page, check_limit, decode_cursor, encode_cursor
from mlserve_jupyter.storage.tables import invitations, users
from mlserve_jupyter.storage.users import Role

CODE_PREFIX = "mli_"
_KEPT_AFTER_END = timedelta(days=30)
_CODE_BYTES = 24  # 192 random bits


@dataclass(frozen=True)
class Invitation:
    """An invitation, without its code.

    Attributes
    ----------
    email
        The only one that may register with it; None for any.
    role
        What whoever registers with it becomes.
    created_by, used_by
        Names of users.
    """

    id: str
    email: str | None
    role: Role
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_by: str | None
    used_at: datetime | None


def create_invitation(
    engine: Engine,
    creator: str,
    origin: Origin,
    *,
    email: str | None,
    role: Role,
    lifetime: timedelta,
) -> tuple[Invitation, str]:
    """Make an invitation; returns it and its code, which is not kept.

    Parameters
    ----------
    creator
        Id of the user who invites.

    Raises
    ------
    EmailRejected
        ``email`` is no address.
    """
    email = None if email is None else check_email(email)
    code = CODE_PREFIX + secrets.token_hex(_CODE_BYTES)
    now = datetime.now(timezone.utc)
    invitation_id = new_id()
    with writing(engine) as connection:
        connection.execute(
            invitations.insert().values(
                id=invitation_id,
                sha256=_digest(code),
                email=email,
                role=role,
                created_by=creator,
                created_at=now,
                expires_at=now + lifetime,
            )
        )
        facts = {"role": role, "email": email}
        target = f"invitation {invitation_id}"
        write_event(connection, AuditEvent(origin, "invitation.create", target, details={**facts}))
        [found] = _read(connection, invitations.c.id == invitation_id)
    return found, code


def list_invitations(engine: Engine, *, limit: int, cursor: str | None) -> Page[Invitation]:
    """Return a page of all invitations, newest first.

    Raises
    ------
    InvalidRequest
        ``cursor`` is not one of this list.
    """
    check_limit(limit)
    before: sa.ColumnElement[bool] = sa.true()
    if cursor is not None:
        [last_id] = decode_cursor(cursor, tuple[UUID])
        before = invitations.c.id < str(last_id)
    with reading(engine) as connection:
        found = _read(connection, before, limit + 1)
    page = tuple(found[:limit])
    return Page(page, encode_cursor((page[-1].id,)) if len(found) > limit else None)


def delete_invitation(engine: Engine, invitation_id: str, origin: Origin) -> None:
    """Take an invitation back.

    Raises
    ------
    NotFound
        There is none with this id.
    Conflict
        Somebody has registered with it.
    """
    try:
        is_this = invitations.c.id == str(UUID(invitation_id))
    except ValueError:
        raise NotFound("There is no such invitation.") from None
    with writing(engine) as connection:
        deleted = connection.execute(
            invitations.delete().where(is_this, invitations.c.used_at.is_(None))
        )
        if not deleted.rowcount:
            if _read(connection, is_this):
                raise Conflict("Somebody has registered with this invitation already.")
            raise NotFound("There is no such invitation.")
        event = AuditEvent(origin, "invitation.delete", f"invitation {invitation_id}")
        write_event(connection, event)


def forget_old_invitations(connection: Connection) -> None:
    """Delete what nobody has used in time; the used ones say who invited whom."""
    ended_before = datetime.now(timezone.utc) - _KEPT_AFTER_END
    connection.execute(
        invitations.delete().where(
            invitations.c.used_at.is_(None), invitations.c.expires_at < ended_before
        )
    )


def check_invitation(connection: Connection, code: str | None, email: str) -> tuple[str, Role]:
    """Return the id and the role of an invitation, if it is for this email and still good.

    Raises
    ------
    PermissionDenied
        If not; in the same words for all reasons.
    """
    now = datetime.now(timezone.utc)
    row = connection.execute(
        sa.select(invitations.c.id, invitations.c.email, invitations.c.role)
        .where(invitations.c.sha256 == _digest(code or ""))
        .where(invitations.c.used_at.is_(None), invitations.c.expires_at > now)
        .with_for_update()
    ).one_or_none()
    if row is None or row.email not in (None, email):
        raise PermissionDenied(
            "An invitation is needed to register here, and this one is not valid: its code is "
            "mistyped, used or expired, or it is for another email. Ask an administrator for one."
        )
    return row.id, row.role


def mark_used(connection: Connection, invitation_id: str, person: Person) -> None:
    """Note who has registered; in the transaction that has checked the invitation."""
    connection.execute(
        invitations.update()
        .where(invitations.c.id == invitation_id)
        .values(used_by=person.id, used_at=datetime.now(timezone.utc))
    )


def _read(
    connection: Connection, condition: sa.ColumnElement[bool], limit: int = 1
) -> list[Invitation]:
    creators, guests = users.alias(), users.alias()
    rows = connection.execute(
        sa.select(
            invitations.c.id,
            invitations.c.email,
            invitations.c.role,
            creators.c.name.label("created_by"),
            invitations.c.created_at,
            invitations.c.expires_at,
            guests.c.name.label("used_by"),
            invitations.c.used_at,
        )
        .join_from(invitations, creators, invitations.c.created_by == creators.c.id)
        .outerjoin(guests, invitations.c.used_by == guests.c.id)
        .where(condition)
        .order_by(invitations.c.id.desc())
        .limit(limit)
    )
    return [Invitation(*row) for row in rows]


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode("utf-8", "replace")).hexdigest()
