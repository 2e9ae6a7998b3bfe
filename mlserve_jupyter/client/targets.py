"""Servers that somebody has signed in to, with their tokens, in a file that only its owner reads.

All kernels of a user share the file. A refresh token is good for one exchange, so that they take
turns: whoever holds the lock exchanges it, and the others find the next pair in the file.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from mlserve_jupyter.errors import ServerNotFound

FILE = "mlserve-targets.json"

RENEW_BEFORE_S = 60.0
"""An access token that ends sooner than this is exchanged before it is used."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A server that somebody has signed in to.

    Attributes
    ----------
    name
        By which it is called, as in ``--to NAME``.
    url
        The URL under which all routes are; ends with ``/``.
    expires_at_s
        When the access token ends, as of ``time.time()``.
    """

    name: str
    url: str
    email: str
    access_token: str
    refresh_token: str
    expires_at_s: float

    def __repr__(self) -> str:
        """Leave the tokens out."""
        return f"Target(name={self.name!r}, url={self.url!r}, email={self.email!r})"


class Targets:
    """The servers that a user has signed in to.

    Parameters
    ----------
    path
        The file; None for the one in Jupyter's data folder.
    """

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            from jupyter_core.paths import jupyter_data_dir

            path = Path(jupyter_data_dir(), FILE)
        self._path = path

    def all(self) -> list[Target]:
        """Return them by name; a file that cannot be read holds none."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Target])
        except (OSError, msgspec.MsgspecError):
            return []

    def find(self, reference: str) -> Target | None:
        """Return the one of this name or URL."""
        return next((each for each in self.all() if reference in (each.name, each.url)), None)

    def keep(self, target: Target) -> None:
        """Add a server, in place of one of the same name or URL."""
        with self._locked():
            self._replace(target.name, target)

    def forget(self, name: str) -> None:
        """Leave a server out from now on."""
        with self._locked():
            self._replace(name, None)

    def renewed(self, name: str, exchange: Callable[[Target], Target]) -> Target:
        """Return a server whose access token is good for a while yet.

        Parameters
        ----------
        exchange
            Called if the token must be renewed, with the server as it is known.

        Raises
        ------
        ServerNotFound
            There is none of this name any more.
        """
        found = self._named(name)
        if found.expires_at_s - time.time() > RENEW_BEFORE_S:
            return found
        with self._locked():
            found = self._named(name)  # another kernel may have been here
            if found.expires_at_s - time.time() > RENEW_BEFORE_S:
                return found
            found = exchange(found)
            self._replace(name, found)
            return found

    def _named(self, name: str) -> Target:
        found = self.find(name)
        if found is None:
            raise ServerNotFound(
                f"You are not signed in to {name!r}: use `%mlserve login URL`, and `%mlserve "
                "targets` to see where you are."
            )
        return found

    def _replace(self, name: str, target: Target | None) -> None:
        """Write the file anew, in one step; the caller holds the lock."""
        url = "" if target is None else target.url
        kept = [each for each in self.all() if each.name != name and each.url != url]
        if target is not None:
            kept.append(target)
        kept.sort(key=lambda each: each.name)
        draft = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(msgspec.json.encode(kept))
            draft.replace(self._path)
        finally:
            draft.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with contextlib.suppress(ImportError):  # there is no such lock on Windows
                import fcntl

                fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)
