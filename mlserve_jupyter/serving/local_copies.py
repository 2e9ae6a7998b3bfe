"""Sees to it that a version's files are on this machine before anybody reads them.

Where artifacts lie on this machine anyway, nothing is ever waited for. Where they lie elsewhere,
each is downloaded once however many calls wait for it, off the event loop; and after a failure the
store is left alone for a moment, so that calls fail at once instead of piling up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mlserve_jupyter.errors import Overloaded, StorageUnavailable
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.serving.replies import WorkerError
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.blobs import GRAPH_NAME, ArtifactStore, VersionKey

if TYPE_CHECKING:
    from mlserve_jupyter.storage.shared_artifacts import SharedArtifacts

N_THREADS = 4

LEAVE_ALONE_S = 2.0
"""How long the store is not asked after it has failed."""


class LocalCopies:
    """The copies of artifacts on this machine.

    Parameters
    ----------
    store
        Where they are kept and fetched from.
    settings
        ``load_timeout_s``: how long a call waits for a download; ``max_queue_requests``: how many
        may wait.
    """

    def __init__(self, store: ArtifactStore, settings: Settings) -> None:
        self._store: SharedArtifacts | None = None
        if store.is_shared:
            from mlserve_jupyter.storage.shared_artifacts import SharedArtifacts

            assert isinstance(store, SharedArtifacts)
            self._store = store
        self._settings = settings
        self._fetching: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._threads = ThreadPoolExecutor(N_THREADS, "mlserve-artifacts")
        self._failed_at_s = -LEAVE_ALONE_S
        self._n_waiting = 0

    def apply(self, settings: Settings) -> None:
        """Go on with another deadline."""
        self._settings = settings

    async def ensure(self, version: ServedVersion) -> None:
        """Return when the artifact of a version is on this machine.

        Raises
        ------
        ArtifactCorrupt
            It is not in the store, or its bytes are others.
        StorageUnavailable, StorageFull, Overloaded
            The store does not answer, or not in time; this machine's disk is full; or too many
            calls wait already.
        """
        if self._store is not None:
            await self._ensure(version, version.path.name, version.sha256, version.size_bytes)

    async def ensure_graph(self, version: ServedVersion) -> None:
        """Return when the compiled graph of a version is on this machine; raises as above."""
        compiled = version.verification.compiled
        if self._store is not None and compiled is not None and compiled.sha256:
            await self._ensure(version, GRAPH_NAME, compiled.sha256, compiled.size_bytes)

    async def restore(self, version: ServedVersion, error: WorkerError) -> bool:
        """Bring the artifact anew, if it was the copy that a worker could not read.

        Parameters
        ----------
        error
            What the worker said.

        Returns
        -------
        bool
            Whether it makes sense to ask the worker again.

        Raises
        ------
        ArtifactCorrupt, StorageUnavailable, StorageFull
            As :meth:`ensure`.
        """
        if self._store is None:
            return False
        if error.kind == "corrupt":
            await self._run(self._store.discard_copy, _key_of(version), version.path.name)
        elif error.kind != "load" or version.path.exists():
            return False
        await self.ensure(version)
        return True

    async def aclose(self) -> None:
        """Wait for no download any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for fetching in list(self._fetching.values()):
            fetching.cancel()
        await asyncio.gather(*self._fetching.values(), return_exceptions=True)

    async def _ensure(
        self, version: ServedVersion, name: str, sha256: str, size_bytes: int
    ) -> None:
        assert self._store is not None
        key = _key_of(version)
        if self._store.has_copy(key, name, size_bytes):
            return
        fetching = self._fetching.get((version.id, name))
        if fetching is None:
            if time.monotonic() - self._failed_at_s < LEAVE_ALONE_S:
                raise StorageUnavailable(
                    "The artifact store does not answer. Try again in a moment.", retry_after_s=2
                )
            fetching = asyncio.ensure_future(self._fetch(key, name, sha256, size_bytes))
            self._fetching[version.id, name] = fetching
            fetching.add_done_callback(lambda done: self._done((version.id, name), done))
        if self._n_waiting >= self._settings.max_queue_requests:
            raise Overloaded(f"{self._n_waiting} calls wait for artifacts. Try again in a moment.")
        timeout_s = self._settings.load_timeout_s
        self._n_waiting += 1
        try:
            await asyncio.wait_for(asyncio.shield(fetching), timeout_s)
        except asyncio.TimeoutError:
            raise StorageUnavailable(
                f"{version.model} version {version.version} did not come from the artifact store "
                f"within {timeout_s:g} s. Try again in a moment, or raise load_timeout_s.",
                retry_after_s=2,
            ) from None
        finally:
            self._n_waiting -= 1

    async def _fetch(self, key: VersionKey, name: str, sha256: str, size_bytes: int) -> None:
        assert self._store is not None
        try:
            await self._run(self._store.fetch, key, name, sha256, size_bytes)
        except StorageUnavailable:
            self._failed_at_s = time.monotonic()
            raise

    async def _run(self, call: Callable[..., None], *arguments: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    def _done(self, which: tuple[str, str], fetching: asyncio.Future[None]) -> None:
        del self._fetching[which]
        if not fetching.cancelled():
            fetching.exception()  # those who wait get it; where nobody does, nobody needs it


def _key_of(version: ServedVersion) -> VersionKey:
    return VersionKey(version.owner_id, version.model, version.version, version.id)
