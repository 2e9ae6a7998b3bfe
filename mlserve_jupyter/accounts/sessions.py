"""Sessions: families of tokens, each of which descends from one proof of who somebody is.

A refresh token is exchanged once, for its successor. One that comes a second time was copied, by
a thief or by a client that keeps its tokens in two places, and which of the two sent it cannot be
told: the whole family is ended (RFC 9700, 4.14.2). Those that were under way before the exchange
are no sign of that. They are refused, and the family lives.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.accounts.audit import AuditEvent, Origin, write_event
from mlserve_jupyter.accounts.epoch import raise_epoch
from mlserve_jupyter.accounts.people import Person, lock_person
from mlserve_jupyter.accounts.tokens import (
    ACCESS_LIFETIME_S,
    REFRESH_LIFETIME_S,
    AccessTokens,
    RefreshTokens,
)
from mlserve_jupyter.errors import Conflict, MLServeError, NotFound, Unauthenticated
from mlserve_jupyter.storage.engine import writing
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.tables import refresh_tokens

_KEPT_AFTER_END = timedelta(days=1)


@dataclass(frozen=True)
class TokenPair:
    """What a caller gets to show from now on."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in_s: int = ACCESS_LIFETIME_S


class Sessions:
    """The families of tokens in the database; synchronous, and called in threads.

    Parameters
    ----------
    engine
        The database.
    secret
        Signs the tokens.
    """

    def __init__(self, engine: Engine, secret: bytes) -> None:
        self._engine = engine
        self._access = AccessTokens(secret)
        self._refresh = RefreshTokens(secret)

    def begin(self, person: Person, origin: Origin, action: str) -> TokenPair:
        """Begin a family for somebody who has just proved to be this person.

        Parameters
        ----------
        person
            As it was when the proof was checked.
        action
            What the audit log calls it.

        Raises
        ------
        Unauthenticated
            The password was changed, or the user disabled, in the meantime.
        """
        with writing(self._engine) as connection:
            now = lock_person(connection, person.id)
            if not now.is_active or now.token_epoch != person.token_epoch:
                raise Unauthenticated("The account was changed at this moment: sign in again.")
            forget_old_tokens(connection)
            family_id = new_id()
            pair, _ = self._issue(connection, now, family_id)
            by_person = _acting(origin, now, family_id)
            write_event(connection, AuditEvent(by_person, action, f"user {now.name}"))
            return pair

    def rotate(self, refresh_token: str, origin: Origin, arrived_at: datetime) -> TokenPair:
        """Exchange a refresh token for the next pair.

        Parameters
        ----------
        arrived_at
            When the request came.

        Raises
        ------
        Unauthenticated
            The token is not valid, or was exchanged before; its family is ended then.
        Conflict
            It was exchanged while the request was under way.
        """
        with writing(self._engine) as connection:
            result = self._rotate(connection, refresh_token, origin, arrived_at)
        if isinstance(result, MLServeError):
            raise result
        return result

    def end(self, user_id: str, family_id: str, origin: Origin) -> None:
        """End a family: its access tokens die with it."""
        with writing(self._engine) as connection:
            person = lock_person(connection, user_id)
            _end_family(connection, family_id)
            write_event(connection, AuditEvent(origin, "logout", f"user {person.name}"))

    def _rotate(
        self, connection: Connection, text: str, origin: Origin, arrived_at: datetime
    ) -> TokenPair | MLServeError:
        """Return the next pair, or why there is none; what was found out is to be committed."""
        try:
            claims = self._refresh.verify(text)
            person = lock_person(connection, claims.user_id)
        except (Unauthenticated, NotFound):
            return _refusal()
        token = refresh_tokens
        query = sa.select(token.c.id, token.c.family_id, token.c.successor_id, token.c.revoked_at)
        row = connection.execute(query.where(token.c.sha256 == _digest(text))).one_or_none()
        is_alive = person.is_active and person.token_epoch == claims.epoch
        if row is None or row.revoked_at is not None or not is_alive:
            return _refusal()
        by_person = _acting(origin, person, row.family_id)
        if row.successor_id is None:
            pair, successor_id = self._issue(connection, person, row.family_id)
            connection.execute(
                token.update().where(token.c.id == row.id).values(successor_id=successor_id)
            )
            return pair
        exchanged_at: datetime = connection.execute(
            sa.select(token.c.created_at).where(token.c.id == row.successor_id)
        ).scalar_one()
        if arrived_at < exchanged_at:
            return Conflict(
                "Another request has just exchanged this refresh token: use what that one got."
            )
        _end_family(connection, row.family_id)
        event = AuditEvent(by_person, "token.reuse", f"user {person.name}", "unauthenticated")
        write_event(connection, event)
        return _refusal()

    def _issue(
        self, connection: Connection, person: Person, family_id: str
    ) -> tuple[TokenPair, str]:
        """Return a new pair, and the id of its refresh token, which is noted."""
        token_id = new_id()
        refresh_token = self._refresh.issue(person.id, family_id, person.token_epoch, token_id)
        access_token = self._access.issue(person.id, family_id, person.token_epoch)
        now = datetime.now(timezone.utc)
        connection.execute(
            refresh_tokens.insert().values(
                id=token_id,
                user_id=person.id,
                family_id=family_id,
                sha256=_digest(refresh_token),
                created_at=now,
                expires_at=now + timedelta(seconds=REFRESH_LIFETIME_S),
            )
        )
        return TokenPair(access_token, refresh_token), token_id


def _end_family(connection: Connection, family_id: str) -> None:
    connection.execute(
        refresh_tokens.update()
        .where(refresh_tokens.c.family_id == family_id, refresh_tokens.c.revoked_at.is_(None))
        .values(revoked_at=datetime.now(timezone.utc))
    )
    raise_epoch(connection)


def forget_old_tokens(connection: Connection) -> None:
    """Delete what nobody can use or misuse any more."""
    ended_before = datetime.now(timezone.utc) - _KEPT_AFTER_END
    connection.execute(refresh_tokens.delete().where(refresh_tokens.c.expires_at < ended_before))


def _acting(origin: Origin, person: Person, family_id: str) -> Origin:
    """Return where an event comes from, now that it is known who acts."""
    if origin.actor_id is not None:
        return origin
    return Origin(person.name, person.id, origin.via, origin.address, origin.request_id, family_id)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _refusal() -> Unauthenticated:
    return Unauthenticated("The refresh token is not valid any more: sign in again.")
