"""A dashboard in the notebook: live where somebody looks at it, and a picture where not.

A thread of its own reads the server and sends what it reads to the widgets, so that cells run as
they would without it, and what is shown goes on while a cell runs.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from mlserve_jupyter.client.http import Client
from mlserve_jupyter.errors import MLServeError
from mlserve_jupyter.widgets import markup, snapshot
from mlserve_jupyter.widgets.attention import Attention
from mlserve_jupyter.widgets.live import Board
from mlserve_jupyter.widgets.page import Page, PageReader, View
from mlserve_jupyter.widgets.units import clock

PICTURE_EVERY_S = 60.0
_LONGEST_WAIT_S = 60.0
_DRAWING_S = 0.5

_OPEN: set[Dashboard] = set()

log = logging.getLogger(__name__)


class Dashboard:
    """A display of what the models of a server do.

    In a notebook that somebody has open it refreshes by itself, as long as it is seen; beside it, a
    picture stays in the saved notebook. Elsewhere it is a picture.

    Parameters
    ----------
    connect
        Gives a client of the server.
    view
        What is shown first.
    every_s
        Seconds between two refreshes.
    is_live
        Whether it refreshes by itself.

    Raises
    ------
    RequestFailed
        There is no such model or version.
    ServerNotFound
        No server answers.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        view: View,
        *,
        every_s: float = 5.0,
        is_live: bool = True,
    ) -> None:
        self._reader = PageReader(connect)
        self._view = view
        self._every_s = every_s
        self._is_live = is_live
        self._page = self._reader.read(view)
        self._board: Board | None = None
        self._attention: Attention | None = None
        self._pictures: list[Any] = []
        self._is_paused = False
        self._is_asked = False
        self._wakes = threading.Event()
        self._is_over = threading.Event()
        self._lock = threading.Lock()

    @property
    def page(self) -> Page:
        """What was read last."""
        return self._page

    @property
    def view(self) -> View:
        """What is shown."""
        return self._view

    @property
    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self._is_over.is_set()

    def refresh(self) -> None:
        """Read the server now, also where it is paused."""
        self._is_asked = True
        self._wakes.set()

    def pause(self) -> None:
        """Leave what is shown as it is, until :meth:`resume`."""
        self._set_paused(True)

    def resume(self) -> None:
        """Go on refreshing."""
        self._set_paused(False)

    def close(self) -> None:
        """End it; the picture of what was shown last stays."""
        with self._lock:
            if self._is_over.is_set():
                return
            self._is_over.set()
            self._wakes.set()
            _OPEN.discard(self)
            if self._board is not None:
                self._board.close()
            self._update_pictures(beside_live=False)

    def __repr__(self) -> str:
        """Give the figures as text."""
        return snapshot.text(self._page)

    def _repr_html_(self) -> str:
        return snapshot.html(self._page)

    def _ipython_display_(self) -> None:
        """Show it; IPython calls this."""
        from IPython.display import display

        if not self._is_live or self.is_closed:
            display(self._picture(beside_live=False), raw=True)  # type: ignore[no-untyped-call]
            return
        board = self._started()
        widget_view = {"version_major": 2, "version_minor": 0, "model_id": board.root.model_id}
        # Where there are no widgets, the picture below says all.
        data = {
            "application/vnd.jupyter.widget-view+json": widget_view,
            "text/html": "",
            "text/plain": "",
        }
        display(data, raw=True)  # type: ignore[no-untyped-call]
        self._pictures.append(
            display(self._picture(beside_live=True), raw=True, display_id=True)  # type: ignore[no-untyped-call]
        )

    def _started(self) -> Board:
        if self._board is None:
            # A cell that runs again leaves the dashboard behind that it showed before.
            for other in [each for each in _OPEN if each._has_gone]:
                other.close()
            _OPEN.add(self)
            self._board = Board(
                self._view,
                chosen=self._choose,
                paused=lambda: self._set_paused(not self._is_paused),
                refreshed=self.refresh,
                closed=self.close,
            )
            self._attention = Attention(self._board.root, self.refresh)
            self._board.attach(self._attention.pulse)
            self._board.show(self._page)
            self._show_state()
            threading.Thread(target=self._run, name="mlserve-dashboard", daemon=True).start()
        return self._board

    @property
    def _has_gone(self) -> bool:
        return self._attention is not None and self._attention.has_gone

    def _choose(self, view: View) -> None:
        self._view = view
        self.refresh()

    def _set_paused(self, is_paused: bool) -> None:
        self._is_paused = is_paused
        if self._board is not None:
            self._board.show_pause(is_paused=is_paused)
            self._show_state()
        self._wakes.set()

    def _run(self) -> None:
        """Refresh until it is closed."""
        n_failures = 0
        pictured = self._page
        self.refresh()
        while not self._is_over.is_set():
            self._wakes.wait(min(self._every_s * 2 ** min(n_failures, 8), _LONGEST_WAIT_S))
            self._wakes.clear()
            if self._is_over.is_set() or not self._is_wanted():
                continue
            self._is_asked = False
            n_failures = 0 if self._refresh() else n_failures + 1
            if (self._page.read_at - pictured.read_at).total_seconds() >= PICTURE_EVERY_S:
                pictured = self._page
                with self._lock:
                    if not self._is_over.is_set():
                        self._update_pictures(beside_live=True)

    def _is_wanted(self) -> bool:
        is_seen = self._attention is None or self._attention.is_given
        return self._is_asked or (is_seen and not self._is_paused)

    def _refresh(self) -> bool:
        """Read the server and show what there is; False where that failed."""
        try:
            self._page = self._reader.read(self._view)
            self._show(self._page)
        except MLServeError as error:
            self._show_trouble(error.message)
            return False
        except Exception as error:
            # Whatever it is, a thread that ends without a word would leave old figures that look
            # as if they were of now.
            log.exception("The dashboard could not be refreshed.")
            self._show_trouble(f"{type(error).__name__}: {error}")
            return False
        return True

    def _show(self, page: Page) -> None:
        if self._board is not None and not self._is_over.is_set():
            self._board.show(page)
            self._show_state()
            self._board.draw(page)
            self._is_over.wait(_DRAWING_S)
            self._board.turn()

    def _show_trouble(self, message: str) -> None:
        if self._board is not None:
            of = clock(self._page.read_at)
            self._board.show_trouble(f"{message} What is shown is of {of}; this tries again.")
            self._board.show_state("Not refreshed", "bad")

    def _show_state(self) -> None:
        if self._board is None:
            return
        if self._is_paused:
            self._board.show_state(f"Paused · {markup.read_at(self._page)}", "idle")
        else:
            words = f"Live, every {self._every_s:g} s · {markup.read_at(self._page)}"
            self._board.show_state(words, "live")

    def _picture(self, *, beside_live: bool) -> dict[str, str]:
        return {
            "text/plain": snapshot.text(self._page),
            "text/html": snapshot.html(self._page, beside_live=beside_live),
        }

    def _update_pictures(self, *, beside_live: bool) -> None:
        picture = self._picture(beside_live=beside_live)
        for handle in self._pictures:
            handle.update(picture, raw=True)


def somebody_looks() -> bool:
    """Tell whether this is the kernel of a notebook that somebody has open.

    Jupyter's server says so to the kernels of notebooks, and VS Code to all of its own; what runs
    notebooks as programs does not.
    """
    names = ("JPY_SESSION_NAME", "VSCODE_PID")
    return "ipykernel" in sys.modules and any(os.environ.get(name) for name in names)
