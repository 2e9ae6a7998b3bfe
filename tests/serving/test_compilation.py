"""What becomes of a version whose graph cannot be made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlserve_jupyter.errors import EnvironmentUnusable
from mlserve_jupyter.serving.predict import model_ref
from mlserve_jupyter.serving.runtimes.compilation import Compiler
from mlserve_jupyter.settings import Settings
from tests import toys
from tests.registry.deploys import manifest_of
from tests.serving.test_keep_warm import opened, publish


class NoWorkers:
    """Stands for a pool that cannot start a worker: no other failure comes at a sure moment."""

    def environment(self, interpreter: str) -> Any:
        raise EnvironmentUnusable(f"{interpreter} cannot be started.")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_why_a_version_was_not_compiled_is_in_its_record(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", workers_per_environment=1)
    async with opened(settings) as services:
        version = await publish(services, "clf", toys.SumModel(), tmp_path)
        assert version.verification.compiled is None
        with ThreadPoolExecutor(1) as publishers:
            workers: Any = NoWorkers()
            compiler = Compiler(services.registry, services.catalog, workers, settings, publishers)
            manifest = msgspec.structs.replace(manifest_of("clf", b""), methods=["predict"])
            await compiler.when_published(manifest, version, model_ref(version))
        found = services.catalog.current.by_id(version.model_id).version(1)
        assert found.runtime == "native"
        assert found.verification.compiled is not None
        assert "cannot be started" in found.verification.compiled.native["predict"]
