"""Reports from a replica, which is played by a second database behind a network that breaks."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine, make_url

from mlserve_jupyter.errors import StorageUnavailable
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage import replica as module
from mlserve_jupyter.storage.replica import ReportReads
from tests.storage.databases import opened, settings_in
from tests.storage.postgres_process import PostgresProcess
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.slow


@pytest.fixture
def proxy(postgres: PostgresProcess) -> Iterator[TcpProxy]:
    with TcpProxy(postgres.socket_path) as proxy:
        yield proxy


@pytest.fixture
def settings(
    postgres: PostgresProcess, proxy: TcpProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    monkeypatch.setattr(module, "ASK_AGAIN_S", 0.2)
    primary, copy = postgres.new_database(), postgres.new_database()
    with opened(settings_in(tmp_path, database_url=copy)):
        pass
    url = make_url(copy).set(host="127.0.0.1", port=proxy.port, query={})
    return settings_in(
        tmp_path,
        database_url=primary,
        database_replica_url=url.render_as_string(hide_password=False),
        database_connect_timeout_s=2,
    )


@pytest.fixture
def primary(settings: Settings) -> Iterator[Engine]:
    with opened(settings) as engine:
        yield engine


@pytest.fixture
def reports(primary: Engine, settings: Settings) -> Iterator[ReportReads]:
    reports = ReportReads(primary, settings)
    yield reports
    reports.close()


def answering(reports: ReportReads) -> str:
    """Return which database answers."""
    with reports.reading() as connection:
        return str(connection.scalar(sa.text("SELECT current_database()")))


def replica_of(settings: Settings) -> str | None:
    return make_url(settings.database_replica_url).database


def until_it_is_back(reports: ReportReads, settings: Settings) -> bool:
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        if answering(reports) == replica_of(settings):
            return True
        time.sleep(0.05)
    return False


def test_reports_come_from_the_replica_and_from_the_primary_without_one(
    primary: Engine, reports: ReportReads, settings: Settings, tmp_path: Path
) -> None:
    assert answering(reports) == replica_of(settings)
    alone = ReportReads(primary, settings_in(tmp_path))
    assert answering(alone) == primary.url.database
    alone.close()


@pytest.mark.parametrize("how", ["refuse", "black_hole", "cut"])
def test_while_the_replica_is_away_the_primary_answers_and_its_return_is_noticed(
    how: str,
    primary: Engine,
    reports: ReportReads,
    settings: Settings,
    proxy: TcpProxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert answering(reports) == replica_of(settings)
    getattr(proxy, how)()
    if how != "cut":
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                assert answering(reports) == primary.url.database
                time.sleep(0.25)
        told = [each for each in caplog.messages if "from the primary for now" in each]
        assert len(told) == 1
    proxy.heal()
    assert until_it_is_back(reports, settings)


def test_a_replica_that_goes_away_within_a_report_costs_that_one_caller_an_error(
    primary: Engine, reports: ReportReads, settings: Settings, proxy: TcpProxy
) -> None:
    def report() -> None:
        with reports.reading() as connection:
            proxy.cut()
            connection.execute(sa.text("SELECT 1"))

    with pytest.raises(StorageUnavailable):
        report()
    assert answering(reports) == primary.url.database
    assert until_it_is_back(reports, settings)


def test_a_replica_that_has_not_our_tables_yet_is_not_asked(
    postgres: PostgresProcess, primary: Engine, settings: Settings, tmp_path: Path
) -> None:
    empty = settings_in(tmp_path, database_replica_url=postgres.new_database())
    reports = ReportReads(primary, empty)
    assert answering(reports) == primary.url.database
    reports.close()


def test_an_error_of_the_query_itself_is_the_callers(
    reports: ReportReads, settings: Settings
) -> None:
    with pytest.raises(sa.exc.ProgrammingError), reports.reading() as connection:
        connection.execute(sa.text("SELECT nothing"))
    assert answering(reports) == replica_of(settings)


def test_without_either_the_caller_is_told(
    primary: Engine, reports: ReportReads, postgres: PostgresProcess, proxy: TcpProxy
) -> None:
    proxy.refuse()
    primary.dispose()
    name = str(primary.url.database)
    postgres.drop_database(primary.url.render_as_string(hide_password=False))
    with pytest.raises(StorageUnavailable, match=name):
        answering(reports)
