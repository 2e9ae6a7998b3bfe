"""Keys on a real PostgreSQL, which is stopped, frozen and started again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.accounts import credentials as module
from mlserve_jupyter.accounts.administration import list_users
from mlserve_jupyter.accounts.api_keys import create_key, list_keys, revoke_key
from mlserve_jupyter.accounts.audit import Origin
from mlserve_jupyter.accounts.credential_store import CredentialStore
from mlserve_jupyter.accounts.credentials import Credentials
from mlserve_jupyter.accounts.owners import ensure_user
from mlserve_jupyter.accounts.people import find_by_email
from mlserve_jupyter.api.keys import CreateKey
from mlserve_jupyter.errors import Conflict, InvalidRequest, StorageUnavailable, Unauthenticated
from mlserve_jupyter.storage.engine import reading
from mlserve_jupyter.storage.paging import encode_cursor
from mlserve_jupyter.storage.tables import api_keys
from mlserve_jupyter.storage.users import User
from tests.storage.databases import opened, settings_in
from tests.storage.postgres_process import PostgresProcess
from tests.waiting import wait_in_loop_for

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ORIGIN = Origin("owner", None, "jupyter", "127.0.0.1", "a-request")


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresProcess]:
    process = PostgresProcess()
    yield process
    process.close()


@pytest.fixture
def engine(postgres: PostgresProcess, tmp_path: Path) -> Iterator[Engine]:
    with opened(settings_in(tmp_path, database_url=postgres.new_database())) as engine:
        yield engine


@pytest.fixture
def user(engine: Engine) -> User:
    return ensure_user(engine, "owner", "admin")


def started(engine: Engine) -> Credentials:
    async def open_database() -> None: ...

    credentials = Credentials(open_database)
    credentials.start(CredentialStore(engine))
    return credentials


async def test_row_23_what_holds_a_nul_is_refused_by_name(engine: Engine, user: User) -> None:
    with pytest.raises(InvalidRequest, match="NUL"):
        find_by_email(engine, "ann\0@example.org")
    cursor = encode_cursor(("\0",))
    with pytest.raises(InvalidRequest, match="NUL"):
        list_users(engine, 10, cursor)
    as_json = sa.text("SELECT CAST(:text AS jsonb)").bindparams(text='"\\u0000"')
    with pytest.raises(InvalidRequest, match="NUL"), reading(engine) as connection:
        connection.execute(as_json)


async def test_a_key_is_made_verified_listed_used_and_revoked(engine: Engine, user: User) -> None:
    ids = ["00000000-0000-0000-0000-00000000000a"]
    wanted = CreateKey(name="one", scopes=("predict", "read"), models=["x"], expires_in_s=600)
    key, made = create_key(engine, user, wanted, ids, ORIGIN)
    with pytest.raises(Conflict):
        create_key(engine, user, CreateKey(name="one"), None, ORIGIN)
    for number in range(3):
        create_key(engine, user, CreateKey(name=f"other-{number}"), None, ORIGIN)
    first = list_keys(engine, user, limit=3)
    assert [each.name for each in first.items] == ["other-2", "other-1", "other-0"]
    assert list_keys(engine, user, limit=3, cursor=first.next_cursor).items == (made,)

    def last_use() -> datetime | None:
        with reading(engine) as connection:
            query = sa.select(api_keys.c.last_used_at).where(api_keys.c.id == made.id)
            at: datetime | None = connection.execute(query).scalar_one()
        return at

    credentials = started(engine)
    principal = await credentials.authenticate(key)
    assert principal.model_ids == set(ids)
    assert await wait_in_loop_for(last_use)
    revoke_key(engine, user, made.id, ORIGIN)
    assert await wait_in_loop_for(lambda: credentials.known(key) is None)
    with pytest.raises(Unauthenticated):
        await credentials.authenticate(key)
    await credentials.aclose()


@pytest.mark.parametrize("how", ["stop", "freeze"])
async def test_while_postgres_is_away_known_keys_predict_on_and_it_is_used_again_once_it_is_back(
    engine: Engine, user: User, postgres: PostgresProcess, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CURRENT_S", 1.0)
    known, _ = create_key(engine, user, CreateKey(name="known"), None, ORIGIN)
    fresh, _ = create_key(engine, user, CreateKey(name="fresh"), None, ORIGIN)
    credentials = started(engine)
    assert await credentials.authenticate(known)
    away, back = {
        "stop": (postgres.stop, postgres.start),
        "freeze": (postgres.freeze, postgres.thaw),
    }[how]
    await asyncio.to_thread(away)
    try:
        with pytest.raises(StorageUnavailable):
            await credentials.authenticate(fresh)
        await asyncio.sleep(1.5)
        with pytest.raises(StorageUnavailable):
            await credentials.authenticate(known)
        assert credentials.known(known) is not None
        assert credentials.known(fresh) is None
    finally:
        await asyncio.to_thread(back)
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        try:
            assert await credentials.authenticate(fresh)
            break
        except StorageUnavailable:
            await asyncio.sleep(0.1)
    assert credentials.known(fresh) is not None
    await credentials.aclose()
