from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.access.world import OPTIONS, World, embedded_world, standalone_world
from tests.live import start_server
from tests.standalone.hosts import start_standalone
from tests.stores import Stores


@pytest.fixture(scope="package")
def embedded(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("embedded")
    options = [f"--MLServeApp.{option}" for option in OPTIONS]
    with start_server(folder, *options, stores=stores) as server:
        world = embedded_world(server, folder)
        yield world
        world.http.close()


@pytest.fixture(scope="package")
def standalone(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("standalone")
    options = [f"--MLServeServer.{option}" for option in OPTIONS]
    with start_standalone(folder, *options, stores=stores) as server:
        world = standalone_world(server, folder)
        yield world
        world.http.close()


@pytest.fixture(params=["embedded", "standalone"])
def world(request: pytest.FixtureRequest, stores: Stores) -> World:
    """Either host."""
    found: World = request.getfixturevalue(request.param)
    return found
