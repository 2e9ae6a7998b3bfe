"""The progress bar in a real kernel: there while it takes long, and gone afterwards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

ROOT = Path(__file__).parents[2]
CELL = """
import time
from mlserve_jupyter.magics.progress import Progress
with Progress("wine <b>") as progress:
    progress.sent({sent}, 100)
    time.sleep({takes_s})
"""


def messages(code: str, session_name: str) -> list[tuple[str, dict[str, Any]]]:
    """Run a cell in a new kernel and return what it puts out."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JPY_SESSION_NAME": session_name}
    manager, client = start_new_kernel(env=env)
    try:
        client.execute(code)
        seen = []
        while True:
            message = client.get_iopub_msg(timeout=30)
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return seen
            if message["msg_type"] not in ("status", "execute_input"):
                seen.append((message["msg_type"], message["content"]))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.slow
def test_a_bar_shows_the_upload_and_goes_away() -> None:
    seen = messages(CELL.format(sent=40, takes_s=0.8), "work/wine.ipynb")
    kinds = [kind for kind, _ in seen]
    assert kinds[0] == "display_data"
    assert set(kinds[1:]) == {"update_display_data"}
    shown = seen[0][1]["data"]["text/html"]
    assert '<progress value="40" max="100">' in shown
    assert "uploading wine &lt;b&gt; 40 B of 100 B" in shown
    assert seen[-1][1]["data"] == {"text/plain": "", "text/html": ""}


@pytest.mark.slow
def test_what_is_done_in_a_moment_shows_no_bar() -> None:
    assert messages(CELL.format(sent=100, takes_s=0), "work/wine.ipynb") == []


@pytest.mark.slow
def test_a_notebook_that_a_program_runs_has_no_bar_in_its_outputs() -> None:
    assert messages(CELL.format(sent=100, takes_s=0.8), "") == []


@pytest.mark.slow
def test_an_error_in_a_notebook_is_one_line() -> None:
    code = "%load_ext mlserve_jupyter\n%mlserve deploy nothing"
    kind, content = messages(code, "")[-1]
    assert kind == "error"
    assert len(content["traceback"]) == 1
    assert content["traceback"][0].startswith("NotebookError: There is no `nothing`")
