"""Real servers for the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import LiveServer, start_server
from tests.storage.postgres_process import PostgresProcess
from tests.stores import KINDS, EmbeddedStores, Stores


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stores",
        choices=KINDS,
        default=KINDS[0],
        help="what the platforms under test keep their data in; see tests/stores.py",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--stores servers``, leave out the tests that stand on no store."""
    if config.getoption("stores") == "embedded":
        return
    chosen = [item for item in items if "stores" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen


@pytest.fixture(scope="session")
def stores(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stores]:
    """What the platforms under test keep their data in."""
    if request.config.getoption("stores") == "embedded":
        yield EmbeddedStores()
        return
    from tests.server_stores import server_stores  # which imports the clients of all of them

    with server_stores(tmp_path_factory.mktemp("stores")) as stores:
        yield stores


@pytest.fixture(autouse=True)
def _dropped_stores(request: pytest.FixtureRequest) -> Iterator[None]:
    """Drop what a test's own platforms have kept on servers, since it takes space."""
    own = {"stores", "tmp_path"} <= set(request.fixturenames)
    folder: Path | None = request.getfixturevalue("tmp_path") if own else None
    yield
    if folder is not None:
        request.getfixturevalue("stores").drop_below(folder)


@pytest.fixture(scope="session")
def live_server(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A Jupyter server with the extension, shared by all tests that leave it as it is."""
    with start_server(tmp_path_factory.mktemp("live"), stores=stores) as server:
        yield server


@pytest.fixture
def own_server(stores: Stores, tmp_path: Path) -> Iterator[LiveServer]:
    """A Jupyter server with the extension, for one test alone."""
    with start_server(tmp_path, stores=stores) as server:
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
