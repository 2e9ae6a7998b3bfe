"""Real databases and real processes for the tests of all rooms that stand on storage."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.engine import Engine

from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import open_engine
from mlserve_jupyter.storage.schema import prepare_schema

# Processes are forked from a clean one that has imported this already, so a test can afford many.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.storage.databases"])


@contextmanager
def opened(settings: Settings) -> Iterator[Engine]:
    """Give an engine on a database whose schema is prepared, and close it."""
    engine = open_engine(settings)
    try:
        prepare_schema(engine)
        yield engine
    finally:
        engine.dispose()


def settings_in(folder: Path, **others: object) -> Settings:
    return Settings(data_dir=folder / "data", **others)  # type: ignore[arg-type]
