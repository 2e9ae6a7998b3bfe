"""A real PostgreSQL behind a network that breaks: no call waits for ever, and all goes on after."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from math import inf
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, make_url

from mlserve_jupyter.errors import SettingsInvalid, StorageUnavailable
from mlserve_jupyter.storage import postgres as module
from mlserve_jupyter.storage.engine import open_engine, reading, writing
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.postgres import copy_in
from tests.storage.databases import settings_in
from tests.storage.postgres_process import PostgresProcess
from tests.tcp_proxy import TcpProxy
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

ONE = sa.text("SELECT 1")


@pytest.fixture
def proxy(postgres: PostgresProcess) -> Iterator[TcpProxy]:
    with TcpProxy(postgres.socket_path) as proxy:
        yield proxy


@pytest.fixture
def open_(proxy: TcpProxy, postgres_url: str, tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Open the database through the proxy, with other settings."""
    url = make_url(postgres_url).set(host="127.0.0.1", port=proxy.port, query={})
    with ExitStack() as stack:

        def open_(**settings: object) -> Engine:
            text = url.render_as_string(hide_password=False)
            engine = open_engine(settings_in(tmp_path, **{"database_url": text, **settings}))
            stack.callback(engine.dispose)
            return engine

        yield open_
        proxy.heal()


def answers(engine: Engine) -> bool:
    try:
        with reading(engine) as connection:
            return bool(connection.scalar(ONE))
    except StorageUnavailable:
        return False


def pid_of(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.scalar(sa.text("SELECT pg_backend_pid()")) or 0)


def test_a_process_has_twenty_connections_and_ten_more_and_the_next_caller_is_told_to_wait(
    open_: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POOL_TIMEOUT_S", 0.1)
    engine = open_()
    with ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(reading(engine)).execute(ONE)
        with pytest.raises(StorageUnavailable, match="in use"), reading(engine):
            pass
    with reading(engine) as connection:
        assert connection.scalar(ONE) == 1


def test_a_connection_is_made_anew_when_it_is_old(open_: Callable[..., Engine]) -> None:
    engine = open_(database_pool_recycle_s=0.5)
    first = pid_of(engine)
    time.sleep(0.6)
    assert pid_of(engine) != first


def test_a_session_has_its_limits_and_the_operating_system_watches_its_connection(
    open_: Callable[..., Engine],
) -> None:
    with reading(open_()) as connection:
        shown = {
            name: connection.scalar(sa.text(f"SHOW {name}"))
            for name in (
                "statement_timeout",
                "lock_timeout",
                "idle_in_transaction_session_timeout",
                "timezone",
                "application_name",
            )
        }
        assert shown == {
            "statement_timeout": "30s",
            "lock_timeout": "10s",
            "idle_in_transaction_session_timeout": "1min",
            "timezone": "UTC",
            "application_name": "mlserve",
        }
        raw = connection.connection.dbapi_connection
        assert raw is not None
        with socket.socket(fileno=socket.dup(raw.fileno())) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 5000
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 2
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3


def test_what_the_url_says_wins(open_: Callable[..., Engine], proxy: TcpProxy) -> None:
    engine = open_()
    url = engine.url.update_query_dict(
        {"application_name": "ours", "options": "-c statement_timeout=1234"}
    )
    other = open_(database_url=url.render_as_string(hide_password=False))
    with reading(other) as connection:
        assert connection.scalar(sa.text("SHOW application_name")) == "ours"
        assert connection.scalar(sa.text("SHOW statement_timeout")) == "1234ms"
        assert connection.scalar(sa.text("SHOW lock_timeout")) == "10s"


def test_a_statement_that_takes_too_long_is_ended_and_its_connection_goes_on(
    open_: Callable[..., Engine],
) -> None:
    engine = open_(database_statement_timeout_s=0.2)
    pid = pid_of(engine)
    with pytest.raises(StorageUnavailable, match="statement timeout"), reading(engine) as slow:
        slow.execute(sa.text("SELECT pg_sleep(60)"))
    assert pid_of(engine) == pid


@pytest.mark.parametrize("timeout_s", [30.0, inf])
def test_a_transaction_may_be_given_more_time(
    open_: Callable[..., Engine], timeout_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.1)
    engine = open_(database_statement_timeout_s=0.1)
    with writing(engine, timeout_s=timeout_s) as connection:
        connection.execute(sa.text("SELECT pg_sleep(0.5)"))
    with pytest.raises(StorageUnavailable), reading(engine) as slow:
        slow.execute(sa.text("SELECT pg_sleep(60)"))


def test_a_writer_that_waits_too_long_for_another_is_told_to_try_again(
    open_: Callable[..., Engine],
) -> None:
    engine = open_(database_lock_timeout_s=0.1)
    with writing(engine) as connection:
        connection.execute(sa.text("CREATE TABLE counted (n int)"))
    lock = sa.text("LOCK TABLE counted")
    with writing(engine) as first:
        first.execute(lock)
        with pytest.raises(StorageUnavailable, match="lock timeout"), writing(engine) as second:
            second.execute(lock)


def _execute(connection: Connection, fail: Callable[[], None]) -> None:
    fail()
    connection.execute(ONE)


def _execute_many(connection: Connection, fail: Callable[[], None]) -> None:
    fail()
    connection.execute(sa.text("UPDATE kept SET id = :id"), [{"id": new_id()}] * 2)


def _copy(connection: Connection, fail: Callable[[], None]) -> None:
    fail()
    copy_in(connection, "COPY kept FROM STDIN", f"{new_id()}\n".encode() * 200_000)


def _commit(connection: Connection, fail: Callable[[], None]) -> None:
    connection.execute(sa.text("DELETE FROM kept"))
    fail()


def _rollback(connection: Connection, fail: Callable[[], None]) -> None:
    connection.execute(sa.text("DELETE FROM kept"))
    fail()
    raise ZeroDivisionError


def _stream(connection: Connection, fail: Callable[[], None]) -> None:
    streamed = connection.execution_options(stream_results=True, max_row_buffer=10)
    rows = iter(streamed.execute(sa.text("SELECT generate_series(1, 1000000)")))
    next(rows)
    fail()
    for _ in rows:
        pass


@pytest.mark.parametrize("call", [_execute, _execute_many, _copy, _commit, _rollback, _stream])
def test_no_call_waits_for_ever_for_a_server_that_says_nothing(
    open_: Callable[..., Engine],
    proxy: TcpProxy,
    call: Callable[[Connection, Callable[[], None]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.1)
    engine = open_(database_statement_timeout_s=0.5)
    with writing(engine) as connection:
        connection.execute(sa.text("CREATE TABLE kept (id uuid)"))
    begun_s = time.monotonic()
    with pytest.raises((StorageUnavailable, ZeroDivisionError)), writing(engine) as connection:
        call(connection, proxy.black_hole)
    assert time.monotonic() - begun_s < 20
    proxy.heal()
    assert wait_for(lambda: answers(engine))


def test_a_pooled_connection_behind_a_black_hole_is_found_out_and_so_is_a_new_one(
    open_: Callable[..., Engine], proxy: TcpProxy
) -> None:
    engine = open_(database_connect_timeout_s=2)
    pid = pid_of(engine)
    proxy.black_hole()
    begun_s = time.monotonic()
    assert not answers(engine)
    first_took_s = time.monotonic() - begun_s
    assert 2 <= first_took_s < 20
    # Nobody else waits for it.
    begun_s = time.monotonic()
    for _ in range(50):
        with pytest.raises(StorageUnavailable, match="no answer for"), reading(engine):
            pass
    assert time.monotonic() - begun_s < first_took_s
    proxy.heal()
    assert wait_for(lambda: answers(engine))
    assert pid_of(engine) != pid


def test_a_server_that_never_answered_is_asked_in_the_background_from_then_on(
    open_: Callable[..., Engine], proxy: TcpProxy
) -> None:
    engine = open_(database_connect_timeout_s=2)
    proxy.black_hole()
    with pytest.raises(StorageUnavailable, match="timeout expired"), reading(engine):
        pass
    with pytest.raises(StorageUnavailable, match="no answer for"), reading(engine):
        pass
    time.sleep(3)
    assert not answers(engine), "the first attempt in the background has failed meanwhile"
    proxy.heal()
    assert wait_for(lambda: answers(engine))


def test_a_call_that_was_under_way_does_not_wait_for_its_own_limit_then(
    open_: Callable[..., Engine], proxy: TcpProxy
) -> None:
    engine = open_(database_connect_timeout_s=2, database_statement_timeout_s=300)

    def ask_in_the_dark() -> None:
        with writing(engine) as connection:
            connection.execute(ONE)
            proxy.black_hole()
            assert not answers(engine)
            connection.execute(ONE)

    begun_s = time.monotonic()
    with pytest.raises(StorageUnavailable):
        ask_in_the_dark()
    assert time.monotonic() - begun_s < 60


def test_an_engine_that_is_closed_asks_no_more(
    open_: Callable[..., Engine], proxy: TcpProxy
) -> None:
    engine = open_(database_connect_timeout_s=2)
    proxy.black_hole()
    assert not answers(engine)
    assert [thread for thread in threading.enumerate() if "presence" in thread.name]
    engine.dispose()
    assert wait_for(
        lambda: not [thread for thread in threading.enumerate() if "presence" in thread.name]
    )


def test_after_a_cut_the_next_transaction_has_a_new_connection(
    open_: Callable[..., Engine], proxy: TcpProxy
) -> None:
    engine = open_()
    pid = pid_of(engine)
    proxy.cut()
    assert pid_of(engine) != pid


def test_a_server_that_refuses_connections_is_away_at_once_and_back_at_once(
    open_: Callable[..., Engine], proxy: TcpProxy
) -> None:
    engine = open_()
    proxy.refuse()
    begun_s = time.monotonic()
    with pytest.raises(StorageUnavailable) as caught, reading(engine):
        pass
    assert time.monotonic() - begun_s < 3
    says = "The database does not answer; try again. This server's log says why."
    assert caught.value.message == says, "callers learn no address"
    assert f"127.0.0.1:{proxy.port}" in str(caught.value)
    assert "refused" in str(caught.value)
    proxy.heal()
    with reading(engine) as connection:
        assert connection.scalar(ONE) == 1


def test_a_url_without_a_driver_is_taken_as_of_the_one_that_is_installed(
    postgres_url: str, tmp_path: Path
) -> None:
    url = make_url(postgres_url).set(drivername="postgresql")
    text = url.render_as_string(hide_password=False)
    engine = open_engine(settings_in(tmp_path, database_url=text))
    with reading(engine) as connection:
        assert connection.scalar(ONE) == 1
    engine.dispose()


def test_a_slow_network_is_no_failure(open_: Callable[..., Engine], proxy: TcpProxy) -> None:
    engine = open_()
    proxy.delay_s = 0.2
    with reading(engine) as connection:
        assert connection.scalar(ONE) == 1


@pytest.mark.parametrize("url", ["mysql://me:secret@host/name", "postgresql+asyncpg://host/name"])
def test_other_databases_and_drivers_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"postgresql\+psycopg2") as caught:
        open_engine(settings_in(tmp_path, database_url=url))
    assert "secret" not in str(caught.value)
