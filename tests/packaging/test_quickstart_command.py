"""The first command of the README, in a fresh copy of the sources with nothing prepared."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass
class Checkout:
    """A fresh copy of the sources, and a home folder of its own."""

    source: Path
    env: dict[str, str] = field(repr=False)

    def quickstart(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "scripts/quickstart.py", *arguments],
            cwd=self.source,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def server(self) -> dict[str, str]:
        state: dict[str, str] = json.loads((self.source / ".quickstart/server.json").read_text())
        return state


@pytest.fixture(scope="module")
def checkout(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    folder = tmp_path_factory.mktemp("quickstart")
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder)
    (source,) = folder.glob("mlserve_jupyter-*")
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JUPYTER", "JPY", "MLSERVE", "VIRTUAL_ENV", "PYTHONPATH"))
    }
    places = {
        f"JUPYTER_{kind.upper()}_DIR": str(folder / kind) for kind in ("config", "data", "runtime")
    }
    made = Checkout(source, {**inherited, **places})
    yield made
    made.quickstart("--stop")


def test_one_command_leaves_jupyterlab_running_with_an_endpoint_that_answers(
    checkout: Checkout,
) -> None:
    ended = checkout.quickstart()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = dict(line.split(maxsplit=1) for line in ended.stdout.splitlines() if " " in line)
    assert '"model":"wine"' in ended.stdout
    assert lines["Stop"] == "it      python3 scripts/quickstart.py --stop"

    server = checkout.server
    token = {"Authorization": f"token {server['token']}"}
    assert httpx.post(lines["Endpoint"], json={}, headers=token).status_code == 400
    assert httpx.post(lines["Endpoint"], json={}).status_code in (401, 403)
    notebook = httpx.get(f"{server['url']}api/contents/quickstart.ipynb", headers=token).json()
    cells = [cell for cell in notebook["content"]["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] and cell["metadata"]["trusted"] for cell in cells)
    (session,) = httpx.get(f"{server['url']}api/sessions", headers=token).json()
    assert session["path"] == "quickstart.ipynb"
    assert (checkout.source / ".quickstart/server.json").stat().st_mode & 0o077 == 0


def test_a_port_that_is_taken_is_one_line(checkout: Checkout) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = checkout.quickstart("--port", str(port))
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(
        f"quickstart: JupyterLab did not start on port {port}"
    )
    assert "Traceback" not in ended.stdout


def test_stop_ends_it(checkout: Checkout) -> None:
    assert checkout.quickstart().returncode == 0
    server = checkout.server
    assert checkout.quickstart("--stop").stdout == "JupyterLab has stopped.\n"
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server['url']}api")
    assert checkout.quickstart("--stop").stdout == "JupyterLab is not running.\n"
