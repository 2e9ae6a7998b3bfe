"""Users with keys, put into the database of a running server."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import httpx
import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.accounts.epoch import raise_epoch
from mlserve_jupyter.accounts.keys import make_key
from mlserve_jupyter.storage.engine import writing
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.tables import api_keys, users
from mlserve_jupyter.storage.users import Role
from tests.live import NO_TLS

ALL_SCOPES = ("predict", "read", "deploy", "admin")


@dataclass(frozen=True)
class Person:
    """A user of a server, who calls it with a key."""

    id: str
    name: str
    key: str
    url: str

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"X-MLServe-Key": self.key, **options.pop("headers", {})}
        options = {"timeout": 60, "verify": NO_TLS, **options}
        return httpx.request(method, self.url + path, headers=headers, **options)


def add_person(
    engine: Engine,
    url: str,
    name: str,
    role: Role = "user",
    scopes: Collection[str] = ALL_SCOPES,
    model_ids: Collection[str] | None = None,
    *,
    is_active: bool = True,
    rate_limit: int | None = 0,
) -> Person:
    """Return the user of that name, who is made if need be, with a new key."""
    key, record = make_key()
    now = datetime.now(timezone.utc)
    with writing(engine) as connection:
        user_id = _user_id(connection, name) or new_id()
        if _user_id(connection, name) is None:
            connection.execute(
                users.insert().values(
                    id=user_id, name=name, role=role, is_active=is_active, token_epoch=0,
                    created_at=now,
                )
            )  # fmt: skip
        connection.execute(
            api_keys.insert().values(
                id=new_id(), user_id=user_id, name="test", key_id=record.key_id,
                sha256=record.sha256, scopes=msgspec.json.encode(list(scopes)).decode(),
                model_ids=None if model_ids is None
                else msgspec.json.encode(list(model_ids)).decode(),
                rate_limit=rate_limit, created_at=now,
            )
        )  # fmt: skip
        raise_epoch(connection)
    return Person(user_id, name, key, url)


def _user_id(connection: Connection, name: str) -> str | None:
    return connection.execute(
        sa.select(users.c.id).where(users.c.name == name)
    ).scalar_one_or_none()
