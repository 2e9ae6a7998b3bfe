"""The platform's users as owners of models: the notebook's owner is one without a password."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError

from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.errors import PermissionDenied
from mlserve_jupyter.settings import check_name
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.tables import users
from mlserve_jupyter.storage.users import Role, User


def find_user_of(engine: Engine, principal: Principal, owner: str) -> User | None:
    """Return the user that a caller is, as :func:`user_of` does; None where one is to be made.

    It only reads, and so waits for no writer.

    Raises
    ------
    PermissionDenied
        The user is disabled, or somebody else has registered under the name.
    StorageUnavailable
        The database does not answer.
    """
    if principal.user_id is not None:
        return user_of(engine, principal, owner)
    with reading(engine) as connection:
        user = _find(connection, principal.user, principal.user == owner)
    if user is None or (user.role != "admin" and principal.role == "admin"):
        return None
    return replace(user, model_ids=principal.model_ids)


def user_of(engine: Engine, principal: Principal, owner: str) -> User:
    """Return the user that a caller is, with what the credential is limited to.

    Parameters
    ----------
    owner
        ``Settings.owner``: under this name alone an account with a password and an identity of
        Jupyter are the same user, since nobody can register under it.

    Raises
    ------
    PermissionDenied
        The user is disabled, or somebody else has registered under the name.
    StorageUnavailable, StorageFull
        The database does not answer, or has no space left.
    """
    if principal.user_id is None:
        user = ensure_user(
            engine,
            principal.user,
            principal.role,
            may_have_password=principal.user == owner,
        )
    else:  # active, or the credential would prove nothing
        # An administrator's key is an administrator only where it was made to be one.
        role = principal.role if "admin" in principal.scopes else "user"
        user = User(principal.user_id, principal.user, role)
    return replace(user, model_ids=principal.model_ids)


def ensure_user(
    engine: Engine, name: str, role: Role = "user", *, may_have_password: bool = True
) -> User:
    """Return the user called ``name``, who is made with this role if need be.

    A user without a password whom the host calls an administrator becomes one.

    Raises
    ------
    InvalidName
        ``name`` cannot name a user.
    PermissionDenied
        The user is disabled, or has a password and may not.
    StorageUnavailable, StorageFull
        The database does not answer, or has no space left.
    """
    check_name(name)
    with reading(engine) as connection:
        user = _find(connection, name, may_have_password)
    if user is not None and (user.role == "admin" or role == "user"):
        return user
    if user is not None:
        with writing(engine) as connection:
            connection.execute(
                users.update()
                .where(users.c.id == user.id, users.c.hashed_password.is_(None))
                .values(role=role)
            )
            found = _find(connection, name, may_have_password)
            assert found is not None
            return found
    try:
        with writing(engine) as connection:
            connection.execute(
                users.insert().values(
                    id=new_id(),
                    name=name,
                    role=role,
                    is_active=True,
                    token_epoch=0,
                    created_at=datetime.now(timezone.utc),
                )
            )
    except IntegrityError:  # another process was quicker
        pass
    with reading(engine) as connection:
        user = _find(connection, name, may_have_password)
    assert user is not None
    return user


def _find(connection: Connection, name: str, may_have_password: bool) -> User | None:
    row = connection.execute(
        sa.select(
            users.c.id, users.c.name, users.c.role, users.c.is_active, users.c.hashed_password
        ).where(users.c.name == name)
    ).one_or_none()
    if row is None:
        return None
    if row.hashed_password is not None and not may_have_password:
        raise PermissionDenied(
            f"The name {name!r} belongs to an account with a password, which is not this identity "
            "of Jupyter: sign in with the password, or ask an administrator."
        )
    if not row.is_active:
        raise PermissionDenied(f"The user {name!r} is disabled: ask an administrator.")
    return User(id=row.id, name=row.name, role=row.role)
