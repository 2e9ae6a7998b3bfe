"""Finds the server that a kernel belongs to, and the credential for it.

The server extension leaves a file ``mlserve-<pid>.json`` in Jupyter's runtime folder that only
its owner can read. A kernel knows its server by the process id that Jupyter gives it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

from mlserve_jupyter.client.targets import Targets
from mlserve_jupyter.errors import ServerNotFound

START_HINT = (
    "start one with `jupyter lab`, or name it: set MLSERVE_URL and MLSERVE_KEY, or use --to URL"
)

DOWN_HINT = (
    "start it again (`jupyter lab`, or `jupyter mlserve` for a standalone server), or name another "
    "with --to URL, or with MLSERVE_URL and MLSERVE_KEY"
)
"""What helps where a server is known, and is down."""


@dataclass(frozen=True)
class Connection:
    """Where a server is and how to be let in.

    Attributes
    ----------
    url
        The URL under which all routes are; ends with ``/``.
    key
        An API key (``mls_…``) or a token of the Jupyter server; empty where there is none.
    root_dir
        The folder whose notebooks the server serves, where it is known.
    has_token
        Whether callers from outside can use a token of the Jupyter server.
    path
        The file in which the server left all this; empty where it was named.
    target
        Name of the server among those that the user has signed in to; empty where it is none.
    key_source
        Where the key was found, in words; empty where that needs none.
    """

    url: str
    key: str
    root_dir: str = ""
    has_token: bool = True
    path: str = field(default="", compare=False)
    target: str = ""
    key_source: str = field(default="", compare=False)

    @property
    def headers(self) -> dict[str, str]:
        """The header that carries the credential."""
        if not self.key:
            return {}
        if self.key.startswith("mls_"):
            return {"X-MLServe-Key": self.key}
        return {"Authorization": f"token {self.key}"}

    def __repr__(self) -> str:
        """Leave the credential out."""
        return f"Connection(url={self.url!r})"


def find_connection(
    target: str | None = None, *, environ: Mapping[str, str] = os.environ
) -> Connection:
    """Find a server.

    Parameters
    ----------
    target
        The URL of an MLServe or a Jupyter server, also with Jupyter's ``?token=``, or the name of
        one that the user has signed in to; None finds the kernel's own: ``MLSERVE_URL`` with
        ``MLSERVE_KEY``, else the server that started this kernel, else a server of the folder that
        the kernel works in, else the newest.
    environ
        The environment variables.

    Raises
    ------
    ServerNotFound
        None is running, or ``target`` is neither a URL nor a name of one.
    """
    target = target or environ.get("MLSERVE_URL") or None
    if target is not None:
        return _named(target, environ)
    found = list(_running(_runtime_dir(environ)))
    if not found:
        raise ServerNotFound(f"No Jupyter server with mlserve_jupyter is running: {START_HINT}.")
    parent_pid = environ.get("JPY_PARENT_PID")
    for pid, _, connection in found:
        if str(pid) == parent_pid:
            return connection
    return max(found, key=lambda entry: (_serves_here(entry[2]), entry[1]))[2]


def start_ticks(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since the machine was; None if unknown.

    Together with the id it names one process; the id alone is given again. Field 22 of
    ``/proc/<pid>/stat``, see ``proc_pid_stat(5)``; there is none on other systems than Linux.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        # The program's name in parentheses may itself hold spaces and parentheses.
        return int(stat.rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def url_of(target: str) -> str:
    """Return the URL under which all routes of an MLServe or a Jupyter server are.

    Raises
    ------
    ServerNotFound
        ``target`` is not a URL.
    """
    parts = urlsplit(target)
    if parts.scheme not in ("http", "https", "http+unix") or not parts.netloc:
        raise ServerNotFound(
            f"{target!r} is not the URL of a server: give one such as "
            "http://127.0.0.1:8888/mlserve/."
        )
    path = parts.path.removesuffix("/lab").removesuffix("/tree").rstrip("/") + "/"
    if not path.endswith("/mlserve/"):
        path += "mlserve/"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def _named(target: str, environ: Mapping[str, str]) -> Connection:
    if "://" not in target:
        signed_in = Targets().find(target)
        if signed_in is None:
            raise Targets().unknown(target)
        return Connection(signed_in.url, "", target=signed_in.name)
    url = url_of(target)
    tokens = parse_qs(urlsplit(target).query).get("token", [""])
    if tokens[0]:
        return Connection(url, tokens[0], key_source="the URL, behind `token=`")
    for _, _, connection in _running(_runtime_dir(environ)):
        if connection.url == url:
            return connection
    if "MLSERVE_KEY" in environ:
        source = "the environment variable MLSERVE_KEY"
        return Connection(url, environ["MLSERVE_KEY"], key_source=source)
    signed_in = Targets().find(url)
    return Connection(url, "", target="" if signed_in is None else signed_in.name)


def _running(runtime_dir: Path) -> Iterator[tuple[int, float, Connection]]:
    """Read the connection files of the servers whose process is alive."""
    for path in runtime_dir.glob("mlserve-*.json"):
        try:
            modified_at_s = path.stat().st_mtime
            content = json.loads(path.read_text(encoding="utf-8"))
            pid, started = int(content["pid"]), content.get("start_ticks")
            connection = Connection(
                content["url"],
                content["key"],
                content.get("root_dir", ""),
                has_token=content.get("has_token", True),
                path=str(path),
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a server writes it at this moment, has just ended, or it is not one of ours
        if _is_alive(pid) and (started is None or start_ticks(pid) in (started, None)):
            yield pid, modified_at_s, connection


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        return True  # there, signal 0 is not a question but an interrupt
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _serves_here(connection: Connection) -> bool:
    return bool(connection.root_dir) and Path.cwd().is_relative_to(connection.root_dir)


def _runtime_dir(environ: Mapping[str, str]) -> Path:
    from jupyter_core.paths import jupyter_runtime_dir

    return Path(environ.get("JUPYTER_RUNTIME_DIR") or jupyter_runtime_dir())
