"""Run a notebook on a running Jupyter server, in a kernel of that server, and save its outputs.

``JUPYTER_TOKEN=… python scripts/run_notebook.py http://127.0.0.1:8888/ quickstart.ipynb`` opens a
session as JupyterLab does, so that the notebook has its kernel when it is opened there afterwards.
The outputs are marked as trusted, as those of cells that a person runs are.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from typing import Any

import httpx
import nbformat
import nbformat.v4
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

CELL_TIMEOUT_S = 300.0
OUTPUT_TYPES = frozenset({"execute_result", "display_data", "stream", "error"})


class CellFailed(Exception):
    """A cell raised an error."""


async def run(url: str, path: str, token: str) -> None:
    """Run the notebook at ``path`` of the server at ``url``.

    Raises
    ------
    CellFailed
        If a cell raises; the notebook is saved with what it said.
    """
    headers = {"Authorization": f"token {token}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60.0) as server:
        opened = await server.get(f"api/contents/{path}", params={"content": 1})
        notebook = nbformat.from_dict(opened.raise_for_status().json()["content"])
        session = await server.post(
            "api/sessions",
            json={"path": path, "name": path, "type": "notebook", "kernel": {"name": "python3"}},
        )
        kernel_id = session.raise_for_status().json()["kernel"]["id"]
        channels = HTTPRequest(
            f"ws{url[len('http') :]}api/kernels/{kernel_id}/channels", headers=headers
        )
        kernel = await websocket_connect(channels)
        try:
            await _run_cells(notebook, kernel)
        finally:
            kernel.close()
            for cell in _code_cells(notebook):
                cell.metadata["trusted"] = True
            saved = await server.put(
                f"api/contents/{path}", json={"type": "notebook", "content": notebook}
            )
            saved.raise_for_status()


async def _run_cells(notebook: nbformat.NotebookNode, kernel: WebSocketClientConnection) -> None:
    cells = [cell for cell in _code_cells(notebook) if cell.source.strip()]
    for number, cell in enumerate(cells, 1):
        lines = cell.source.strip().splitlines()
        shown = next((line for line in lines if not line.startswith("#")), lines[0])
        print(f"      cell {number} of {len(cells)}: {shown[:70]}", flush=True)
        await asyncio.wait_for(_run_cell(cell, kernel), CELL_TIMEOUT_S)


def _code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


async def _run_cell(cell: nbformat.NotebookNode, kernel: WebSocketClientConnection) -> None:
    """Run one cell and put its outputs, as they come, where JupyterLab would put them."""
    message_id = uuid.uuid4().hex
    await kernel.write_message(_execute_request(message_id, cell.source))
    cell.outputs = []
    is_idle = is_answered = False
    while not (is_idle and is_answered):
        text = await kernel.read_message()
        if text is None:
            raise CellFailed("The kernel's connection was closed: the kernel has died.")
        message = json.loads(text)
        if message["parent_header"].get("msg_id") != message_id:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "execute_reply":
            is_answered = True
            cell.execution_count = content["execution_count"]
        elif kind == "status":
            is_idle = is_idle or content["execution_state"] == "idle"
        else:
            _put_output(cell, kind, message)
    for output in cell.outputs:
        output.get("metadata", {}).pop("_display_id", None)
        if output.output_type == "error":
            raise CellFailed(f"{output.ename}: {output.evalue}")


def _put_output(cell: nbformat.NotebookNode, kind: str, message: dict[str, Any]) -> None:
    """Add, replace or clear outputs as one message of the kernel says."""
    content = message["content"]
    if kind == "clear_output":
        cell.outputs = []
    elif kind == "update_display_data":
        for output in cell.outputs:
            if output.get("metadata", {}).get("_display_id") == content["transient"]["display_id"]:
                output.data = nbformat.from_dict(content["data"])
    elif kind in OUTPUT_TYPES:
        output = nbformat.v4.output_from_msg(message)
        display_id = content.get("transient", {}).get("display_id")
        if display_id is not None:
            output.metadata["_display_id"] = display_id
        if kind == "stream" and cell.outputs and cell.outputs[-1].get("name") == content["name"]:
            cell.outputs[-1].text += content["text"]
        else:
            cell.outputs.append(output)


def _execute_request(message_id: str, code: str) -> str:
    """Return the message of the Jupyter protocol that runs ``code``."""
    return json.dumps(
        {
            "channel": "shell",
            "header": {
                "msg_id": message_id,
                "msg_type": "execute_request",
                "session": uuid.uuid4().hex,
                "username": "",
                "version": "5.3",
            },
            "parent_header": {},
            "metadata": {},
            "content": {
                "code": code,
                "silent": False,
                "store_history": True,
                "user_expressions": {},
                "allow_stdin": False,
                "stop_on_error": True,
            },
            "buffers": [],
        }
    )


def main() -> int:
    """Run the command."""
    url, path = sys.argv[1:]
    try:
        asyncio.run(run(url, path, os.environ["JUPYTER_TOKEN"]))
    except (CellFailed, httpx.HTTPError) as error:
        print(f"run_notebook: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
