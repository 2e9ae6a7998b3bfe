from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from tests.registry.deploys import Deploys
from tests.storage.databases import opened
from tests.stores import Stores


@pytest.fixture
def engine(stores: Stores, tmp_path: Path) -> Iterator[Engine]:
    with opened(stores.settings(tmp_path)) as engine:
        yield engine


@pytest.fixture
def deploy(engine: Engine, stores: Stores, tmp_path: Path) -> Deploys:
    return Deploys(engine, stores.settings(tmp_path).artifacts_dir)
