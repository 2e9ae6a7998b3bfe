"""The users who sign in with an email and a password, as the database has them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.accounts.epoch import raise_epoch
from mlserve_jupyter.errors import Conflict, EmailRejected, NotFound
from mlserve_jupyter.settings import check_name
from mlserve_jupyter.storage.engine import reading
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.tables import refresh_tokens, users
from mlserve_jupyter.storage.users import Role

MAX_EMAIL_CHARS = 254
"""RFC 5321, 4.5.3.1.3, without the angle brackets."""

_MAX_TYPED_CHARS = 4 * MAX_EMAIL_CHARS
"""Longer ones are no address in any form. Normalization takes the square of a text's length."""

_EMAIL = re.compile(r"[^@]{1,64}@[^@]+")
_MAX_NUMBERED = 100


@dataclass(frozen=True)
class Person:
    """A user, with what signing in needs to know.

    Attributes
    ----------
    email, hashed_password
        None for those who come by Jupyter's identity alone.
    token_epoch
        Tokens of an older one are dead.
    rate_limit
        Requests a minute; 0 for no limit, None for what the settings say.
    """

    id: str
    name: str
    email: str | None
    hashed_password: str | None = field(repr=False)
    role: Role
    is_active: bool
    token_epoch: int
    rate_limit: int | None
    created_at: datetime


def comparable_email(text: str) -> str:
    """Return an address in the form in which two that reach the same person are equal."""
    return unicodedata.normalize("NFKC", text[:_MAX_TYPED_CHARS]).strip().lower()


def check_email(text: str) -> str:
    """Return an address in its comparable form, if it can be one.

    Raises
    ------
    EmailRejected
        If it cannot.
    """
    email = comparable_email(text)
    is_visible = email.isprintable() and not any(character.isspace() for character in email)
    is_short = len(text) <= _MAX_TYPED_CHARS and len(email) <= MAX_EMAIL_CHARS
    if not is_short or not is_visible or not _EMAIL.fullmatch(email):
        raise EmailRejected("The email is no address: write one such as ann@example.org.")
    return email


def find_by_email(engine: Engine, email: str) -> Person | None:
    """Return the user with an address in its comparable form, or None."""
    with reading(engine) as connection:
        return _find(connection, users.c.email == email)


def find_by_id(engine: Engine, user_id: str) -> Person:
    """Return a user.

    Raises
    ------
    NotFound
        There is none.
    """
    with reading(engine) as connection:
        return lock_person(connection, user_id)


def lock_person(connection: Connection, user_id: str) -> Person:
    """Return a user, who stays as found until the end of a writing transaction.

    Whatever changes a user, or the families of a user's tokens, does this first.

    Raises
    ------
    NotFound
        There is none.
    """
    person = _find(connection, users.c.id == user_id, is_to_lock=True)
    if person is None:
        raise NotFound("There is no such user.")
    return person


def add_person(
    connection: Connection,
    *,
    email: str,
    name: str | None,
    hashed_password: str,
    role: Role,
    reserved: str = "",
) -> Person:
    """Add a user; without a name, one is made of the email's first part.

    Parameters
    ----------
    reserved
        A name that is not made of an email.

    Raises
    ------
    Conflict
        The email or the name is taken.
    InvalidName
        ``name`` cannot name a user.
    """
    if _find(connection, users.c.email == email) is not None:
        raise Conflict("There is an account with this email: sign in, or ask an administrator.")
    if name is not None and _is_taken(connection, check_name(name)):
        raise Conflict(f"The name {name!r} is taken: choose another.")
    if name is None:
        proposals = (proposal for proposal in _names_of(email) if proposal != reserved)
        name = next(proposal for proposal in proposals if not _is_taken(connection, proposal))
    person = Person(
        id=new_id(),
        name=name,
        email=email,
        hashed_password=hashed_password,
        role=role,
        is_active=True,
        token_epoch=0,
        rate_limit=None,
        created_at=datetime.now(timezone.utc),
    )
    connection.execute(users.insert().values(vars(person)))
    return person


def set_password(connection: Connection, person: Person, hashed_password: str) -> None:
    """Set a new password, with which all tokens of the old one are dead."""
    connection.execute(
        users.update()
        .where(users.c.id == person.id)
        .values(hashed_password=hashed_password, token_epoch=users.c.token_epoch + 1)
    )
    connection.execute(
        refresh_tokens.update()
        .where(refresh_tokens.c.user_id == person.id, refresh_tokens.c.revoked_at.is_(None))
        .values(revoked_at=datetime.now(timezone.utc))
    )
    raise_epoch(connection)


def _find(
    connection: Connection, condition: sa.ColumnElement[bool], *, is_to_lock: bool = False
) -> Person | None:
    query = sa.select(*(users.c[name] for name in Person.__dataclass_fields__)).where(condition)
    row = connection.execute(query.with_for_update() if is_to_lock else query).one_or_none()
    return None if row is None else Person(*row)


def _is_taken(connection: Connection, name: str) -> bool:
    query = sa.select(users.c.id).where(users.c.name == name)
    return connection.execute(query).one_or_none() is not None


def _names_of(email: str) -> Iterator[str]:
    """Propose names: the first part of the email, then numbered, then one that is new for sure."""
    base = re.sub(r"[^a-z0-9_-]+", "-", email.partition("@")[0]).strip("-_")[:48].strip("-_")
    base = base or "user"
    yield base
    yield from (f"{base}-{number}" for number in range(2, _MAX_NUMBERED))
    yield f"{base[:20]}-{new_id()}"
