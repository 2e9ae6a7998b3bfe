"""Keys as one server process knows them, on a real database that changes and that goes away."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Engine

from mlserve_jupyter.accounts import credentials as module
from mlserve_jupyter.accounts.api_keys import ApiKey, create_key, list_keys, revoke_key
from mlserve_jupyter.accounts.audit import Origin
from mlserve_jupyter.accounts.credential_store import CredentialStore
from mlserve_jupyter.accounts.credentials import Credentials
from mlserve_jupyter.accounts.epoch import raise_epoch
from mlserve_jupyter.accounts.key_uses import WRITE_INTERVAL_S, KeyUse, KeyUses
from mlserve_jupyter.accounts.keys import make_key
from mlserve_jupyter.accounts.owners import ensure_user
from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.api.keys import CreateKey
from mlserve_jupyter.errors import StorageUnavailable, Unauthenticated
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.monitoring_tables import key_uses
from mlserve_jupyter.storage.tables import api_keys, audit_log, users
from mlserve_jupyter.storage.users import User
from tests.storage.databases import opened, settings_in
from tests.waiting import wait_in_loop_for

ORIGIN = Origin("owner", None, "jupyter", "127.0.0.1", "a-request")

pytestmark = pytest.mark.anyio


def make(engine: Engine, user: User, name: str = "one", **wanted: object) -> tuple[str, ApiKey]:
    return create_key(engine, user, CreateKey(name=name, **wanted), None, ORIGIN)  # type: ignore[arg-type]


@asynccontextmanager
async def started(engine: Engine) -> AsyncIterator[Credentials]:
    async def open_database() -> None: ...

    credentials = Credentials(open_database)
    credentials.start(CredentialStore(engine))
    try:
        yield credentials
    finally:
        await credentials.aclose()


@pytest.fixture
def file_engine(tmp_path: Path) -> Iterator[Engine]:
    """A database that a test can take away or lock: a file, whatever the stores are."""
    with opened(settings_in(tmp_path)) as engine:
        yield engine


@pytest.fixture
def count_queries(engine: Engine) -> Iterator[Callable[[], int]]:
    """Count the statements that look credentials up; asking for the epoch is not one."""
    statements: list[str] = []

    def note(connection: object, cursor: object, statement: str, *others: object) -> None:
        if "api_keys" in statement and statement.startswith("SELECT"):
            statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield lambda: len(statements)
    event.remove(engine, "before_cursor_execute", note)


async def test_a_key_proves_its_user_with_what_it_was_made_for(engine: Engine, user: User) -> None:
    key, made = make(engine, user, scopes=("predict", "read"), rate_limit=7)
    async with started(engine) as credentials:
        assert credentials.known(key) is None
        principal = await credentials.authenticate(key)
        assert credentials.known(key) == principal
    assert (principal.user, principal.user_id, principal.via) == ("owner", user.id, "key")
    assert principal.scopes == {"predict", "read"}
    assert principal.role == "user"
    assert principal.rate_limit == 7
    assert principal.credential_id == made.id
    assert str(principal) == "owner (key one)"


def test_a_caller_is_shown_with_the_name_of_the_key_as_wide_as_the_log_has_room() -> None:
    assert str(Principal("ann", "token", credential_id="family")) == "ann (token)"
    named = Principal("a" * 64, "key", credential_name="k" * 64)
    assert len(str(named)) == 128
    assert str(named).endswith("kkk…)")
    assert named == Principal("a" * 64, "key"), "the name does not make another caller"


async def test_a_keys_own_limit_stands_alone_for_administrators_only(
    engine: Engine, user: User
) -> None:
    ben = ensure_user(engine, "ben", "user")
    async with started(engine) as credentials:
        own = [
            await credentials.authenticate(make(engine, each, "own", rate_limit=7)[0])
            for each in (user, ben)
        ]
        shared = await credentials.authenticate(make(engine, ben, "shared")[0])
    assert [(each.rate_limit, each.user_limit) for each in own] == [(7, 0), (7, None)]
    assert (shared.rate_limit, shared.user_limit, shared.quota_id) == (None, 0, "")


async def test_a_known_key_costs_no_query_and_an_unknown_one_costs_one(
    engine: Engine, user: User, count_queries: Callable[[], int]
) -> None:
    key, _ = make(engine, user)
    before = count_queries()
    async with started(engine) as credentials:
        found = await asyncio.gather(*(credentials.authenticate(key) for _ in range(64)))
        assert len(set(found)) == 1
        for _ in range(100):
            assert credentials.known(key) is not None
            await credentials.authenticate(key)
        assert count_queries() - before == 1
        for _ in range(100):
            with pytest.raises(Unauthenticated):
                await credentials.authenticate(make_key()[0][:-1])
        assert count_queries() - before == 1
        unknown = make_key()[0]
        for _ in range(100):
            with pytest.raises(Unauthenticated):
                await credentials.authenticate(unknown)
        assert count_queries() - before == 2


async def test_row_14_an_expired_key_is_refused_from_memory_too(engine: Engine, user: User) -> None:
    key, _ = make(engine, user, expires_in_s=1)
    async with started(engine) as credentials:
        assert await credentials.authenticate(key)
        assert await wait_in_loop_for(lambda: credentials.known(key) is None)
        with pytest.raises(Unauthenticated):
            await credentials.authenticate(key)


async def test_row_14_a_key_of_a_disabled_user_is_refused(engine: Engine, user: User) -> None:
    key, _ = make(engine, user)
    async with started(engine) as credentials:
        assert await credentials.authenticate(key)
        with writing(engine) as connection:
            connection.execute(users.update().values(is_active=False))
            raise_epoch(connection)
        assert await wait_in_loop_for(lambda: credentials.known(key) is None)
        with pytest.raises(Unauthenticated):
            await credentials.authenticate(key)


async def test_row_14_a_user_revokes_no_key_of_anothers_and_an_administrator_does(
    engine: Engine, user: User
) -> None:
    from mlserve_jupyter.errors import NotFound

    ann = ensure_user(engine, "ann")
    key, made = make(engine, ann)
    bob = ensure_user(engine, "bob")
    with pytest.raises(NotFound):
        revoke_key(engine, bob, made.id, ORIGIN)
    assert list_keys(engine, bob).items == ()
    async with started(engine) as credentials:
        assert await credentials.authenticate(key)
        revoke_key(engine, user, made.id, ORIGIN)
        await credentials.changed()
        with pytest.raises(Unauthenticated):
            await credentials.authenticate(key)


async def test_row_10_a_revocation_elsewhere_is_known_within_five_seconds(
    engine: Engine, user: User
) -> None:
    key, made = make(engine, user)
    async with started(engine) as credentials:
        assert await credentials.authenticate(key)
        revoke_key(engine, user, made.id, ORIGIN)
        revoked_at_s = time.monotonic()
        assert await wait_in_loop_for(lambda: credentials.known(key) is None)
        assert time.monotonic() - revoked_at_s < 5
        with pytest.raises(Unauthenticated):
            await credentials.authenticate(key)


async def test_a_look_up_that_a_revocation_overtakes_is_not_kept(
    engine: Engine, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, made = make(engine, user)
    find = CredentialStore.find

    def find_slowly(store: CredentialStore, secret: str) -> object:
        finding = find(store, secret)
        if finding.principal is not None:
            revoke_key(engine, user, made.id, ORIGIN)
            learning.wait_until_learned()
        return finding

    class Learning:
        credentials: Credentials

        def wait_until_learned(self) -> None:
            asyncio.run_coroutine_threadsafe(self.credentials.check(), loop).result(20)

    learning = Learning()
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(CredentialStore, "find", find_slowly)
    async with started(engine) as credentials:
        await credentials.check()
        learning.credentials = credentials
        with pytest.raises(Unauthenticated):
            await credentials.authenticate(key)
        assert credentials.known(key) is None


async def test_while_the_database_is_away_known_keys_predict_for_a_while_and_nothing_else_goes(
    file_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CURRENT_S", 0.5)
    monkeypatch.setattr(module, "OUTAGE_S", 3.0)
    engine = file_engine
    user = ensure_user(engine, "owner", "admin")
    known, _ = make(engine, user, "known")
    fresh, _ = make(engine, user, "fresh")
    own, record = make_key()
    database = tmp_path / "data" / "mlserve.db"
    async with started(engine) as credentials:
        credentials.accept(record, Principal("owner", "kernel"))
        assert await credentials.authenticate(known)
        database.rename(database.with_suffix(".away"))
        for key in (known, fresh):
            await asyncio.sleep(0.6)
            with pytest.raises(StorageUnavailable):
                await credentials.authenticate(key)
        assert credentials.known(known) is not None
        assert credentials.known(fresh) is None
        assert await wait_in_loop_for(lambda: credentials.known(known) is None)
        assert credentials.known(own) == await credentials.authenticate(own)
        database.with_suffix(".away").rename(database)
        assert await credentials.authenticate(fresh)
        assert credentials.known(known) is not None


async def test_a_database_that_another_holds_locked_is_read_all_the_same(
    file_engine: Engine, tmp_path: Path
) -> None:
    engine = file_engine
    user = ensure_user(engine, "owner", "admin")
    key, _ = make(engine, user)
    other = sqlite3.connect(tmp_path / "data" / "mlserve.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    async with started(engine) as credentials:
        assert await credentials.authenticate(key)
    other.execute("ROLLBACK")
    other.close()


async def test_the_last_use_of_a_key_is_written_and_not_at_each_use(
    engine: Engine, user: User
) -> None:
    key, made = make(engine, user)

    def last_use() -> datetime | None:
        with reading(engine) as connection:
            at: datetime | None = connection.execute(
                sa.select(api_keys.c.last_used_at).where(api_keys.c.id == made.id)
            ).scalar_one()
        return at

    async with started(engine) as credentials:
        await credentials.authenticate(key)
        assert await wait_in_loop_for(last_use)
        first = last_use()
        assert first is not None
        await asyncio.sleep(1.5)
        credentials.known(key)
        await asyncio.sleep(1.5)
        assert last_use() == first
    assert (datetime.now(timezone.utc) - first).total_seconds() < 60


def test_uses_are_written_once_a_minute_and_kept_where_they_cannot_be() -> None:
    uses = KeyUses()
    uses.note("a", 1.0)
    assert uses.take(1.0) == {"a": KeyUse(1.0, Counter({0: 1}))}
    uses.note("a", 2.0)
    assert uses.take(3.0) == {}
    assert uses.take(1.0 + WRITE_INTERVAL_S) == {"a": KeyUse(2.0, Counter({0: 1}))}
    uses.note("a", 70.0)
    last = uses.take(71.0, all_of_them=True)
    assert last == {"a": KeyUse(70.0, Counter({0: 1}))}
    uses.note("a", 3601.0)
    uses.give_back(last)
    assert uses.take(3602.0) == {"a": KeyUse(3601.0, Counter({0: 1, 1: 1}))}


def test_every_use_of_a_key_is_counted_in_its_hour(engine: Engine, user: User) -> None:
    _, made = make(engine, user, "counted")
    store = CredentialStore(engine)
    for n in (3, 4):
        uses = KeyUses()
        for _ in range(n):
            uses.note(made.id, 7200.0)
        uses.note(made.id, 10_800.0)
        store.note_uses(uses.take(10_800.0))
    with reading(engine) as connection:
        rows = connection.execute(sa.select(key_uses).order_by(key_uses.c.at)).all()
    assert [(row.at.timestamp(), row.n_requests) for row in rows] == [(7200, 7), (10_800, 2)]


def test_row_16_a_key_is_in_no_table_and_its_making_and_end_are_in_the_audit_log(
    engine: Engine, user: User, tmp_path: Path
) -> None:
    key, made = make(engine, user, "nightly", scopes=("predict",), expires_in_s=60)
    revoke_key(engine, user, made.id, replace(ORIGIN, request_id="another"))
    secret = key.split("_")[2]
    engine.dispose()
    for path in (tmp_path / "data").iterdir():
        assert secret.encode() not in path.read_bytes()
    with reading(engine) as connection:
        events = connection.execute(sa.select(audit_log).order_by(audit_log.c.at)).all()
    assert [event.action for event in events] == ["key.create", "key.revoke"]
    assert [event.target for event in events] == [f"key {made.prefix}"] * 2
    assert '"predict"' in events[0].details


def test_keys_are_listed_by_pages_newest_first(engine: Engine, user: User) -> None:
    names = [f"key-{number}" for number in range(5)]
    for name in names:
        make(engine, user, name)
    first = list_keys(engine, user, limit=3)
    rest = list_keys(engine, user, limit=3, cursor=first.next_cursor)
    assert [key.name for key in (*first.items, *rest.items)] == names[::-1]
    assert rest.next_cursor is None
