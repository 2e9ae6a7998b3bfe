"""Imports point down only, as the contracts in ``pyproject.toml`` say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINTER = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINTER, "--no-cache", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_import_contracts_hold() -> None:
    ended = lint(ROOT)
    assert ended.returncode == 0, ended.stdout


def test_an_import_that_points_up_breaks_the_contracts(tmp_path: Path) -> None:
    package = tmp_path / "uphill"
    (package / "storage").mkdir(parents=True)
    (package / "server").mkdir()
    for folder in (package, package / "storage", package / "server"):
        (folder / "__init__.py").touch()
    (package / "storage" / "tables.py").write_text("import uphill.server\n")
    (tmp_path / "contracts.toml").write_text(
        '[tool.importlinter]\nroot_package = "uphill"\n'
        '[[tool.importlinter.contracts]]\nname = "down"\ntype = "layers"\n'
        'containers = ["uphill"]\nlayers = ["server", "storage"]\n'
    )
    ended = lint(tmp_path, "--config", "contracts.toml")
    assert ended.returncode == 1
    assert "uphill.storage.tables -> uphill.server" in ended.stdout
