"""The object store behind any fsspec URL, S3 first: every call with a time-out, tried again.

Where the file system has folders (SFTP, SMB, HDFS), what is put is written beside its place and
renamed; where it has none, a file appears when all of it has come.
"""

from __future__ import annotations

import errno
import logging
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from uuid import uuid4

import fsspec
import fsspec.asyn
from fsspec import AbstractFileSystem
from fsspec.callbacks import Callback
from fsspec.dircache import DirCache

from mlserve_jupyter.errors import MLServeError, StorageFull, StorageUnavailable
from mlserve_jupyter.settings import shown_url
from mlserve_jupyter.storage.object_store import (
    PART,
    StoredObject,
    appearing,
    check_key,
    check_sha256,
    missing,
    sha256_of,
)

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often a call that failed is made, as long as there is time."""

FIRST_PAUSE_S = 0.1

LEAST_BYTES_PER_S = 256 * 1024
"""A transfer that is slower than this, after the time-out, is given up."""

PIECE_BYTES = 4 * 2**20
"""What a download has in memory, and what it asks for at once."""

T = TypeVar("T")


class RemoteObjects:
    """Files below a URL that fsspec knows.

    Parameters
    ----------
    url
        Such as ``s3://bucket/prefix``. Credentials and endpoint come from where the file system
        looks for them: for S3 the environment, AWS' configuration files, or the machine's role.
    timeout_s
        How long a request may go without an answer; a call may take several requests.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self._shown_url = shown_url(url)
        self._timeout_s = timeout_s
        kind = fsspec.get_filesystem_class(url.partition("://")[0])
        self._root = kind._strip_protocol(url).rstrip("/")
        self._has_folders = not kind.async_impl and kind.mv is not AbstractFileSystem.mv
        self._is_s3 = url.startswith(("s3://", "s3a://"))
        self._opening = Lock()
        self._opened: Any = None  # a file system of fsspec, which has no types

    def put(self, key: str, source: Path) -> str:
        """Store a file, see :meth:`ObjectStore.put`."""
        sha256 = sha256_of(source)
        # By default, pieces of S3 have 50 MiB.
        options = {"chunksize": 4 * PIECE_BYTES} if self._is_s3 else {}
        size_bytes = source.stat().st_size
        self._put(key, size_bytes, lambda path: ("put_file", str(source), path), **options)
        return sha256

    def put_bytes(self, key: str, content: bytes) -> None:
        """Store ``content``, see :meth:`ObjectStore.put_bytes`."""
        self._put(key, len(content), lambda path: ("pipe_file", path, content))

    def get(self, key: str, target: Path, sha256: str) -> None:
        """Download a file, see :meth:`ObjectStore.get`."""
        with appearing(target) as draft:
            self._ask(key, lambda path: self._download(path, draft))
            check_sha256(key, sha256_of(draft), sha256)

    def list(self, prefix: str) -> list[StoredObject]:
        """Return what lies below a folder, see :meth:`ObjectStore.list`."""
        found = self._ask(prefix, self._find)
        return [
            StoredObject(
                key=path[len(self._root) + 1 :],
                size_bytes=info["size"] or 0,
                modified_at=_modified_at(info),
            )
            for path, info in sorted(found.items())
            if not (self._has_folders and path.endswith(PART))
        ]

    def move(self, key: str, new_key: str) -> None:
        """Copy a file and delete the first, see :meth:`ObjectStore.move`."""
        if self._has_folders:
            # Few of these can copy, and a file that is renamed keeps its time of modification.
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder, "copy")
                self._ask(key, lambda path: self._fs.get_file(path, str(copy)))
                self.put(new_key, copy)
        else:
            new_path = self._path(new_key)
            self._ask(key, lambda path: self._fs.cp_file(path, new_path))
        self.delete(key)

    def delete(self, key: str) -> None:
        """Remove a file, see :meth:`ObjectStore.delete`."""

        def remove(path: str) -> None:
            try:
                self._fs.rm_file(path)
            except FileNotFoundError:
                return

        self._ask(key, remove)

    def close(self) -> None:
        """Let go of connections."""
        close = getattr(self._opened, "close_session", None)
        session = getattr(self._opened, "_s3", None)
        if close is not None and session is not None:
            close(self._opened.loop, session)

    def _put(
        self,
        key: str,
        size_bytes: int,
        call_for: Callable[[str], tuple[Any, ...]],
        **options: object,
    ) -> None:
        """Send something by a method of the file system, which is named with its arguments."""

        def send(path: str) -> None:
            try:
                if self._has_folders:
                    self._put_beside(path, lambda at: self._within(size_bytes, *call_for(at)))
                else:
                    method, *arguments = call_for(path)
                    self._within(size_bytes, method, *arguments, **options)
            except FileNotFoundError as error:
                log.warning("%s has no place for %s: %r", self._shown_url, key, error)
                raise StorageUnavailable(
                    "The artifact store has no such bucket or folder: make it, or correct "
                    "artifacts_url."
                ) from error

        self._ask(key, send)

    def _put_beside(self, path: str, write: Callable[[str], None]) -> None:
        """Have a file written under another name, and rename it once all of it is there."""
        folder, _, name = path.rpartition("/")
        draft = f"{folder}/.{name}.{uuid4().hex}{PART}"
        self._fs.makedirs(folder, exist_ok=True)
        try:
            write(draft)
            self._fs.mv(draft, path)
        except Exception:
            with suppress(Exception):  # it may not be there, and its name is no key
                self._fs.rm_file(draft)
            raise

    def _download(self, path: str, draft: Path) -> None:
        """Write a file, a piece at a time.

        Clients of HTTP would fetch half a gigabyte at once into memory, and look at the time when
        all of it has come.
        """
        if not self._fs.async_impl:
            draft.unlink(missing_ok=True)
            self._fs.get_file(path, str(draft), callback=_Patience(self._timeout_s))
            return
        size = int(self._within(0, "info", path)["size"])
        with draft.open("wb") as file:
            for start in range(0, size, PIECE_BYTES):
                end = min(start + PIECE_BYTES, size)
                piece = self._within(end - start, "cat_file", path, start=start, end=end)
                if len(piece) != end - start:
                    raise OSError(f"{len(piece)} bytes came where {end - start} were asked for")
                file.write(piece)

    def _find(self, path: str) -> dict[str, Any]:
        if not self._has_folders:
            return dict(self._fs.find(path, detail=True))
        try:
            # Else a folder that cannot be read would count as an empty one.
            return dict(self._fs.find(path, detail=True, on_error="raise"))
        except FileNotFoundError:
            return {}

    def _within(self, size_bytes: int, method: str, *arguments: object, **options: object) -> Any:
        """Send or fetch something; the network may swallow it without the client's noticing.

        A client of HTTP waits for leave to send a body, and for the network to take it, as long as
        the connection is open. File systems that are not asynchronous have to end it themselves.
        """
        if not self._fs.async_impl:
            return getattr(self._fs, method)(*arguments, **options)
        timeout_s = 2 * self._timeout_s + size_bytes / LEAST_BYTES_PER_S
        call = getattr(self._fs, f"_{method}")
        return fsspec.asyn.sync(self._fs.loop, call, *arguments, timeout=timeout_s, **options)

    @property
    def _fs(self) -> Any:
        with self._opening:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def _open(self) -> Any:
        # fsspec's own listings and instances would be shared with whatever else uses it here.
        options: dict[str, Any] = {"skip_instance_cache": True}
        if self._is_s3:
            options["max_concurrency"] = 1  # pieces of an upload that are in memory
            options["config_kwargs"] = {
                "connect_timeout": self._timeout_s,
                "read_timeout": self._timeout_s,
                # Repeated here and nowhere else: three layers would make 75 requests of one.
                "retries": {"total_max_attempts": 1, "mode": "standard"},
            }
        fs, _ = fsspec.url_to_fs(self._url, **options)
        fs.dircache = DirCache(use_listings_cache=False)
        if hasattr(fs, "retries"):
            fs.retries = 1
        return fs

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    def _ask(self, key: str, call: Callable[[str], T]) -> T:
        """Make a call, more than once if it fails for a reason that may pass."""
        path = self._path(key)
        last_start_s = time.monotonic() + self._timeout_s
        pause_s = FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return call(path)
            except FileNotFoundError:
                raise missing(key) from None
            except MLServeError:
                raise
            except Exception as error:
                # File systems raise what their libraries do, which is nobody's subclass.
                if self._has_folders:
                    self._opened = None  # it has one connection, which may be gone
                is_last = attempt == ATTEMPTS or time.monotonic() + pause_s > last_start_s
                if is_last or isinstance(error, PermissionError):
                    raise self._refusal(key, error) from error
                log.info("The artifact store failed on %s and is asked again: %r", key, error)
            time.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s *= 4
        raise AssertionError("the last attempt returns or raises")

    def _refusal(self, key: str, error: Exception) -> MLServeError:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StorageFull(f"No space is left for {key}: free space, and try again.")
        log.warning("The artifact store %s failed on %s: %r", self._shown_url, key, error)
        if isinstance(error, PermissionError):
            return StorageUnavailable(
                "The artifact store refuses this server: give it credentials that may read and "
                "write there."
            )
        return StorageUnavailable(
            "The artifact store does not answer. Try again in a moment.", retry_after_s=2
        )


def _modified_at(info: dict[str, Any]) -> datetime:
    """Return when a file was put, under whichever name its file system has for that."""
    for name in ("LastModified", "last_modified", "mtime", "modified", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, timezone.utc)
    return datetime.now(timezone.utc)


class _Patience(Callback):  # type: ignore[misc]  # fsspec has no types
    """Ends a transfer that moves, but so slowly that it would hold its thread for ever."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__()
        self._started_s = time.monotonic()
        self._timeout_s = timeout_s

    def relative_update(self, inc: int = 1) -> None:
        """Take note of some more bytes.

        Raises
        ------
        TimeoutError
            They come too slowly.
        """
        super().relative_update(inc)
        taken_s = time.monotonic() - self._started_s
        if taken_s > self._timeout_s + self.value / LEAST_BYTES_PER_S:
            raise TimeoutError(f"only {self.value} bytes came in {taken_s:.0f} s")
