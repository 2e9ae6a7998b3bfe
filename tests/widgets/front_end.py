"""A front end without a page: takes what a kernel sends of its widgets, and answers as one does."""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient

from tests.kernels import CELL_TIMEOUT_S, CellError

WIDGET_MIME = "application/vnd.jupyter.widget-view+json"


class FrontEnd:
    """What one kernel shows.

    Parameters
    ----------
    client
        Of the kernel.

    Attributes
    ----------
    widgets
        The state of each widget, by its id.
    pictures
        What was displayed under an id that it can be changed by, by that id.
    shown
        The ids of the widgets that were displayed.
    running
        The ids of the cells that have not ended.
    """

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client
        self.widgets: dict[str, dict[str, Any]] = {}
        self.pictures: dict[str, dict[str, str]] = {}
        self.shown: list[str] = []
        self.running: set[str] = set()
        self._errors: list[str] = []

    def run(self, code: str) -> None:
        """Run a cell and wait for its end."""
        cell = self.start(code)
        self.wait(lambda: cell not in self.running)

    def start(self, code: str) -> str:
        """Run a cell; its id is in ``running`` until it has ended."""
        cell = self._client.execute(code, allow_stdin=False)
        self.running.add(cell)
        return cell

    def wait(self, is_so: Callable[[], bool], timeout_s: float = CELL_TIMEOUT_S) -> None:
        """Take what the kernel sends until something is so."""
        deadline = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < deadline, f"It did not come to be so: {self.html[-4000:]}"
            try:
                self._take(self._client.get_iopub_msg(timeout=0.2))
            except Empty:
                continue
            if self._errors:
                raise CellError("\n".join(self._errors))

    def say(self, widget: str, **state: Any) -> None:
        """Change the state of a widget, as a page does."""
        content = {
            "comm_id": widget,
            "data": {"method": "update", "state": state, "buffer_paths": []},
        }
        self._client.shell_channel.send(self._client.session.msg("comm_msg", content))

    def press(self, tooltip: str) -> None:
        """Press a button."""
        (button,) = [id for id, state in self.widgets.items() if state.get("tooltip") == tooltip]
        content = {
            "comm_id": button,
            "data": {"method": "custom", "content": {"event": "click"}},
        }
        self._client.shell_channel.send(self._client.session.msg("comm_msg", content))

    @property
    def root(self) -> str:
        """The widget that was displayed last."""
        return self.shown[-1]

    @property
    def html(self) -> str:
        """All that widgets show as HTML."""
        return "".join(
            str(state["value"])
            for state in self.widgets.values()
            if state.get("_model_name") == "HTMLModel"
        )

    @property
    def picture(self) -> str:
        """The HTML of the picture that was displayed last."""
        return list(self.pictures.values())[-1]["text/html"]

    def _take(self, message: dict[str, Any]) -> None:
        content = message["content"]
        match message["header"]["msg_type"]:
            case "comm_open":
                self.widgets[content["comm_id"]] = content["data"].get("state", {})
            case "comm_msg" if content["data"].get("method") == "update":
                self.widgets.setdefault(content["comm_id"], {}).update(content["data"]["state"])
            case "comm_close":
                self.widgets.pop(content["comm_id"], None)
            case "display_data" | "update_display_data":
                if WIDGET_MIME in content["data"]:
                    self.shown.append(content["data"][WIDGET_MIME]["model_id"])
                elif "display_id" in content.get("transient", {}):
                    self.pictures[content["transient"]["display_id"]] = content["data"]
            case "error":
                self._errors.extend(content["traceback"])
            case "status" if content["execution_state"] == "idle":
                self.running.discard(message["parent_header"].get("msg_id", ""))
