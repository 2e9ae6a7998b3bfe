"""Artifacts on disk: written aside, hashed on the way, and published by one rename.

::

    models/
      <user id>/<model name>/v<N>/model.<ext>      published
                                  model.onnx       where it was compiled
                                  metadata.json
      .staging/<uuid>/model.<ext>                  an upload under way
               <uuid>.lock                         held by the process that uploads
      .orphans/…                                   versions without a row; see ``orphans.py``
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import NamedTuple
from uuid import UUID, uuid4

from mlserve_jupyter.errors import ArtifactRejected, StorageUnavailable
from mlserve_jupyter.settings import check_name
from mlserve_jupyter.storage.folders import (
    disk_errors,
    make_parents,
    make_private_folder,
    open_and_own,
    remove_tree,
    sync_folder,
)
from mlserve_jupyter.storage.orphans import remove_old_orphans, set_aside

EXTENSIONS = {"joblib": "joblib", "cloudpickle": "pkl", "skops": "skops"}
"""The file name extension of each format."""

GRAPH_NAME = "model.onnx"
"""The compiled graph, beside the artifact."""

_STAGING = ".staging"
_LOCK = ".lock"
METADATA_NAME = "metadata.json"


class VersionKey(NamedTuple):
    """What names the folder of a version."""

    user_id: str
    model_name: str
    version: int


class ArtifactStore:
    """The folder of all artifacts.

    Parameters
    ----------
    root
        ``Settings.artifacts_dir``; made with mode 0700 at the first use.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def stage(self, extension: str) -> StagedArtifact:
        """Begin an artifact that is not published yet.

        Parameters
        ----------
        extension
            Of the file name, without a dot; one of the values of ``EXTENSIONS``.

        Raises
        ------
        StorageFull, StorageUnavailable
            The folder cannot be made.
        """
        if extension not in EXTENSIONS.values():
            raise ArtifactRejected(
                f"{extension!r} is not the extension of an artifact: use one of "
                f"{', '.join(sorted(EXTENSIONS.values()))}.",
            )
        make_private_folder(self.root)
        make_private_folder(self.root / _STAGING)
        while True:
            folder = self.root / _STAGING / str(uuid4())
            with disk_errors(folder):
                lock_fd = open_and_own(_lock_of(folder), os.O_CREAT | os.O_EXCL | os.O_RDWR)
            # A sweep of another process may have taken the lock before this one did.
            if lock_fd is not None:
                return StagedArtifact(folder, extension, lock_fd)

    def folder(self, user_id: str, model_name: str, version: int) -> Path:
        """Return where a version lies, or would lie."""
        return self.root / str(UUID(user_id)) / check_name(model_name) / f"v{version:d}"

    def artifact_path(self, key: VersionKey, extension: str) -> Path:
        """Return where the artifact of a version lies, or would lie."""
        return self.folder(*key) / f"model.{extension}"

    def publish(
        self,
        staged: StagedArtifact,
        user_id: str,
        model_name: str,
        version: int,
        metadata: bytes,
    ) -> Path:
        """Move a staged artifact to where it will be served from, durably.

        Whoever calls this keeps others from publishing the same version meanwhile; a folder that
        is already there is therefore an orphan of a deploy that was killed or of a database that is
        no more, and is set aside.

        Parameters
        ----------
        staged
            Finished here if it is not yet.
        user_id, model_name, version
            See :meth:`folder`.
        metadata
            The content of ``metadata.json``.

        Returns
        -------
        Path
            Of the published artifact.

        Raises
        ------
        StorageFull, StorageUnavailable
            Nothing was published, and the staged artifact is discarded.
        """
        folder = self.folder(user_id, model_name, version)
        with staged.owning:
            staged.check_owned()
            staged.finish()
            is_moved = False
            try:
                with disk_errors(folder):
                    _write_private_file(staged.folder / METADATA_NAME, metadata)
                    sync_folder(staged.folder)
                    make_parents(folder, self.root)
                    if folder.exists():
                        set_aside(self.root, folder)
                    os.rename(staged.folder, folder)
                    is_moved = True
                    sync_folder(folder.parent)
                    sync_folder(self.root / _STAGING)
            except BaseException:
                if is_moved:
                    remove_tree(folder)
                staged.discard()
                raise
            staged.release()
        return folder / staged.path.name

    def replace_files(self, key: VersionKey, contents: dict[str, bytes]) -> None:
        """Write files into a version's folder, each whole or not at all, durably.

        Raises
        ------
        StorageFull, StorageUnavailable
            Some may not have been replaced.
        """
        folder = self.folder(*key)
        with disk_errors(folder):
            for name, content in contents.items():
                aside = folder / f".{name}"
                aside.unlink(missing_ok=True)
                _write_private_file(aside, content)
                os.rename(aside, folder / name)
            sync_folder(folder)

    def remove(self, user_id: str, model_name: str, version: int) -> None:
        """Remove a version's folder, and those above it that are then empty."""
        folder = self.folder(user_id, model_name, version)
        with disk_errors(folder):
            if folder.exists():
                self._throw_away(folder)
            for parent in (folder.parent, folder.parent.parent):
                try:
                    parent.rmdir()
                except OSError:  # not empty, or never made: either way there is nothing to do
                    break

    def sweep(
        self, known: Collection[tuple[str, str, int]], user_ids: Collection[str]
    ) -> list[Path]:
        """Clear away what deploys that were killed have left behind.

        Every staging folder whose process is gone is removed. Every version folder that is not
        ``known`` is set aside, where its user is known: the others belong to another database.
        Only ``Registry.sweep`` should call this, since it keeps deploys from publishing between
        the reading of ``known`` and the end of the sweep.

        Parameters
        ----------
        known
            The versions that have a row.
        user_ids
            The users that have a row.

        Returns
        -------
        list of Path
            What is no more where it was.
        """
        if not self.root.is_dir():
            return []
        make_private_folder(self.root / _STAGING)
        wanted = {self.folder(*key) for key in known}
        removed = []
        with disk_errors(self.root):
            remove_old_orphans(self.root)
            for folder in self._version_folders():
                if folder not in wanted and folder.parent.parent.name in user_ids:
                    set_aside(self.root, folder)
                    removed.append(folder)
            # A lock is there before its folder and goes after it.
            for lock in sorted((self.root / _STAGING).glob(f"*{_LOCK}")):
                lock_fd = open_and_own(lock, os.O_RDWR)
                if lock_fd is not None:
                    lock.unlink()
                    os.close(lock_fd)
            for folder in sorted((self.root / _STAGING).iterdir()):
                if folder.suffix != _LOCK and not _lock_of(folder).exists():
                    remove_tree(folder)
                    removed.append(folder)
        return removed

    def _version_folders(self) -> list[Path]:
        return sorted(
            folder
            for folder in self.root.glob("*/*/v*")
            if _version_of(folder) and not folder.parent.parent.name.startswith(".")
        )

    def _throw_away(self, folder: Path) -> None:
        """Take a folder from its place in one step, then delete it at leisure."""
        rubbish = self.root / _STAGING / str(uuid4())
        os.rename(folder, rubbish)
        sync_folder(folder.parent)
        remove_tree(rubbish)


class StagedArtifact:
    """An artifact that is being written, in a folder of its own that this process owns.

    Used as a context manager, it is discarded at the end of the block unless it was published.

    Attributes
    ----------
    folder, path
        Its folder and its file.
    extension
        The file name extension.
    owning
        Held while the folder is changed: the sender's leaving discards in one thread what the
        deploy publishes in another.
    """

    def __init__(self, folder: Path, extension: str, lock_fd: int) -> None:
        self.folder = folder
        self.extension = extension
        self.path = folder / f"model.{extension}"
        self.owning = RLock()
        self._lock_fd: int | None = lock_fd
        self._size_bytes = 0
        self._hash = hashlib.sha256()
        self._finished: tuple[str, int] | None = None
        try:
            with disk_errors(self.path):
                folder.mkdir(mode=0o700)
                folder.chmod(0o700)
                self._file: int | None = _open_private_file(self.path)
        except BaseException:
            self._file = None
            self.discard()
            raise

    def write(self, chunk: bytes) -> None:
        """Append ``chunk``.

        Raises
        ------
        StorageFull, StorageUnavailable
            It does not go to the disk; the artifact is discarded.
        """
        with self.owning:
            if self._file is None:
                raise StorageUnavailable(f"{self.path} is closed: stage the artifact anew.")
            try:
                with disk_errors(self.path):
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[os.write(self._file, rest) :]
            except BaseException:
                self.discard()
                raise
        self._hash.update(chunk)
        self._size_bytes += len(chunk)

    def add(self, name: str, content: bytes) -> None:
        """Write another file beside the artifact, to be published with it.

        Raises
        ------
        StorageFull, StorageUnavailable
            It does not go to the disk; the artifact is discarded.
        """
        with self.owning:
            self.check_owned()
            try:
                with disk_errors(self.folder / name):
                    _write_private_file(self.folder / name, content)
            except BaseException:
                self.discard()
                raise

    def finish(self) -> tuple[str, int]:
        """Put file and folder on the disk and close the file; more often is allowed.

        Returns
        -------
        tuple of str and int
            The hex sha256 and the size in bytes.

        Raises
        ------
        StorageFull, StorageUnavailable
            They do not go to the disk; the artifact is discarded.
        """
        with self.owning:
            if self._finished is None:
                if self._file is None:
                    raise StorageUnavailable(f"{self.path} was discarded: stage the artifact anew.")
                try:
                    with disk_errors(self.path):
                        os.fsync(self._file)
                        self._close_file()
                        sync_folder(self.folder)
                except BaseException:
                    self.discard()
                    raise
                self._finished = self._hash.hexdigest(), self._size_bytes
            return self._finished

    def check_owned(self) -> None:
        """Return if it is still this process's to publish.

        Raises
        ------
        StorageUnavailable
            It was discarded.
        """
        if self._lock_fd is None:
            raise StorageUnavailable(
                "The upload was given up by its sender: nothing was published. Deploy again."
            )

    def discard(self) -> None:
        """Remove it; nothing happens where it is already published or discarded."""
        with self.owning:
            self._close_file()
            if self._lock_fd is not None:
                remove_tree(self.folder)
            self.release()

    def release(self) -> None:
        """Give up the ownership of the folder without removing it."""
        with self.owning:
            lock_fd, self._lock_fd = self._lock_fd, None
            if lock_fd is not None:
                _lock_of(self.folder).unlink(missing_ok=True)
                os.close(lock_fd)

    def __enter__(self) -> StagedArtifact:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Discard what was not published."""
        self.discard()

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def _version_of(folder: Path) -> int:
    """Return the version whose folder this is; 0 where it is none."""
    digits = folder.name[1:]
    return int(digits) if folder.name[:1] == "v" and digits.isdecimal() and folder.is_dir() else 0


def _lock_of(folder: Path) -> Path:
    """Return the lock of a staging folder: a file, since NFS locks only what is open to write."""
    return folder.with_name(folder.name + _LOCK)


def _open_private_file(path: Path) -> int:
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    os.fchmod(fd, 0o600)
    return fd


def _write_private_file(path: Path, content: bytes) -> None:
    fd = _open_private_file(path)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)
