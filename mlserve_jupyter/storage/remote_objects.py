"""The object store behind any fsspec URL, S3 first: every call with a time-out, tried again."""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import fsspec.asyn
from fsspec.callbacks import Callback

from mlserve_jupyter.errors import MLServeError, StorageFull, StorageUnavailable
from mlserve_jupyter.settings import shown_url
from mlserve_jupyter.storage.object_store import (
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
        self._shown_url = shown_url(url)
        self._timeout_s = timeout_s
        protocol = url.partition("://")[0]
        # fsspec's own listings and instances would be shared with whatever else uses it here.
        options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
        if protocol in ("s3", "s3a"):
            options["config_kwargs"] = {
                "connect_timeout": timeout_s,
                "read_timeout": timeout_s,
                # Repeated here and nowhere else: three layers would make 75 requests of one.
                "retries": {"total_max_attempts": 1, "mode": "standard"},
            }
        self._fs, root = fsspec.url_to_fs(url, **options)
        if hasattr(self._fs, "retries"):
            self._fs.retries = 1
        self._root = root.rstrip("/")

    def put(self, key: str, source: Path) -> str:
        """Store a file, see :meth:`ObjectStore.put`."""
        sha256 = sha256_of(source)
        size_bytes = source.stat().st_size
        self._ask(key, lambda path: self._within(size_bytes, "put_file", str(source), path))
        return sha256

    def put_bytes(self, key: str, content: bytes) -> None:
        """Store ``content``, see :meth:`ObjectStore.put_bytes`."""
        self._ask(key, lambda path: self._within(len(content), "pipe_file", path, content))

    def get(self, key: str, target: Path, sha256: str) -> None:
        """Download a file, see :meth:`ObjectStore.get`."""
        with appearing(target) as draft:

            def download(path: str) -> None:
                draft.unlink(missing_ok=True)
                self._fs.get_file(path, str(draft), callback=self._watch())

            self._ask(key, download)
            check_sha256(key, sha256_of(draft), sha256)

    def list(self, prefix: str) -> list[StoredObject]:
        """Return what lies below a folder, see :meth:`ObjectStore.list`."""
        found = self._ask(prefix, lambda path: self._fs.find(path, detail=True))
        return [
            StoredObject(
                key=path[len(self._root) + 1 :],
                size_bytes=info["size"] or 0,
                modified_at=_modified_at(info),
            )
            for path, info in sorted(found.items())
        ]

    def move(self, key: str, new_key: str) -> None:
        """Copy a file within the store and delete the first, see :meth:`ObjectStore.move`."""
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

    def _within(self, size_bytes: int, method: str, *arguments: object) -> None:
        """Send something; where the network swallows it, no time-out of the client's would end it.

        A client of HTTP waits for leave to send a body, and for the network to take it, as long as
        the connection is open. File systems that are not asynchronous have to end it themselves.
        """
        if not self._fs.async_impl:
            getattr(self._fs, method)(*arguments)
            return
        timeout_s = 2 * self._timeout_s + size_bytes / LEAST_BYTES_PER_S
        call = getattr(self._fs, f"_{method}")
        fsspec.asyn.sync(self._fs.loop, call, *arguments, timeout=timeout_s)

    def close(self) -> None:
        """Let go of connections."""
        close = getattr(self._fs, "close_session", None)
        session = getattr(self._fs, "_s3", None)
        if close is not None and session is not None:
            close(self._fs.loop, session)

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

    def _watch(self) -> Callback:
        return _Patience(self._timeout_s)


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
