"""The platform's users as owners of models: the notebook's owner is one without a password."""

from __future__ import annotations

from datetime import datetime, timezone

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError

from mlserve_jupyter.settings import check_name
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.tables import users
from mlserve_jupyter.storage.users import User


def ensure_user(engine: Engine, name: str) -> User:
    """Return the user called ``name``, who is made with role ``user`` if need be.

    Raises
    ------
    InvalidName
        ``name`` cannot name a user.
    StorageUnavailable, StorageFull
        The database does not answer, or has no space left.
    """
    check_name(name)
    with reading(engine) as connection:
        user = _find(connection, name)
    if user is not None:
        return user
    try:
        with writing(engine) as connection:
            connection.execute(
                users.insert().values(
                    id=new_id(),
                    name=name,
                    role="user",
                    is_active=True,
                    token_epoch=0,
                    created_at=datetime.now(timezone.utc),
                )
            )
    except IntegrityError:  # another process was quicker
        pass
    with reading(engine) as connection:
        user = _find(connection, name)
    assert user is not None
    return user


def _find(connection: Connection, name: str) -> User | None:
    row = connection.execute(
        sa.select(users.c.id, users.c.name, users.c.role).where(users.c.name == name)
    ).one_or_none()
    return None if row is None else User(id=row.id, name=row.name, role=row.role)
