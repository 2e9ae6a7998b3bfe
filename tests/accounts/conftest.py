from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from mlserve_jupyter.accounts.owners import ensure_user
from mlserve_jupyter.storage.users import User
from tests.accounts.platforms import RunningPlatform, running
from tests.live import start_server
from tests.standalone.hosts import start_standalone
from tests.storage.databases import opened
from tests.stores import Stores


@pytest.fixture
def engine(stores: Stores, tmp_path: Path) -> Iterator[Engine]:
    with opened(stores.settings(tmp_path)) as engine:
        yield engine


@pytest.fixture
def user(engine: Engine) -> User:
    return ensure_user(engine, "owner", "admin")


@pytest.fixture(scope="session", params=["embedded", "standalone"])
def platform(
    request: pytest.FixtureRequest, stores: Stores, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningPlatform]:
    """A server of each host, shared by all tests that leave it as it is."""
    folder = tmp_path_factory.mktemp(request.param)
    start = start_server if request.param == "embedded" else start_standalone
    with start(Path(folder), stores=stores) as host, running(host) as platform:
        yield platform
