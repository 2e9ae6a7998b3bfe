"""The sdist and the wheel: what they hold, and that they install where there is no Node.js."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LABEXTENSION = "share/jupyter/labextensions/mlserve-jupyter"
SERVER_CONFIG = "etc/jupyter/jupyter_server_config.d/mlserve_jupyter.json"

pytestmark = pytest.mark.slow


def run(
    *command: str | Path, folder: Path = ROOT, environment: dict[str, str] | None = None
) -> str:
    ended = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    return re.sub(r"\x1b\[\d*m", "", ended.stdout)


@pytest.fixture(scope="module")
def no_node(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose PATH has a shell and no ``node``."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("sh", "env", "uname"):
        found = next(
            Path(place, name) for place in ("/bin", "/usr/bin") if Path(place, name).exists()
        )
        (folder / name).symlink_to(found)
    return {**os.environ, "PATH": str(folder)}


def make_venv(folder: Path) -> Path:
    """Make a virtual environment that sees the packages of this one; return its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    places = [path for path in sys.path if path.endswith("site-packages")]
    purelib = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    Path(purelib, "outer.pth").write_text("\n".join(places) + "\n")
    return python


def test_the_wheel_holds_the_package_and_what_enables_both_extensions(
    distributions: Path,
) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    data = [name.split(".data/data/")[1] for name in names if ".data/data/" in name]
    assert SERVER_CONFIG in data
    assert f"{LABEXTENSION}/package.json" in data
    assert f"{LABEXTENSION}/install.json" in data
    assert any(name.startswith(f"{LABEXTENSION}/static/remoteEntry.") for name in data)
    assert "mlserve_jupyter/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "node_modules" in name or name.startswith("tests/")]


def test_the_sdist_holds_the_sources_and_the_built_labextension(distributions: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert {
        "LICENSE",
        "hatch_build.py",
        "labextension/src/index.ts",
        "labextension/yarn.lock",
        "mlserve_jupyter/labextension/package.json",
        "tests/packaging/test_distributions.py",
    } <= names
    assert not [name for name in names if "node_modules" in name or name.endswith(".pyc")]


def test_the_wheel_enables_both_extensions_without_node_and_without_a_further_command(
    distributions: Path, no_node: dict[str, str], tmp_path: Path
) -> None:
    (wheel,) = distributions.glob("*.whl")
    python = make_venv(tmp_path / "venv")
    run(python, "-m", "pip", "install", "--no-deps", wheel, environment=no_node)
    isolated = {
        **no_node,
        "HOME": str(tmp_path),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
    }
    extensions = run(
        *(python, "-m", "jupyter_server.extension.serverextension", "list"),
        folder=tmp_path,
        environment=isolated,
    )
    assert "mlserve_jupyter enabled" in extensions
    assert "mlserve_jupyter 0.1.0 OK" in extensions
    extensions = run(
        *(python, "-m", "jupyterlab.labextensions", "list"), folder=tmp_path, environment=isolated
    )
    assert "mlserve-jupyter v0.1.0 enabled OK (python, mlserve_jupyter)" in extensions
    on_path = {**isolated, "PATH": f"{Path(python).parent}{os.pathsep}{isolated['PATH']}"}
    version = run(
        *(python, "-m", "jupyter_core", "mlserve", "--version"),
        folder=tmp_path,
        environment=on_path,
    )
    assert version.strip() == "0.1.0"


def test_a_source_without_built_assets_builds_without_node_on_the_path(
    distributions: Path, no_node: dict[str, str], tmp_path: Path
) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = [
            member
            for member in archive.getmembers()
            if "mlserve_jupyter/labextension/" not in member.name
        ]
        archive.extractall(tmp_path, members=members)
    (source,) = tmp_path.glob("mlserve_jupyter-*")
    python = make_venv(tmp_path / "venv")
    built = tmp_path / "wheel"
    run(python, "-m", "pip", "wheel", "--no-deps", "-w", built, source, environment=no_node)
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert any("/static/remoteEntry." in name for name in archive.namelist())
