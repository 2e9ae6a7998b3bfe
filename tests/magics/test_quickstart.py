"""The quickstart notebook, run by nbval against a real Jupyter server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import LiveServer

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"


@pytest.mark.slow
def test_the_quickstart_runs_and_every_checked_output_is_as_it_says(own_server: LiveServer) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval", str(NOTEBOOK)],
        env={**own_server.env, "PYTHONPATH": str(NOTEBOOK.parents[1])},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    versions = own_server.request("GET", "api/v1/models/wine/versions").json()["items"]
    assert [version["version"] for version in versions] == [2, 1]


def test_the_quickstart_is_kept_with_the_outputs_that_are_checked() -> None:
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    checked = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and "NBVAL_IGNORE_OUTPUT" not in cell.source
    ]
    assert sum("True" in str(cell.outputs) for cell in checked) >= 5
