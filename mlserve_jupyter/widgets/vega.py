"""Plots as Vega-Lite, written through altair and drawn by JupyterLab itself, without a network."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from functools import lru_cache
from itertools import pairwise
from typing import Any

from mlserve_jupyter.widgets.plots import BLUE, HistogramPlot, Plot, TimePlot
from mlserve_jupyter.widgets.units import latency_text, moment, short, whole

VEGA_LITE_MIME = "application/vnd.vegalite.v5+json"
"""The newest that JupyterLab 4 draws, whatever release of altair there is."""

_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_HEIGHT_PX = 200
_GREY = "#8a8a8a"

# Grey that is readable on light and dark grounds, which a drawn chart cannot tell apart.
_CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": _GREY,
        "titleColor": _GREY,
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "gridColor": _GREY,
        "gridOpacity": 0.18,
        "domain": False,
        "tickColor": _GREY,
        "tickOpacity": 0.4,
    },
    "axisY": {"ticks": False, "labelPadding": 6, "tickCount": 4, "minExtent": 34},
    "axisX": {"grid": False, "tickCount": 6, "labelFlush": True, "labelPadding": 4},
}


def vega_lite_bundle(spec: dict[str, Any]) -> dict[str, Any]:
    """Return what makes JupyterLab draw a specification, as altair's ``to_dict`` gives it.

    Returns
    -------
    dict
        The ``data`` and ``metadata`` of an output.
    """
    return {
        "data": {VEGA_LITE_MIME: {**spec, "$schema": _SCHEMA}},
        "metadata": {VEGA_LITE_MIME: {"embed_options": {"actions": False, "renderer": "svg"}}},
    }


def vega_lite(plot: Plot) -> dict[str, Any]:
    """Return the specification of a plot, as wide as what it is in."""
    if isinstance(plot, TimePlot):
        names = tuple(layer.name for layer in plot.layers)
        colors = tuple(layer.color for layer in plot.layers)
        length = plot.step * len(plot.begins)
        form = "%H:%M" if length <= timedelta(days=2) else "%d %b"
        chart = _time_chart(plot.shape, names, colors, form)
        return {**chart, "datasets": _time_data(plot)}
    return {**_histogram_chart(), "datasets": _histogram_data(plot)}


@lru_cache(maxsize=8)
def _time_chart(
    shape: str, names: tuple[str, ...], colors: tuple[str, ...], form: str
) -> dict[str, Any]:
    """Return the chart without its data: altair checks it against a schema, which takes a while."""
    import altair as alt

    scale, axis = alt.Scale(type="utc"), alt.Axis(format=form)
    begins = alt.X("begins:T", title=None, scale=scale, axis=axis)
    color = alt.Color(
        "name:N", scale=alt.Scale(domain=list(names), range=list(colors)), legend=None
    )
    drawn = alt.Chart(alt.NamedData("values"))
    if shape == "bars":
        value = alt.Y("value:Q", title=None)
        marks = drawn.mark_rect().encode(x=begins, x2="ends:T", y=value, y2="below:Q", color=color)
    else:
        value = alt.Y("value:Q", title=None, scale=alt.Scale(zero=True))
        middle = alt.X("middle:T", title=None, scale=scale, axis=axis)
        marks = drawn.mark_line(
            strokeWidth=1.8, point=alt.OverlayMarkDef(size=24, opacity=1)
        ).encode(x=middle, y=value, color=color)
    said = [
        alt.Tooltip("when:N", title="time"),
        *(alt.Tooltip(f"said{i}:N", title=name) for i, name in enumerate(names)),
    ]
    steps = (
        alt.Chart(alt.NamedData("steps"))
        .mark_rect(opacity=0)
        .encode(x=begins, x2="ends:T", tooltip=said)
    )
    return _finished(alt.layer(marks, steps))


def _time_data(plot: TimePlot) -> dict[str, list[dict[str, Any]]]:
    times = [
        {
            "begins": _epoch_ms(begins),
            "middle": _epoch_ms(begins + plot.step / 2),
            "ends": _epoch_ms(begins + plot.step),
        }
        for begins in plot.begins
    ]
    values = []
    below = [0.0] * len(times)
    for layer in plot.layers:
        for i, (time, value) in enumerate(zip(times, layer.values, strict=True)):
            row = {**time, "name": layer.name, "value": value}
            if plot.shape == "bars":
                row["below"] = below[i]
                below[i] += value or 0.0
                row["value"] = below[i]
            values.append(row)

    def said(value: float | None) -> str:
        return latency_text(value) if plot.unit == "ms" else f"{short(value or 0)} {plot.unit}"

    steps = [
        {
            "begins": time["begins"],
            "ends": time["ends"],
            "when": moment(plot.begins[i]),
            **{f"said{n}": said(layer.values[i]) for n, layer in enumerate(plot.layers)},
        }
        for i, time in enumerate(times)
    ]
    return {"values": values, "steps": steps}


@lru_cache(maxsize=1)
def _histogram_chart() -> dict[str, Any]:
    import altair as alt

    log = alt.Scale(type="log", nice=False)
    ticks = alt.Axis(format=",~g", labelOverlap="greedy", labelSeparation=8)
    bars = (
        alt.Chart(alt.NamedData("bars"))
        .mark_rect(color=BLUE, opacity=0.75)
        .encode(
            x=alt.X("begins:Q", title=None, scale=log, axis=ticks),
            x2="ends:Q",
            y=alt.Y("count:Q", title=None),
            y2=alt.datum(0),
            tooltip=[
                alt.Tooltip("range:N", title="latency"),
                alt.Tooltip("said:N", title="requests"),
            ],
        )
    )
    color = alt.Color("color:N", scale=None, legend=None)
    marked = alt.Chart(alt.NamedData("marks"))
    rules = marked.mark_rule(strokeDash=[4, 3], strokeWidth=1.5).encode(
        x=alt.X("at:Q", scale=log),
        color=color,
        tooltip=[alt.Tooltip("said:N", title="percentile")],
    )
    return _finished(alt.layer(bars, rules))


def _histogram_data(plot: HistogramPlot) -> dict[str, list[dict[str, Any]]]:
    bars = [
        {
            "begins": begins,
            "ends": ends,
            "count": count,
            "range": f"{latency_text(begins)} to {latency_text(ends)}",
            "said": whole(count),
        }
        for (begins, ends), count in zip(pairwise(plot.bounds_ms), plot.counts, strict=True)
    ]
    marks = [
        {"at": at, "color": color, "said": f"{name} {latency_text(at)}"}
        for name, color, at in plot.marks
    ]
    return {"bars": bars, "marks": marks}


def _finished(chart: Any) -> dict[str, Any]:
    """Return a chart of altair, whose types differ by kind, as a specification."""
    spec: dict[str, Any] = chart.properties(width="container", height=_HEIGHT_PX).to_dict()
    spec.pop("$schema", None)
    return {**spec, "config": _CONFIG, "autosize": {"type": "fit", "contains": "padding"}}


def _epoch_ms(at: datetime) -> int:
    return int(at.astimezone(timezone.utc).timestamp() * 1000)
