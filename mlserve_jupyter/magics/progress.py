"""The progress of a deploy, shown while it takes noticeably long and gone when it is over."""

from __future__ import annotations

import os
import sys
import threading
import time
from html import escape
from types import TracebackType
from typing import Any

from mlserve_jupyter.magics.display import size

SHOWN_AFTER_S = 0.3
_TICK_S = 0.1


class Progress:
    """A bar in a notebook that someone looks at, a line in a terminal, and nothing elsewhere.

    A context manager. The bar is plain HTML rather than a widget: it needs no widget extension,
    and leaves no dead widget behind in the saved notebook.

    Parameters
    ----------
    name
        What is deployed.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._sent_bytes = 0
        self._total_bytes = 0
        self._phase = "packing"
        self._started_at_s = time.monotonic()
        self._over = threading.Event()
        self._line = _line_for_this_process()
        self._thread = threading.Thread(target=self._show, name="mlserve-progress", daemon=True)

    def __enter__(self) -> Progress:
        """Start to show it."""
        if self._line is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove it."""
        self._over.set()
        if self._line is not None:
            self._thread.join()
            self._line.clear()

    def sent(self, sent_bytes: int, total_bytes: int) -> None:
        """Note how much of the upload is done."""
        self._sent_bytes, self._total_bytes = sent_bytes, total_bytes
        self._phase = "uploading" if sent_bytes < total_bytes else "verifying"

    def _show(self) -> None:
        if self._over.wait(SHOWN_AFTER_S) or self._line is None:
            return
        while True:
            self._line.show(self._words(), self._sent_bytes, self._total_bytes or 1)
            if self._over.wait(_TICK_S):
                return

    def _words(self) -> str:
        elapsed_s = time.monotonic() - self._started_at_s
        done = ""
        if self._phase == "uploading":
            done = f" {size(self._sent_bytes)} of {size(self._total_bytes)}"
        return f"{self._phase} {self._name}{done}… {elapsed_s:.0f} s"


class _NotebookLine:
    """An output of the cell that is replaced in place."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, words: str, done: int, total: int) -> None:
        from IPython.display import display

        # While the server verifies, nobody knows how much is done: a bar without a value.
        value = f' value="{done}" max="{total}"' if done < total else ""
        data = {
            "text/plain": words,
            "text/html": f"<progress{value}></progress> <span>{escape(words)}</span>",
        }
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(data, raw=True)

    def clear(self) -> None:
        if self._handle is not None:
            self._handle.update({"text/plain": "", "text/html": ""}, raw=True)


class _TerminalLine:
    """A line of the terminal that is written over."""

    def __init__(self) -> None:
        self._width = 0

    def show(self, words: str, done: int, total: int) -> None:
        sys.stderr.write(f"\r{words:{self._width}}")
        sys.stderr.flush()
        self._width = len(words)

    def clear(self) -> None:
        if self._width:
            sys.stderr.write(f"\r{'':{self._width}}\r")
            sys.stderr.flush()


def _line_for_this_process() -> _NotebookLine | _TerminalLine | None:
    """Choose how to show it: nobody looks while a notebook is executed by a program."""
    if "ipykernel" in sys.modules:
        # Jupyter's server sets this for the kernel of a notebook that somebody has open.
        return _NotebookLine() if os.environ.get("JPY_SESSION_NAME") else None
    return _TerminalLine() if sys.stderr.isatty() else None
