"""Artifacts that lie where several hosts find them, and the copies that this machine has.

::

    <artifacts_url>/models/
      <user id>/<model name>/v<N>/<version id>/    model.<ext>, model.onnx, metadata.json
      .orphans/<user id>/…                         had no row; kept for a month
    <data_dir>/artifact-copies/
      <version id>/                                the same files, the least recently used out
      .staging/…                                   uploads under way
      .fetching/<version id>.lock                  held by the process that downloads

A version's id is in its key, so that no two deploys ever write the same file: what was sent is
never changed, no lock is needed while the store is waited for, and a copy is never stale. A version
is published by its row; what has none is never served.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

from mlserve_jupyter.errors import StorageFull, StorageUnavailable
from mlserve_jupyter.settings import check_name
from mlserve_jupyter.storage.blobs import (
    GRAPH_NAME,
    METADATA_NAME,
    ArtifactStore,
    VersionKey,
)
from mlserve_jupyter.storage.folders import (
    disk_errors,
    make_private_folder,
    open_and_own,
    sync_folder,
)
from mlserve_jupyter.storage.object_store import ObjectStore
from mlserve_jupyter.storage.orphans import KEPT_DAYS
from mlserve_jupyter.storage.staging import StagedArtifact, sweep_staged, write_private_file

log = logging.getLogger(__name__)

IN_USE_S = 900.0
"""A copy that was asked for so lately may be about to be read, and stays."""

UPLOAD_MAX = timedelta(days=1)
"""What was sent later than this ago may be of a deploy that is under way."""

_MODELS = "models"
_ORPHANS = f"{_MODELS}/.orphans"
_STAGING = ".staging"
_FETCHING = ".fetching"
_DEPTH = 5  # of the folder of a version
_WAIT_S = 0.05


class SharedArtifacts(ArtifactStore):
    """A store of artifacts that several hosts share.

    Parameters
    ----------
    root
        Folder of this machine's copies; the processes on this machine share it.
    objects
        Where the artifacts lie.
    max_bytes
        What the copies may take; those that are in use may take more.
    former
        Where artifacts lay on this machine before they were shared; they are sent when they are
        asked for.
    """

    is_shared = True

    def __init__(
        self, root: Path, objects: ObjectStore, max_bytes: int, former: ArtifactStore
    ) -> None:
        super().__init__(root)
        self._former = former
        self._objects = objects
        self._max_bytes = max_bytes

    def folder(self, key: VersionKey) -> Path:
        """Return where this machine's copy of a version lies, or would lie."""
        return self.root / str(UUID(key.id))

    def send(self, staged: StagedArtifact, key: VersionKey, metadata: bytes) -> None:
        """Bring a staged artifact to the store, see :meth:`ArtifactStore.send`."""
        staged.finish()
        # The smallest first: that the store is away is known soon, however large the rest is.
        self._objects.put_bytes(_key(key, METADATA_NAME), metadata)
        graph = staged.folder / GRAPH_NAME
        if graph.exists():
            self._objects.put(_key(key, GRAPH_NAME), graph)
        self._objects.put(_key(key, staged.path.name), staged.path)

    def send_files(self, key: VersionKey, contents: dict[str, bytes]) -> None:
        """Bring files of a version to the store, see :meth:`ArtifactStore.send_files`."""
        for name, content in contents.items():
            self._objects.put_bytes(_key(key, name), content)

    def take_back(self, keys: Collection[VersionKey]) -> None:
        """Remove what was sent, see :meth:`ArtifactStore.take_back`."""
        folders = {_key(key) for key in keys}
        for model in {folder.rsplit("/", 2)[0] for folder in folders}:
            try:
                for stored in self._objects.list(model):
                    if stored.key.rpartition("/")[0] in folders:
                        self._objects.delete(stored.key)
            except (StorageUnavailable, StorageFull) as error:
                log.warning("%s is left to a sweep of the artifact store: %s", model, error)

    def publish(self, staged: StagedArtifact, key: VersionKey, metadata: bytes) -> Path:
        """Make what was sent this machine's copy, see :meth:`ArtifactStore.publish`."""
        folder = self.folder(key)
        with staged.owning:
            staged.check_owned()
            try:
                with disk_errors(folder):
                    write_private_file(staged.folder / METADATA_NAME, metadata)
                    sync_folder(staged.folder)
                    os.rename(staged.folder, folder)
                    sync_folder(self.root)
            except BaseException:
                staged.discard()
                raise
            staged.release()
        return folder / staged.path.name

    def replace_files(self, key: VersionKey, contents: dict[str, bytes]) -> None:
        """Write files of a copy, if there is one, see :meth:`ArtifactStore.replace_files`."""
        with contextlib.suppress(StorageUnavailable):
            super().replace_files(key, contents)

    def remove(self, key: VersionKey) -> None:
        """Remove this machine's copy."""
        with disk_errors(self.root):
            if self.folder(key).exists():
                make_private_folder(self.root / _STAGING)
                self._throw_away(self.folder(key))

    def has_copy(self, key: VersionKey, name: str, size_bytes: int) -> bool:
        """Return whether a file is on this machine, and note that it is about to be read."""
        folder = self.folder(key)
        try:
            is_whole = (folder / name).stat().st_size == size_bytes
        except OSError:
            is_whole = False
        if not is_whole:
            return False
        with contextlib.suppress(OSError):  # it may be gone by now, and is then fetched again
            os.utime(folder)
        return True

    def fetch(self, key: VersionKey, name: str, sha256: str, size_bytes: int) -> None:
        """Bring a file of a version to this machine, once for all processes that ask for it.

        Raises
        ------
        ArtifactCorrupt
            It is not in the store, or its bytes are others.
        StorageUnavailable, StorageFull
            The store does not answer, or this machine's disk is full.
        """
        with self._fetching(key):
            if self.has_copy(key, name, size_bytes):
                return
            self._make_room(size_bytes)
            folder = self.folder(key)
            make_private_folder(folder)
            for draft in folder.glob(".*.part"):  # of a process that was killed
                draft.unlink(missing_ok=True)
            self._send_former(key, name)
            self._objects.get(_key(key, name), folder / name, sha256)
            with disk_errors(folder):
                os.utime(folder)

    def discard_copy(self, key: VersionKey, name: str) -> None:
        """Remove a file of this machine's copy, whose bytes have changed."""
        with disk_errors(self.root):
            (self.folder(key) / name).unlink(missing_ok=True)

    def sweep(self, known: Collection[VersionKey], user_ids: Collection[str]) -> list[Path]:
        """Clear away the uploads of processes that are gone, and copies of what has no row."""
        if not self.root.is_dir():
            return []
        make_private_folder(self.root / _STAGING)
        ids = {key.id for key in known}
        with disk_errors(self.root):
            removed = sweep_staged(self.root / _STAGING)
            for copy in self._copies():
                if copy.name not in ids and _age_s(copy) > IN_USE_S:
                    self._throw_away(copy)
                    removed.append(copy)
        return removed

    def sweep_sent(
        self,
        known: Collection[VersionKey],
        user_ids: Collection[str],
        may_go_on: Callable[[], bool],
    ) -> list[str]:
        """Set aside what was sent and has no row, for a month; return the keys.

        What belongs to users whom this database does not know is another database's.
        """
        wanted = {_key(key) for key in known}
        now = datetime.now(timezone.utc)
        folders: dict[str, list[datetime]] = {}
        files: dict[str, list[str]] = {}
        for stored in self._objects.list(_MODELS):
            if stored.key.startswith(f"{_ORPHANS}/"):
                if may_go_on() and now - stored.modified_at > timedelta(days=KEPT_DAYS):
                    self._objects.delete(stored.key)
                continue
            folder = stored.key.rpartition("/")[0]
            folders.setdefault(folder, []).append(stored.modified_at)
            files.setdefault(folder, []).append(stored.key)
        moved = []
        for folder, modified in folders.items():
            parts = folder.split("/")
            if folder in wanted or len(parts) != _DEPTH or parts[1] not in user_ids:
                continue
            if now - max(modified) < UPLOAD_MAX or not may_go_on():
                continue
            for key in files[folder]:
                self._objects.move(key, _ORPHANS + key.removeprefix(_MODELS))
                moved.append(key)
            log.warning(
                "%s is not in the database; it was moved to %s and is kept for %d days.",
                folder,
                _ORPHANS,
                KEPT_DAYS,
            )
        return moved

    def close(self) -> None:
        """Let go of connections."""
        self._objects.close()

    @contextmanager
    def _fetching(self, key: VersionKey) -> Iterator[None]:
        """Wait until no other process of this machine fetches this version, and keep them off."""
        folder = self.root / _FETCHING
        make_private_folder(self.root)
        make_private_folder(folder)
        lock = folder / f"{UUID(key.id)}.lock"
        while True:
            with disk_errors(lock):
                lock_fd = open_and_own(lock, os.O_CREAT | os.O_RDWR)
            if lock_fd is not None:
                break
            time.sleep(_WAIT_S)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            os.close(lock_fd)

    def _send_former(self, key: VersionKey, name: str) -> None:
        """Send a file that was published before artifacts were shared."""
        folder = self._former.folder(key)
        if (folder / name).exists():
            for each in (name, METADATA_NAME):
                self._objects.put(_key(key, each), folder / each)

    def _make_room(self, size_bytes: int) -> None:
        """Remove the copies that were not asked for the longest, until another one fits."""
        copies = sorted((_age_s(copy), _size(copy), copy) for copy in self._copies())
        total = size_bytes + sum(size for _, size, _ in copies)
        make_private_folder(self.root / _STAGING)
        while copies and total > self._max_bytes:
            age_s, size, copy = copies.pop()
            if age_s < IN_USE_S:
                return
            with contextlib.suppress(FileNotFoundError), disk_errors(copy):
                self._throw_away(copy)
            total -= size

    def _copies(self) -> list[Path]:
        return [path for path in self.root.iterdir() if not path.name.startswith(".")]


def _key(key: VersionKey, name: str = "") -> str:
    """Return under what a version's files lie in the store."""
    folder = (
        f"{_MODELS}/{UUID(key.user_id)}/{check_name(key.model_name)}/v{key.version:d}/"
        f"{UUID(key.id)}"
    )
    return f"{folder}/{name}" if name else folder


def _age_s(folder: Path) -> float:
    """Return how long ago a copy was asked for; 0 where it is gone by now."""
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in folder.iterdir())
    except FileNotFoundError:
        return 0
