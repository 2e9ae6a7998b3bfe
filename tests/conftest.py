"""Real servers for the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import LiveServer, start_server
from tests.storage.postgres_process import PostgresProcess


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A Jupyter server with the extension, shared by all tests that leave it as it is."""
    with start_server(tmp_path_factory.mktemp("live")) as server:
        yield server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[LiveServer]:
    """A Jupyter server with the extension, for one test alone."""
    with start_server(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresProcess]:
    """A real PostgreSQL."""
    process = PostgresProcess()
    yield process
    process.close()


@pytest.fixture
def postgres_url(postgres: PostgresProcess) -> str:
    """A new database of it."""
    return postgres.new_database()
