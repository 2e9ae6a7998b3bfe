"""Servers that somebody has signed in to, with their tokens, in a file that only its owner reads.

All kernels of a user share the file. A refresh token is good for one exchange, so that they take
turns: whoever holds the lock exchanges it, and the others find the next pair in the file.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import chain, count
from pathlib import Path
from urllib.parse import urlsplit

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
        """Return the one of this name, or the only one of this URL.

        Raises
        ------
        ServerNotFound
            There are several of this URL, with an account each.
        """
        known = self.all()
        found = [each for each in known if each.name == reference]
        found = found or [each for each in known if each.url == reference]
        if len(found) > 1:
            accounts = " and ".join(f"{each.name} ({each.email})" for each in found)
            raise ServerNotFound(
                f"You are signed in to {reference} as {accounts}: name one of them, as in `--to "
                f"{shlex.quote(found[0].name)}`."
            )
        return found[0] if found else None

    def free_name(self, url: str, email: str) -> str:
        """Return a name for a server that none of another URL or account has: its host's name."""
        host = urlsplit(url).hostname or url
        taken = {each.name for each in self.all() if (each.url, each.email) != (url, email)}
        names = chain([host], (f"{host}-{number}" for number in count(2)))
        return next(name for name in names if name not in taken)

    def unknown(self, name: str) -> ServerNotFound:
        """Return the error of a name that no server has."""
        known = self.all()
        near = get_close_matches(name, [each.name for each in known], n=1, cutoff=0.5)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        return ServerNotFound(
            f"You are signed in to no server of the name {name!r}.{meant} `%mlserve targets` lists "
            f"where you are, `%mlserve login URL --name {shlex.quote(name)}` signs in to another; "
            "or give the URL of a server, such as http://127.0.0.1:8888/mlserve/."
        )

    def keep(self, target: Target) -> None:
        """Add a server, in place of one of the same name."""
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
            raise self.unknown(name)
        return found

    def _replace(self, name: str, target: Target | None) -> None:
        """Write the file anew, in one step; the caller holds the lock."""
        kept = [each for each in self.all() if each.name != name]
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
