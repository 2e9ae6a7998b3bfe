"""Runs code in real kernels of a real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from jupyter_client.blocking.client import BlockingKernelClient

from tests.live import LiveServer

CELL_TIMEOUT_S = 120.0
START_TIMEOUT_S = 60.0


class CellError(AssertionError):
    """A cell raised."""


@dataclass
class LiveKernel:
    """A kernel that the server has started."""

    client: BlockingKernelClient

    def run(self, code: str) -> str:
        """Run a cell; return what it printed and its result as text.

        Raises
        ------
        CellError
            If the cell raises; with the traceback as the notebook shows it.
        """
        text: list[str] = []

        def collect(message: dict[str, Any]) -> None:
            content = message["content"]
            match message["header"]["msg_type"]:
                case "stream":
                    text.append(content["text"])
                case "execute_result" | "display_data":
                    text.append(content["data"].get("text/plain", ""))
                case "error":
                    text.extend(content["traceback"])

        reply = self.client.execute_interactive(
            code, output_hook=collect, timeout=CELL_TIMEOUT_S, allow_stdin=False
        )
        shown = "\n".join(text)
        if reply["content"]["status"] != "ok":
            raise CellError(shown)
        return shown


@contextmanager
def start_kernel(server: LiveServer, name: str = "python3") -> Iterator[LiveKernel]:
    """Have the server start a kernel, as JupyterLab does when a notebook is opened."""
    headers = {"Authorization": f"token {server.token}"}
    with httpx.Client(base_url=server.jupyter_url, headers=headers, timeout=60) as http:
        session = http.post(
            "api/sessions",
            json={
                "path": "walk.ipynb",
                "name": "walk.ipynb",
                "type": "notebook",
                "kernel": {"name": name},
            },
        )
        assert session.status_code == 201, session.text
        kernel_id = session.json()["kernel"]["id"]
        client = BlockingKernelClient(
            connection_file=str(server.runtime_dir / f"kernel-{kernel_id}.json")
        )
        client.load_connection_file()
        client.hb_channel.time_to_dead = START_TIMEOUT_S  # on a machine at work, a beat takes long
        client.start_channels()
        try:
            client.wait_for_ready(timeout=START_TIMEOUT_S)
            yield LiveKernel(client)
        finally:
            client.stop_channels()
            http.delete(f"api/sessions/{session.json()['id']}")
