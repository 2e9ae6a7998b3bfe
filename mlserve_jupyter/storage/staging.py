"""An artifact that is not published yet: written aside, and hashed on the way."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from threading import RLock
from types import TracebackType
from uuid import uuid4

from mlserve_jupyter.errors import StorageUnavailable
from mlserve_jupyter.storage.folders import (
    disk_errors,
    make_private_folder,
    open_and_own,
    remove_tree,
    sync_folder,
)

_LOCK = ".lock"


def stage(folder: Path, extension: str) -> StagedArtifact:
    """Begin an artifact in a new folder below ``folder``.

    Raises
    ------
    StorageFull, StorageUnavailable
        The folder cannot be made.
    """
    make_private_folder(folder)
    while True:
        own = folder / str(uuid4())
        with disk_errors(own):
            lock_fd = open_and_own(_lock_of(own), os.O_CREAT | os.O_EXCL | os.O_RDWR)
        # A sweep of another process may have taken the lock before this one did.
        if lock_fd is not None:
            return StagedArtifact(own, extension, lock_fd)


def sweep_staged(folder: Path) -> list[Path]:
    """Remove the folders below ``folder`` whose process is gone, and return them."""
    removed = []
    # A lock is there before its folder and goes after it.
    for lock in sorted(folder.glob(f"*{_LOCK}")):
        lock_fd = open_and_own(lock, os.O_RDWR)
        if lock_fd is not None:
            lock.unlink()
            os.close(lock_fd)
    for own in sorted(folder.iterdir()):
        if own.suffix != _LOCK and not _lock_of(own).exists():
            remove_tree(own)
            removed.append(own)
    return removed


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
                    write_private_file(self.folder / name, content)
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


def _lock_of(folder: Path) -> Path:
    """Return the lock of a staging folder: a file, since NFS locks only what is open to write."""
    return folder.with_name(folder.name + _LOCK)


def _open_private_file(path: Path) -> int:
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    os.fchmod(fd, 0o600)
    return fd


def write_private_file(path: Path, content: bytes) -> None:
    """Write a new file that only its owner may read, durably."""
    fd = _open_private_file(path)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)
