from __future__ import annotations

from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.accounts.owners import ensure_user, user_of
from mlserve_jupyter.accounts.people import add_person
from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.errors import InvalidName, PermissionDenied
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.tables import users
from tests.storage.databases import opened, processes
from tests.stores import Stores


def test_the_owner_is_made_once_without_email_or_password(engine: Engine) -> None:
    user = ensure_user(engine, "owner")
    assert ensure_user(engine, "owner") == user
    assert (user.name, user.role) == ("owner", "user")
    with reading(engine) as connection:
        (row,) = connection.execute(sa.select(users)).all()
    assert (row.id, row.email, row.hashed_password) == (user.id, None, None)
    assert row.is_active
    assert row.token_epoch == 0


def test_several_users_without_an_email_may_be_there(engine: Engine) -> None:
    assert ensure_user(engine, "ann").id != ensure_user(engine, "bob").id


def test_whom_the_host_calls_an_administrator_becomes_one_unless_there_is_a_password(
    engine: Engine,
) -> None:
    for name, password, role in (("owner", None, "admin"), ("ann", "$2b$12$", "user")):
        made = ensure_user(engine, name)
        with writing(engine) as connection:
            connection.execute(
                users.update().where(users.c.id == made.id).values(hashed_password=password)
            )
        assert ensure_user(engine, name, "admin").role == role
        assert ensure_user(engine, name, "user").role == role


def test_an_identity_of_jupyter_never_becomes_an_account_that_somebody_registered(
    engine: Engine,
) -> None:
    with writing(engine) as connection:
        for name in ("ann", "owner"):
            add_person(
                connection,
                email=f"{name}@example.org",
                name=name,
                hashed_password="$2b$12$",
                role="user",
            )
    with pytest.raises(PermissionDenied, match="account with a password"):
        user_of(engine, Principal("ann", "jupyter"), "owner")
    assert user_of(engine, Principal("owner", "jupyter"), "owner").name == "owner"


def test_a_user_who_is_disabled_is_let_in_by_no_host(engine: Engine) -> None:
    made = ensure_user(engine, "ann")
    with writing(engine) as connection:
        connection.execute(users.update().where(users.c.id == made.id).values(is_active=False))
    for role in ("user", "admin"):
        with pytest.raises(PermissionDenied, match="disabled"):
            ensure_user(engine, "ann", role)


@pytest.mark.parametrize("name", ["", "Ann", "a b", "../ann", "a~b"])
def test_a_name_that_is_no_name_is_refused(engine: Engine, name: str) -> None:
    with pytest.raises(InvalidName):
        ensure_user(engine, name)


def test_processes_that_start_at_once_agree_on_the_owner(
    engine: Engine, stores: Stores, tmp_path: Path
) -> None:
    started = processes.Barrier(3)
    ours, theirs = processes.Pipe()
    children = [
        processes.Process(target=_ensure, args=(stores.settings(tmp_path), started, theirs))
        for _ in range(3)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert len({ours.recv() for _ in children}) == 1


def _ensure(settings: Settings, started: Barrier, pipe: Connection) -> None:
    with opened(settings) as engine:
        started.wait(60)
        pipe.send(ensure_user(engine, "owner").id)
