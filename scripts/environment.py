"""The virtual environment of the two commands: made once, and again only when something changed.

Standard library only, since it runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 10)
CONSTRAINTS_PYTHON = (3, 11)

_LOG_TAIL_LINES = 25


class SetupFailed(Exception):
    """Something that is needed is not there; the message says what to do, in one line."""


class Steps:
    """Prints what is being done, one line a step.

    Parameters
    ----------
    total
        The number of steps.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._number = 0

    def say(self, text: str) -> None:
        """Announce the next step."""
        self._number += 1
        print(f"[{self._number}/{self._total}] {text}", flush=True)


class Environment:
    """A virtual environment in the checkout.

    Parameters
    ----------
    name
        Its folder's name, such as ``.venv``.
    extras
        The project's extras that are installed with it.
    editable
        Whether the checkout's own files are used in place.
    """

    def __init__(self, name: str, extras: tuple[str, ...], *, editable: bool) -> None:
        self.path = ROOT / name
        self._extras = extras
        self._editable = editable

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self._scripts / ("python.exe" if os.name == "nt" else "python")

    @property
    def variables(self) -> dict[str, str]:
        """``os.environ`` as if the environment were activated."""
        variables = {
            **os.environ,
            "VIRTUAL_ENV": str(self.path),
            "PATH": f"{self._scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }
        variables.pop("PYTHONHOME", None)
        return variables

    def ensure(self) -> bool:
        """Make the environment and install the project; return whether anything was done.

        Raises
        ------
        SetupFailed
            If this Python is too old, or cannot make environments, or pip fails.
        """
        if sys.version_info < OLDEST_PYTHON:
            raise SetupFailed(
                f"Python {'.'.join(map(str, OLDEST_PYTHON))} or newer is needed, and this is "
                f"{sys.version.split()[0]} ({sys.executable}): run the command with a newer one."
            )
        stamp = self.path / ".mlserve-installed"
        digest = self._digest()
        if self.python.exists() and stamp.exists() and stamp.read_text() == digest:
            return False
        started = time.monotonic()
        if not self.python.exists():
            self._create()
        self._install()
        stamp.write_text(digest)
        print(f"      done in {time.monotonic() - started:.0f} s", flush=True)
        return True

    @property
    def _scripts(self) -> Path:
        return self.path / ("Scripts" if os.name == "nt" else "bin")

    def _create(self) -> None:
        made = subprocess.run(
            [sys.executable, "-m", "venv", "--clear", str(self.path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if made.returncode:
            print(made.stdout, file=sys.stderr)
            raise SetupFailed(
                f"{sys.executable} -m venv failed: install the part of Python that makes virtual "
                "environments (on Debian and Ubuntu: apt-get install python3-venv)."
            )

    def _install(self) -> None:
        target = f"{ROOT}[{','.join(self._extras)}]"
        command = [str(self.python), "-m", "pip", "install", "--disable-pip-version-check"]
        if sys.version_info[:2] >= CONSTRAINTS_PYTHON:
            command += ["--constraint", str(ROOT / "constraints.txt")]
        command += ["--editable", target] if self._editable else [target]
        log = self.path / "install.log"
        with log.open("wb") as output:
            ended = subprocess.run(
                command,
                env=self.variables,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if ended.returncode:
            print(*tail(log), sep="\n", file=sys.stderr)
            raise SetupFailed(
                f"pip could not install the project into {self.path}; {log} says why. Does this "
                "machine reach the Python package index and the npm registry?"
            )

    def _digest(self) -> str:
        """Return a digest of all that decides what is installed."""
        digest = hashlib.sha256(f"{sys.version} {self._extras}".encode())
        names = ["pyproject.toml", "constraints.txt", "hatch_build.py"]
        folders = ["labextension/src", "labextension/style", "jupyter-config"]
        if not self._editable:
            folders.append("mlserve_jupyter")
        files = [ROOT / name for name in names]
        for folder in folders:
            files += sorted((ROOT / folder).rglob("*"))
        built = ROOT / "mlserve_jupyter" / "labextension"
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts and built not in file.parents:
                digest.update(str(file.relative_to(ROOT)).encode())
                digest.update(file.read_bytes())
        return digest.hexdigest()


def tail(log: Path, n_lines: int = _LOG_TAIL_LINES) -> list[str]:
    """Return the last lines of a log file."""
    return log.read_text(errors="replace").splitlines()[-n_lines:]
