"""Where a kernel reads how to reach its server."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from mlserve_jupyter.client.connection import start_ticks
from mlserve_jupyter.version import __version__


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the file.

    Attributes
    ----------
    url
        Of the platform's routes, ending in ``/``.
    pid
        The server's process id, which its kernels know as ``JPY_PARENT_PID``.
    start_ticks
        When that process was started, since another may get its id; see
        :func:`mlserve_jupyter.client.connection.start_ticks`.
    key
        Acts for the notebook's owner, for as long as this server runs.
    has_token
        Whether Jupyter has a token that outside callers can send.
    """

    url: str
    pid: int
    start_ticks: int | None
    key: str
    version: str
    root_dir: str
    has_token: bool


class ConnectionFile:
    """``mlserve-<pid>.json`` in Jupyter's runtime folder, readable for its owner only.

    Parameters
    ----------
    folder
        Jupyter's runtime folder.
    url, key, root_dir, has_token
        See :class:`Connection`.
    """

    def __init__(self, folder: Path, *, url: str, key: str, root_dir: str, has_token: bool) -> None:
        pid = os.getpid()
        self.path = folder / f"mlserve-{pid}.json"
        self._content = Connection(
            url=url,
            pid=pid,
            start_ticks=start_ticks(pid),
            key=key,
            version=__version__,
            root_dir=root_dir,
            has_token=has_token,
        )

    def write(self) -> None:
        """Write it, in one step."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self.path.with_suffix(".tmp")
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(msgspec.json.encode(self._content))
        draft.replace(self.path)

    def remove(self) -> None:
        """Remove it."""
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
