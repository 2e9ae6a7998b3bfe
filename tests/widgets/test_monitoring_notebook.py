"""The monitoring notebook, run by nbval against a real Jupyter server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import LiveServer

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "monitoring.ipynb"


@pytest.mark.slow
def test_the_monitoring_notebook_runs_and_counts_every_call(own_server: LiveServer) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval", str(NOTEBOOK)],
        env={**own_server.env, "PYTHONPATH": str(NOTEBOOK.parents[1])},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    report = own_server.request("GET", "api/v1/analytics/models/cellar/summary").json()
    assert report["all"]["n"] == 800


def test_the_monitoring_notebook_is_kept_with_the_outputs_that_are_checked() -> None:
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    checked = [
        cell.outputs
        for cell in notebook.cells
        if cell.cell_type == "code" and "NBVAL_IGNORE_OUTPUT" not in cell.source and cell.outputs
    ]
    assert len(checked) >= 5
