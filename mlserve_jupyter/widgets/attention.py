"""Tells whether somebody may be looking at a widget, so that nothing is refreshed for nobody.

JupyterLab counts the views of a widget and says when one goes, as with its output or its notebook.
A page that is closed says nothing; that it is there, a pulse tells, which its browser beats.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import ipywidgets

PULSE_S = 20.0
SILENCE_S = 150.0
"""Browsers slow the clocks of pages in the background down to a beat a minute."""

FIRST_VIEW_S = 60.0
"""A page has this long to show the widget."""


class Attention:
    """Watches over one widget.

    Parameters
    ----------
    root
        The widget; it gets the pulse among its children from its owner.
    came_back
        Called when somebody looks again.

    Attributes
    ----------
    pulse
        A widget without a look, to be shown with the root.
    """

    def __init__(self, root: Any, came_back: Callable[[], None]) -> None:
        self._root = root
        self._came_back = came_back
        self._heard_at_s = time.monotonic()
        self._was_shown = False
        self._main_loop_answered = threading.Event()
        self._main_loop_answered.set()
        self.pulse = ipywidgets.Play(
            max=1_000_000, repeat=True, interval=int(PULSE_S * 1000), layout={"display": "none"}
        )
        root._view_count = 0  # not None: have views counted
        root.observe(self._counted, "_view_count")
        self.pulse.observe(self._heard, "value")

    @property
    def is_given(self) -> bool:
        """Whether somebody may be looking."""
        silent_s = time.monotonic() - self._heard_at_s
        if not self._root._view_count:
            return not self._was_shown and silent_s < FIRST_VIEW_S
        if silent_s > PULSE_S:
            self._ask_main_loop()
        return silent_s < SILENCE_S

    @property
    def has_gone(self) -> bool:
        """Whether it was seen, and all its views are gone."""
        return self._was_shown and not self._root._view_count

    def _counted(self, change: dict[str, Any]) -> None:
        self._heard(change)
        if change["new"] > change["old"]:
            self._was_shown = True
            # A new page beats only once it is told to.
            self.pulse.playing = False
            self.pulse.playing = True

    def _heard(self, change: dict[str, Any]) -> None:
        was_given = self.is_given
        self._heard_at_s = time.monotonic()
        if not was_given:
            self._came_back()

    def _ask_main_loop(self) -> None:
        """While the kernel is at work on a cell, beats wait: that is no silence."""
        from ipykernel.kernelbase import Kernel

        if not self._main_loop_answered.is_set():
            self._heard_at_s = time.monotonic() - PULSE_S
            return
        loop = getattr(Kernel.instance(), "io_loop", None) if Kernel.initialized() else None
        if loop is not None:
            self._main_loop_answered.clear()
            loop.add_callback(self._main_loop_answered.set)
