from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.standalone.hosts import StandaloneServer, start_standalone
from tests.stores import Stores


@pytest.fixture(scope="session")
def standalone(
    stores: Stores, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StandaloneServer]:
    """A standalone server as it is without any configuration, but for an access log."""
    folder = tmp_path_factory.mktemp("standalone")
    with start_standalone(folder, f"--access-log={folder / 'access.log'}", stores=stores) as server:
        yield server
