"""The widgets of a live dashboard: what is shown, and what a person may choose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets

from mlserve_jupyter.widgets import markup
from mlserve_jupyter.widgets.page import RANGES, Page, View
from mlserve_jupyter.widgets.plots import Plot
from mlserve_jupyter.widgets.snapshot import plots_of
from mlserve_jupyter.widgets.style import style
from mlserve_jupyter.widgets.vega import vega_lite, vega_lite_bundle

N_CHARTS = 3

# A value of None would be shown as a choice that has not been made.
_ALL_MODELS, _ALL_VERSIONS = ("All models", ""), ("All versions", 0)


class Board:
    """The widgets of one dashboard.

    Everything but the callbacks may be called from any thread.

    Parameters
    ----------
    view
        What is shown first.
    chosen
        Called with what a person chose to see.
    paused, refreshed, closed
        Called when the button is pressed.

    Attributes
    ----------
    root
        What is to be displayed.
    """

    def __init__(
        self,
        view: View,
        *,
        chosen: Callable[[View], None],
        paused: Callable[[], None],
        refreshed: Callable[[], None],
        closed: Callable[[], None],
    ) -> None:
        self._view = view
        self._chosen = chosen
        self._sets_choices = False
        self._heading, self._state = ipywidgets.HTML(), ipywidgets.HTML()
        self._state.add_class("jp-mlserve-dash-push")
        self._model = ipywidgets.Dropdown(options=[_ALL_MODELS], tooltip="Model")
        self._version = ipywidgets.Dropdown(options=[_ALL_VERSIONS], tooltip="Version")
        self._range = ipywidgets.ToggleButtons(
            options=list(RANGES), value=view.range, tooltips=[f"The last {name}" for name in RANGES]
        )
        self._pause = _button("pause", "Pause")
        self._pause.add_class("jp-mlserve-dash-push")
        self._pause.on_click(lambda _: paused())
        refresh, close = _button("refresh", "Refresh now"), _button("times", "Close the dashboard")
        refresh.on_click(lambda _: refreshed())
        close.on_click(lambda _: closed())
        for choice in (self._model, self._version, self._range):
            choice.observe(self._choose, "value")
        self._trouble, self._firing, self._tiles, self._tables = (
            ipywidgets.HTML() for _ in range(4)
        )
        self._charts = tuple(_Chart() for _ in range(N_CHARTS))
        cards = ipywidgets.Box([chart.card for chart in self._charts])
        cards.add_class("jp-mlserve-dash-charts")
        self.root = ipywidgets.VBox(
            [
                ipywidgets.HTML(style()),
                _bar(self._heading, self._state),
                self._firing,
                _bar(self._model, self._version, self._range, self._pause, refresh, close),
                self._trouble,
                self._tiles,
                cards,
                self._tables,
            ]
        )
        self.root.add_class("jp-mlserve-dash")
        self.root.add_class("jp-mlserve-dash-alive")

    def attach(self, widget: Any) -> None:
        """Show one more widget with the others."""
        self.root.children = (*self.root.children, widget)

    def show(self, page: Page) -> None:
        """Show the figures of a page."""
        self._trouble.value = ""
        self._heading.value = markup.heading(page)
        self._firing.value = markup.firing(page)
        self._tiles.value = markup.tiles(page)
        self._tables.value = markup.tables(page)
        self._offer(page)

    def draw(self, page: Page) -> None:
        """Draw the charts of a page behind those that are seen, see :meth:`turn`."""
        for chart, plot in zip(self._charts, plots_of(page), strict=True):
            chart.draw(plot)

    def turn(self) -> None:
        """Bring charts that have been drawn to the front."""
        for chart in self._charts:
            chart.turn()

    def show_trouble(self, message: str) -> None:
        """Say that what is shown is not of now, and why."""
        self._trouble.value = markup.warning(message)

    def show_state(self, words: str, tone: markup.StateTone) -> None:
        """Say whether what is shown is of now."""
        self._state.value = markup.state(words, tone)

    def show_pause(self, *, is_paused: bool) -> None:
        """Let the button do what it can do next."""
        self._pause.icon = "play" if is_paused else "pause"
        self._pause.tooltip = "Go on" if is_paused else "Pause"

    def close(self) -> None:
        """Take all widgets out of the page and the kernel."""
        for widget in _all_below(self.root):
            widget.close()

    def _choose(self, change: dict[str, Any]) -> None:
        if self._sets_choices:
            return
        is_other_model = change["owner"] is self._model
        self._view = View(
            self._model.value or None,
            None if is_other_model else self._version.value or None,
            self._range.value,
        )
        self._chosen(self._view)

    def _offer(self, page: Page) -> None:
        """Offer the models and versions that there are now, without choosing another."""
        if page.view.model != self._view.model:
            return  # it was read for what was chosen before
        names = [each.name for each in page.models]
        if self._view.model is not None and self._view.model not in names:
            names.append(self._view.model)
        n_versions = 0 if page.model is None else page.model.n_versions
        self._sets_choices = True
        try:
            models = [_ALL_MODELS, *((name, name) for name in names)]
            _set_options(self._model, models, self._view.model or "")
            versions = [_ALL_VERSIONS, *((f"Version {n}", n) for n in range(n_versions, 0, -1))]
            _set_options(self._version, versions, self._view.version or 0)
            self._version.layout.display = "none" if page.model is None else None
        finally:
            self._sets_choices = False


class _Chart:
    """A chart whose next state is drawn behind the present one, so that nothing flickers."""

    def __init__(self) -> None:
        self._heading = ipywidgets.HTML()
        self._front, self._back = ipywidgets.Output(), ipywidgets.Output()
        self._back.add_class("jp-mlserve-dash-behind")
        stack = ipywidgets.Box([self._front, self._back])
        stack.add_class("jp-mlserve-dash-stack")
        self.card = ipywidgets.VBox([self._heading, stack])
        self.card.add_class("jp-mlserve-dash-card")
        self._plot: Plot | None = None
        self._is_drawn_behind = False

    def draw(self, plot: Plot) -> None:
        if plot == self._plot:
            return
        self._heading.value = markup.chart_heading(plot)
        self._back.outputs = ({"output_type": "display_data", **vega_lite_bundle(vega_lite(plot))},)
        self._plot = plot
        self._is_drawn_behind = True

    def turn(self) -> None:
        if self._is_drawn_behind:
            self._back.remove_class("jp-mlserve-dash-behind")
            self._front.add_class("jp-mlserve-dash-behind")
            self._front, self._back = self._back, self._front
            self._is_drawn_behind = False


def _bar(*widgets: Any) -> Any:
    bar = ipywidgets.Box(list(widgets))
    bar.add_class("jp-mlserve-dash-controls")
    return bar


def _button(icon: str, tooltip: str) -> Any:
    button = ipywidgets.Button(icon=icon, tooltip=tooltip)
    button.add_class("jp-mlserve-dash-icon")
    return button


def _set_options(choice: Any, options: list[tuple[str, Any]], value: Any) -> None:
    if list(choice.options) != options:
        choice.options = options
    if choice.value != value and value in [each for _, each in options]:
        choice.value = value


def _all_below(widget: Any) -> list[Any]:
    """Return a widget and all that it holds, the innermost first."""
    held = [each for child in getattr(widget, "children", ()) for each in _all_below(child)]
    return [*held, widget]
