from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from tests.registry.deploys import Deploys
from tests.storage.databases import opened, settings_in


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with opened(settings_in(tmp_path)) as engine:
        yield engine


@pytest.fixture
def deploy(engine: Engine, tmp_path: Path) -> Deploys:
    return Deploys(engine, settings_in(tmp_path).artifacts_dir)
