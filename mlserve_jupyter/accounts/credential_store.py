"""What the database knows of credentials: whose they are, what for, and whether they still hold."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.accounts.epoch import read_epoch
from mlserve_jupyter.accounts.key_uses import HOUR_S, WRITE_INTERVAL_S, KeyUse
from mlserve_jupyter.accounts.keys import KEY_PREFIX, record_of
from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.accounts.tokens import AccessTokens, Claims
from mlserve_jupyter.api.keys import Scope
from mlserve_jupyter.errors import Unauthenticated
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.monitoring_tables import key_uses
from mlserve_jupyter.storage.tables import api_keys, refresh_tokens, users

_Scopes = frozenset[Scope]
_Ids = frozenset[str]


@dataclass(frozen=True)
class Finding:
    """What a credential was found to be.

    Attributes
    ----------
    epoch
        Of the accounts, as the finding was made.
    principal
        Whom it proves; None for nobody.
    expires_at_s
        When it ends, as of ``time.time()``.
    """

    epoch: int
    principal: Principal | None = None
    expires_at_s: float = float("inf")


class CredentialStore:
    """Asks the database about credentials; synchronous, and called in threads.

    Parameters
    ----------
    engine
        The database.
    tokens
        Verifies access tokens; None where none are issued.
    """

    def __init__(self, engine: Engine, tokens: AccessTokens | None = None) -> None:
        self._engine = engine
        self._tokens = tokens

    def epoch(self) -> int:
        """Return the epoch of the accounts.

        Raises
        ------
        StorageUnavailable
            The database does not answer.
        """
        with reading(self._engine) as connection:
            return read_epoch(connection)

    def find(self, secret: str) -> Finding:
        """Find out about a key or a token.

        Raises
        ------
        StorageUnavailable
            The database does not answer.
        """
        claims = None if secret.startswith(KEY_PREFIX) else self._claims(secret)
        with reading(self._engine) as connection:
            epoch = read_epoch(connection)
            if claims is not None:
                return _find_token(connection, claims, epoch)
            return _find_key(connection, secret, epoch)

    def note_uses(self, uses: Mapping[str, KeyUse]) -> None:
        """Write when keys were last used, where no process has just done so, and how often.

        Parameters
        ----------
        uses
            By the keys' primary keys.

        Raises
        ------
        StorageUnavailable, StorageFull
            The database does not answer, or has no space left.
        """
        rows = [
            {"key": key, "at": at, "before": at - timedelta(seconds=WRITE_INTERVAL_S / 2)}
            for key, at in ((key, _time(use.last_at_s)) for key, use in uses.items())
        ]
        last = api_keys.c.last_used_at
        statement = (
            api_keys.update()
            .where(api_keys.c.id == sa.bindparam("key"))
            .where(sa.or_(last.is_(None), last < sa.bindparam("before", type_=last.type)))
            .values(last_used_at=sa.bindparam("at", type_=last.type))
        )
        with writing(self._engine, durable=False) as connection:
            connection.execute(statement, rows)
            _count_uses(connection, uses)

    def _claims(self, secret: str) -> Claims | None:
        if self._tokens is None:
            return None
        try:
            return self._tokens.verify(secret)
        except Unauthenticated:
            return None


def _count_uses(connection: Connection, uses: Mapping[str, KeyUse]) -> None:
    """Add up the uses of each hour; sorted, so that two processes lock rows in the same order."""
    rows = [
        {"api_key_id": key, "at": _time(hour * HOUR_S), "n_requests": n}
        for key, use in sorted(uses.items())
        for hour, n in sorted(use.n_by_hour.items())
    ]
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(key_uses)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["api_key_id", "at"],
            set_={"n_requests": key_uses.c.n_requests + statement.excluded.n_requests},
        ),
        rows,
    )


def _time(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, timezone.utc)


def _find_key(connection: Connection, secret: str, epoch: int) -> Finding:
    record = record_of(secret)
    if record is None:
        return Finding(epoch)
    row = connection.execute(
        sa.select(
            api_keys.c.id,
            api_keys.c.name.label("key_name"),
            api_keys.c.sha256,
            api_keys.c.scopes,
            api_keys.c.model_ids,
            api_keys.c.rate_limit,
            users.c.rate_limit.label("user_limit"),
            api_keys.c.expires_at,
            users.c.id.label("user_id"),
            users.c.name,
            users.c.role,
        )
        .join_from(api_keys, users)
        .where(
            api_keys.c.key_id == record.key_id, api_keys.c.revoked_at.is_(None), users.c.is_active
        )
    ).one_or_none()
    # Compared in constant time: how far two digests agree must not show.
    if row is None or not hmac.compare_digest(row.sha256, record.sha256):
        return Finding(epoch)
    expires_at_s = float("inf") if row.expires_at is None else row.expires_at.timestamp()
    if expires_at_s <= datetime.now(timezone.utc).timestamp():
        return Finding(epoch)
    scopes = msgspec.json.decode(row.scopes, type=_Scopes)
    has_own_limit = row.rate_limit is not None
    principal = Principal(
        row.name,
        "key",
        user_id=row.user_id,
        # An administrator's key without that scope may do no more than anybody's.
        role=row.role if "admin" in scopes else "user",
        scopes=scopes,
        model_ids=None if row.model_ids is None else msgspec.json.decode(row.model_ids, type=_Ids),
        credential_id=row.id,
        credential_name=row.key_name,
        rate_limit=row.rate_limit if has_own_limit else row.user_limit,
        # More keys are not more requests: those without a limit of their own share their user's,
        # and those with one count there as well, unless they are an administrator's.
        quota_id=f"key {row.id}" if has_own_limit else "",
        user_limit=row.user_limit if has_own_limit and row.role != "admin" else 0,
    )
    return Finding(epoch, principal, expires_at_s)


def _find_token(connection: Connection, claims: Claims, epoch: int) -> Finding:
    row = connection.execute(
        sa.select(users.c.id, users.c.name, users.c.role, users.c.rate_limit).where(
            users.c.id == claims.user_id,
            users.c.is_active,
            users.c.token_epoch == claims.epoch,
            sa.exists().where(
                refresh_tokens.c.family_id == claims.family_id,
                refresh_tokens.c.user_id == users.c.id,
                refresh_tokens.c.revoked_at.is_(None),
            ),
        )
    ).one_or_none()
    if row is None:
        return Finding(epoch)
    principal = Principal(
        row.name,
        "token",
        user_id=row.id,
        role=row.role,
        credential_id=claims.family_id,
        rate_limit=row.rate_limit,
    )
    return Finding(epoch, principal, claims.expires_at.timestamp())
