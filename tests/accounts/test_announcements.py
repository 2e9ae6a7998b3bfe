"""Revocations between processes through a real Redis, which may forget everything or be away."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy.engine import Engine

from mlserve_jupyter.accounts import credentials as module
from mlserve_jupyter.accounts.announcements import ACCOUNTS, Announcements
from mlserve_jupyter.accounts.api_keys import create_key, revoke_key
from mlserve_jupyter.accounts.audit import Origin
from mlserve_jupyter.accounts.credential_store import CredentialStore
from mlserve_jupyter.accounts.credentials import Credentials
from mlserve_jupyter.api.keys import CreateKey
from mlserve_jupyter.storage.users import User
from tests.cache.redis_process import RedisProcess
from tests.tcp_proxy import TcpProxy
from tests.waiting import wait_in_loop_for

ORIGIN = Origin("owner", None, "jupyter", "127.0.0.1", "a-request")

pytestmark = pytest.mark.anyio


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path)
    yield process
    process.kill()


@asynccontextmanager
async def process_with(engine: Engine, redis: RedisProcess) -> AsyncIterator[Credentials]:
    """What one server process knows."""

    async def open_database() -> None: ...

    credentials = Credentials(open_database)
    credentials.start(CredentialStore(engine), Announcements(redis.url, ACCOUNTS))
    try:
        yield credentials
    finally:
        await credentials.aclose()


def listeners(redis: RedisProcess) -> int:
    with Redis.from_url(redis.url) as client:
        return int(client.pubsub_numsub("mlserve:accounts")[0][1])


async def test_row_10_a_revocation_is_pushed_to_all_processes_even_after_redis_was_flushed(
    engine: Engine, user: User, redis: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECK_INTERVAL_S", 600.0)  # what is seen, was pushed
    monkeypatch.setattr(module, "CURRENT_S", 600.0)
    monkeypatch.setattr(module, "OUTAGE_S", 600.0)
    async with process_with(engine, redis) as here, process_with(engine, redis) as there:
        assert await wait_in_loop_for(lambda: listeners(redis) == 2)
        for name in ("before", "after"):
            key, made = create_key(engine, user, CreateKey(name=name), None, ORIGIN)
            assert await here.authenticate(key)
            assert await there.authenticate(key)
            if name == "after":
                with Redis.from_url(redis.url) as client:
                    client.flushall()
            revoke_key(engine, user, made.id, ORIGIN)
            await here.changed()
            assert here.known(key) is None
            assert await wait_in_loop_for(lambda key=key: there.known(key) is None)  # type: ignore[misc]


async def test_row_10_a_revocation_is_seen_while_redis_is_gone_and_pushed_again_once_it_is_back(
    engine: Engine, user: User, redis: RedisProcess
) -> None:
    async with process_with(engine, redis) as here, process_with(engine, redis) as there:
        assert await wait_in_loop_for(lambda: listeners(redis) == 2)
        redis.kill()
        key, made = create_key(engine, user, CreateKey(name="one"), None, ORIGIN)
        assert await there.authenticate(key)
        revoke_key(engine, user, made.id, ORIGIN)
        await here.changed()
        assert await wait_in_loop_for(lambda: there.known(key) is None)
        redis.start()
        assert await wait_in_loop_for(lambda: listeners(redis) == 2)


async def test_a_flood_of_announcements_does_not_become_a_flood_of_queries(
    engine: Engine, user: User, redis: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    epoch = CredentialStore.epoch

    def counted(store: CredentialStore) -> int:
        asked.append(time.monotonic())
        return epoch(store)

    monkeypatch.setattr(CredentialStore, "epoch", counted)
    async with process_with(engine, redis):
        assert await wait_in_loop_for(lambda: listeners(redis) == 1)
        with Redis.from_url(redis.url) as client:
            for _ in range(2000):
                client.publish("mlserve:accounts", b"")
        assert await wait_in_loop_for(lambda: len(asked) > 1)
    pauses = [later - sooner for sooner, later in zip(asked, asked[1:], strict=False)]
    assert min(pauses) >= module.LEAST_INTERVAL_S * 0.9


async def test_row_32_announcements_are_heard_again_soon_after_a_network_has_swallowed_them(
    redis: RedisProcess,
) -> None:
    with TcpProxy(("127.0.0.1", redis.port)) as network:
        listening = Announcements(f"redis://127.0.0.1:{network.port}", ACCOUNTS)
        heard: list[float] = []
        listening.listen(lambda: heard.append(time.monotonic()))
        assert await wait_in_loop_for(lambda: heard)
        network.black_hole()
        # Nothing ends the connection; only asking shows that it is none any more.
        assert await wait_in_loop_for(lambda: listening._is_away, 30)
        network.heal()
        n_before = len(heard)
        began_s = time.monotonic()
        assert await wait_in_loop_for(lambda: len(heard) > n_before), (
            "it was told that it has missed some"
        )
        assert time.monotonic() - began_s < 5
        with Redis.from_url(redis.url) as client:
            client.publish(ACCOUNTS, b"")
        assert await wait_in_loop_for(lambda: len(heard) > n_before + 1)
        await listening.aclose()
