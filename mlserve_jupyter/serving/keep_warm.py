"""Models that are loaded before they are called: at start, and after their worker has ended.

Those that were called lately, and before them those that their owners want in memory, called or
not (``CatalogModel.keep_warm``). In the background, one at a time, and only while the worker has
nothing else to do.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from mlserve_jupyter.accounts.audit import SERVER, AuditEvent
from mlserve_jupyter.accounts.audit_buffer import AuditBuffer
from mlserve_jupyter.errors import (
    ArtifactCorrupt,
    MLServeError,
    Overloaded,
    StorageUnavailable,
)
from mlserve_jupyter.registry.catalog import Catalog, ServedVersion
from mlserve_jupyter.serving.live_catalog import LiveCatalog
from mlserve_jupyter.serving.predict import Predictor
from mlserve_jupyter.serving.workers import Environment, WorkerPool
from mlserve_jupyter.settings import Settings

if TYPE_CHECKING:
    from mlserve_jupyter.analytics.prediction_log import PredictionLog

log = logging.getLogger(__name__)

START_AFTER_S = 1.0
"""The request that opened the platform, and those that come with it, go first."""

RECENT = timedelta(days=1)

KEEP_EVERY_S = 5.0
"""How soon a model is loaded that is to be kept and is not in memory."""

RELOAD_EVERY_S = 60.0
"""A model that ends its worker again and again is not loaded ahead each time."""

_IDLE_CHECK_S = 0.05


class KeepWarm:
    """Loads ahead what was called lately, and what is to be kept.

    Parameters
    ----------
    catalog, workers, predictor, log, settings
        What there is, where it runs, who loads it, who called it, and how much may be loaded.
    audit
        Is told of artifacts whose bytes have changed.
    """

    def __init__(
        self,
        catalog: LiveCatalog,
        workers: WorkerPool,
        predictor: Predictor,
        log: PredictionLog,
        settings: Settings,
        audit: AuditBuffer,
    ) -> None:
        self._audit = audit
        self._catalog = catalog
        self._workers = workers
        self._predictor = predictor
        self._log = log
        self._settings = settings
        self._wanted: list[str] = []
        self._reloaded_at_s: dict[str, float] = {}
        self._failed: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loading: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to load what is kept, then what was called within a day, then what workers lose."""
        if self._settings.keep_warm_models:
            self._workers.on_lost = self._reload
            self._workers.keeps = self._is_kept_by
            self._spawn(self._load_ahead())

    async def aclose(self) -> None:
        """Stop."""
        self._workers.on_lost = self._workers.keeps = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _load_ahead(self) -> None:
        await asyncio.sleep(START_AFTER_S)
        while self._workers.busy:
            await asyncio.sleep(_IDLE_CHECK_S)
        recent = await self._recently_called()
        self._want([version.id for version in self._that_fit([*self._kept(), *recent])])
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            if self._loading is None or self._loading.done():
                missing = [version for version in self._kept() if not self._has_loaded(version)]
                self._want_again([each.id for each in missing if each.id not in self._failed])

    async def _recently_called(self) -> list[ServedVersion]:
        since = datetime.now(timezone.utc) - RECENT
        n_models = self._settings.keep_warm_models
        try:
            recent = await asyncio.to_thread(self._log.recently_called, since, n_models)
        except MLServeError as error:
            log.warning("It is not known which models were called lately: %s", error)
            return []
        versions = _active(self._catalog.current)
        return [versions[version_id] for version_id in recent if version_id in versions]

    def _kept(self) -> list[ServedVersion]:
        """Return what is to stay in memory, whether it is called or not."""
        return self._that_fit(self._catalog.current.kept_warm())

    def _is_kept_by(self, environment: Environment) -> bool:
        """Whether an environment has a model that is to stay in memory, or is about to have it."""
        return any(
            version.runtime != "onnx"
            and version.id not in self._failed
            and self._workers.environment(version.interpreter) is environment
            for version in self._kept()
        )

    def _that_fit(self, versions: Iterable[ServedVersion]) -> list[ServedVersion]:
        """Leave out what would not fit into memory with those before it."""
        fitting: dict[str, ServedVersion] = {}
        n_bytes = 0
        for version in versions:
            needed = max(version.verification.loaded_bytes, version.size_bytes)
            fits = n_bytes + needed <= self._settings.max_loaded_bytes
            if fits and version.id not in fitting:
                n_bytes += needed
                fitting[version.id] = version
        return list(fitting.values())[: self._settings.max_loaded_models or None]

    def _reload(self, keys: list[str]) -> None:
        """Load again what a worker had loaded: what is to stay, then in the order of last use."""
        kept = {version.id for version in self._kept()}
        used = list(reversed(keys[-self._settings.keep_warm_models :]))
        self._want_again([*(key for key in reversed(keys) if key in kept), *used])

    def _want_again(self, keys: list[str]) -> None:
        """Have models loaded that were loaded before, unless that was just now."""
        now_s = time.monotonic()
        wanted = []
        for key in keys:
            if now_s - self._reloaded_at_s.get(key, -RELOAD_EVERY_S) >= RELOAD_EVERY_S:
                self._reloaded_at_s[key] = now_s
                wanted.append(key)
        self._want(wanted)

    def _want(self, keys: list[str]) -> None:
        self._wanted.extend(key for key in keys if key not in self._wanted)
        if self._loading is None or self._loading.done():
            self._loading = self._spawn(self._load_wanted())

    async def _load_wanted(self) -> None:
        while self._wanted:
            active = _active(self._catalog.current)
            wanted = [active[key] for key in self._wanted if key in active]
            wanted = [version for version in wanted if not self._has_loaded(version)]
            version = next((v for v in wanted if not self._would_wait(v)), None)
            self._wanted = [v.id for v in wanted if v is not version]
            if version is not None:
                await self._load(version)
            else:
                await asyncio.sleep(_IDLE_CHECK_S)

    def _has_loaded(self, version: ServedVersion) -> bool:
        return self._workers.environment(version.interpreter).has_loaded(version.id)

    def _would_wait(self, version: ServedVersion) -> bool:
        return self._workers.environment(version.interpreter).would_wait(version.id)

    async def _load(self, version: ServedVersion) -> None:
        """Load a model; one that fails is left to its next caller, unless that may pass."""
        warning = "Version %s cannot be loaded ahead of its calls: %s"
        try:
            error = await self._predictor.load(version)
            reason = None if error is None else error.message
            if error is not None and error.kind == "corrupt":
                self._audit.note(_corrupt_event(version))
        except (Overloaded, StorageUnavailable) as raised:
            log.warning(warning, version.id, raised.message)
            return
        except MLServeError as raised:
            reason = raised.message
            if isinstance(raised, ArtifactCorrupt):
                self._audit.note(_corrupt_event(version))
        if reason is not None:
            self._failed.add(version.id)
            log.warning(warning, version.id, reason)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _corrupt_event(version: ServedVersion) -> AuditEvent:
    target = f"version {version.owner}~{version.model} {version.version}"
    return AuditEvent(SERVER, "artifact.corrupt", target, ArtifactCorrupt.code)


def _active(catalog: Catalog) -> dict[str, ServedVersion]:
    """Return by id the versions that answer."""
    return {version.id: version for version in catalog.versions() if version.status != "archived"}
