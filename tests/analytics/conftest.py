from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from mlserve_jupyter.settings import Settings
from tests.registry.deploys import Deploys
from tests.storage.databases import opened
from tests.stores import Stores


@pytest.fixture
def settings(stores: Stores, tmp_path: Path) -> Settings:
    return stores.settings(tmp_path, log_flush_s=0.01)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    with opened(settings) as engine:
        yield engine


@pytest.fixture
def deploy(engine: Engine, settings: Settings) -> Deploys:
    return Deploys(engine, settings.artifacts_dir)
