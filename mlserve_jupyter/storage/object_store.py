"""Files by key, in the place that ``artifacts_url`` names: a bucket, or a folder.

A key is a relative path, such as ``archives/2026/09/predictions.parquet``. What is put is whole or
not there; what is got is held against its sha256 before it appears. All methods wait, and are
called in threads.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from mlserve_jupyter.errors import ArtifactCorrupt, StorageUnavailable
from mlserve_jupyter.settings import FOLDER_PROTOCOLS, Settings
from mlserve_jupyter.storage.folders import (
    disk_errors,
    make_parents,
    make_private_folder,
    sync_folder,
)

_KEY = re.compile(r"[A-Za-z0-9_.~=-]+(?:/[A-Za-z0-9_.~=-]+)*", re.ASCII)
_PIECE_BYTES = 2**20
_TRIES = 10
PART = ".part"
"""How the names of files end that are being written."""


@dataclass(frozen=True)
class StoredObject:
    """A file in the store.

    Attributes
    ----------
    key
        Its path below the store's root.
    size_bytes
        Its size.
    modified_at
        When it was put, by the store's clock.
    """

    key: str
    size_bytes: int
    modified_at: datetime


class ObjectStore(Protocol):
    """A place for files."""

    def put(self, key: str, source: Path) -> str:
        """Store a file, in the place of one that has the key already.

        Returns
        -------
        str
            The hex sha256 of what was read.

        Raises
        ------
        StorageUnavailable, StorageFull
            It is not stored.
        """
        ...

    def put_bytes(self, key: str, content: bytes) -> None:
        """Store ``content``; raises as :meth:`put` does."""
        ...

    def get(self, key: str, target: Path, sha256: str) -> None:
        """Make a file of this machine what is stored under a key.

        Parameters
        ----------
        target
            Appears in one step, durably, with mode 0600; its folder exists.
        sha256
            What its bytes must have, in hex.

        Raises
        ------
        ArtifactCorrupt
            It is not there, or its bytes are others; ``target`` is as it was.
        StorageUnavailable, StorageFull
            The store does not answer, or this machine's disk is full.
        """
        ...

    def list(self, prefix: str) -> list[StoredObject]:
        """Return what lies below a folder, in order of the keys; nothing where there is none.

        Raises
        ------
        StorageUnavailable
            The store does not answer.
        """
        ...

    def move(self, key: str, new_key: str) -> None:
        """Give a file another key; its time of modification is then that of the move.

        Raises
        ------
        StorageUnavailable, StorageFull
            It has the old key, the new one or both.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove a file; nothing happens where there is none.

        Raises
        ------
        StorageUnavailable
            It may be there still.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def open_object_store(settings: Settings) -> ObjectStore:
    """Return the store that ``artifacts_url`` names; without one, the data folder.

    Imports fsspec where it is needed; nothing is connected yet.
    """
    if not settings.artifacts_url:
        return FolderObjects(settings.data_dir)
    parts = urlsplit(settings.artifacts_url)
    if parts.scheme in FOLDER_PROTOCOLS:
        return FolderObjects(Path(unquote(parts.path)))
    from mlserve_jupyter.storage.remote_objects import RemoteObjects

    return RemoteObjects(settings.artifacts_url, settings.artifacts_timeout_s)


class FolderObjects:
    """A folder of this machine, or one that several machines mount.

    Parameters
    ----------
    root
        Made with mode 0700 at the first use.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, source: Path) -> str:
        """Store a file, see :meth:`ObjectStore.put`."""
        with disk_errors(source), open(source, "rb", buffering=0) as file:
            return self._put(key, iter(lambda: file.read(_PIECE_BYTES), b""))

    def put_bytes(self, key: str, content: bytes) -> None:
        """Store ``content``, see :meth:`ObjectStore.put_bytes`."""
        self._put(key, iter((content,)))

    def get(self, key: str, target: Path, sha256: str) -> None:
        """Copy a file, see :meth:`ObjectStore.get`."""
        source = self._path(key)
        with appearing(target) as draft, disk_errors(draft):
            try:
                file = open(source, "rb", buffering=0)  # noqa: SIM115 - closed below
            except FileNotFoundError:
                raise missing(key) from None
            with file:
                found = _write(_create(draft), iter(lambda: file.read(_PIECE_BYTES), b""))
            check_sha256(key, found, sha256)

    def list(self, prefix: str) -> list[StoredObject]:
        """Return what lies below a folder, see :meth:`ObjectStore.list`."""
        with disk_errors(self._root):
            return sorted(
                (
                    self._describe(Path(folder, name))
                    for folder, _, names in os.walk(self._path(prefix))
                    for name in names
                    if not name.endswith(PART)
                ),
                key=lambda stored: stored.key,
            )

    def move(self, key: str, new_key: str) -> None:
        """Rename a file, see :meth:`ObjectStore.move`."""
        source, target = self._path(key), self._path(new_key)
        with disk_errors(source):
            make_parents(target, self._root)
            os.utime(source)
            os.rename(source, target)
            sync_folder(target.parent)
            sync_folder(source.parent)
            self._remove_empty(source.parent)

    def delete(self, key: str) -> None:
        """Remove a file, see :meth:`ObjectStore.delete`."""
        path = self._path(key)
        # Others may be removing the same, and the folders that it leaves empty.
        with disk_errors(path), suppress(FileNotFoundError):
            path.unlink()
            sync_folder(path.parent)
            self._remove_empty(path.parent)

    def close(self) -> None:
        """Nothing is open."""

    def _put(self, key: str, pieces: Iterator[bytes]) -> str:
        path = self._path(key)
        make_private_folder(self._root)
        with appearing(path) as draft, disk_errors(path):
            return _write(self._create(draft), pieces)

    def _create(self, draft: Path) -> int:
        """Open a new file; until it is there, others may remove its folders as empty ones."""
        for _ in range(_TRIES):
            with suppress(FileNotFoundError):
                try:
                    make_parents(draft, self._root)
                except StorageUnavailable as error:
                    raise (error.__cause__ or error) from None
                return _create(draft)
        return _create(draft)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _describe(self, path: Path) -> StoredObject:
        status = path.stat()
        return StoredObject(
            key=path.relative_to(self._root).as_posix(),
            size_bytes=status.st_size,
            modified_at=datetime.fromtimestamp(status.st_mtime, timezone.utc),
        )

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:  # not empty
                return
            folder = folder.parent


def check_key(key: str) -> str:
    """Return a key that stays below the store's root and is the same in a URL and in a folder."""
    if not _KEY.fullmatch(key) or any(part in (".", "..") for part in key.split("/")):
        raise ValueError(f"{key!r} is no key of a stored file")
    return key


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Give a path beside ``target`` whose file becomes it, in one step and durably, at the end.

    Raises
    ------
    StorageUnavailable, StorageFull
        The disk refused; ``target`` is as it was, as it is after any error in the block.
    """
    draft = target.with_name(f".{target.name}.{uuid4().hex}{PART}")
    try:
        yield draft
        with disk_errors(target):
            draft.chmod(0o600)
            fd = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(draft, target)
            sync_folder(target.parent)
    finally:
        draft.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with disk_errors(path), open(path, "rb", buffering=0) as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def check_sha256(key: str, found: str, expected: str) -> None:
    """Refuse bytes that are not those that were stored.

    Raises
    ------
    ArtifactCorrupt
        Naming the file.
    """
    if found != expected:
        raise ArtifactCorrupt(
            f"The file {key} in the artifact store is not the one that was stored there (sha256 "
            f"{found[:12]}… instead of {expected[:12]}…): restore it from a backup.",
            key=key,
        )


def missing(key: str) -> ArtifactCorrupt:
    """Return the error of a file that is not there any more."""
    return ArtifactCorrupt(
        f"The file {key} is not in the artifact store any more: restore it from a backup.", key=key
    )


def _create(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)


def _write(fd: int, pieces: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    with open(fd, "wb", buffering=0) as file:
        for piece in pieces:
            digest.update(piece)
            rest = memoryview(piece)
            while rest:
                rest = rest[file.write(rest) :]
    return digest.hexdigest()
