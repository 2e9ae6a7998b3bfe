"""What the charts show, apart from how they are drawn: by Vega-Lite, or as SVG."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from mlserve_jupyter.api.analytics import LatencyHistogram, Percentiles, Point, TimeSeries

MAX_BARS = 48

# Told apart by people who see red and green alike, and on light and dark grounds.
BLUE, TEAL, RED = "#4a90e2", "#3fb6a8", "#e5484d"
AMBER, PURPLE = "#e69f00", "#a974d8"


@dataclass(frozen=True)
class Layer:
    """One thing that a plot over time shows.

    Attributes
    ----------
    values
        One a step; None where there is none.
    """

    name: str
    color: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class TimePlot:
    """Something over time, a value a step.

    Attributes
    ----------
    shape
        Bars that stand on each other, or lines.
    unit
        Of the values.
    begins
        When each step begins, in UTC.
    step
        How long each is.
    """

    title: str
    shape: Literal["bars", "lines"]
    unit: str
    begins: tuple[datetime, ...]
    step: timedelta
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class HistogramPlot:
    """How many calls took how long, on a logarithmic scale.

    Attributes
    ----------
    bounds_ms, counts
        Bar ``i`` lies between ``bounds_ms[i]`` and ``bounds_ms[i + 1]``.
    marks
        Names, colours and places of what is marked, in milliseconds.
    """

    title: str
    bounds_ms: tuple[float, ...]
    counts: tuple[int, ...]
    marks: tuple[tuple[str, str, float], ...] = field(default=())


Plot = TimePlot | HistogramPlot


def requests_plot(series: TimeSeries) -> TimePlot:
    """Show the calls a minute: computed, from the cache, and failed."""
    minutes = series.step_s / 60

    def a_minute(counts: list[int]) -> tuple[float, ...]:
        return tuple(count / minutes for count in counts)

    points = series.points
    computed = a_minute([max(point.n - point.cached - point.errors, 0) for point in points])
    return TimePlot(
        "Requests",
        "bars",
        "/ min",
        tuple(point.at for point in points),
        timedelta(seconds=series.step_s),
        (
            Layer("computed", BLUE, computed),
            Layer("cached", TEAL, a_minute([point.cached for point in points])),
            Layer("failed", RED, a_minute([point.errors for point in points])),
        ),
    )


def latency_plot(series: TimeSeries) -> TimePlot:
    """Show the percentiles of the calls' total time."""

    def values(name: str) -> tuple[float | None, ...]:
        return tuple(_percentile(point, name) for point in series.points)

    return TimePlot(
        "Latency",
        "lines",
        "ms",
        tuple(point.at for point in series.points),
        timedelta(seconds=series.step_s),
        (
            Layer("p50", BLUE, values("p50_ms")),
            Layer("p95", AMBER, values("p95_ms")),
            Layer("p99", PURPLE, values("p99_ms")),
        ),
    )


def histogram_plot(histogram: LatencyHistogram, total: Percentiles | None) -> HistogramPlot:
    """Show how the calls' total times lie, in at most ``MAX_BARS`` bars."""
    bounds, counts = histogram.bounds_ms, histogram.counts
    width = -(-len(counts) // MAX_BARS) or 1  # bars of the server to one that is shown
    merged = [sum(counts[i : i + width]) for i in range(0, len(counts), width)]
    edges = [*bounds[:-1:width], bounds[-1]] if counts else []
    marks = []
    if total is not None:
        marks = [
            ("p50", BLUE, total.p50_ms),
            ("p95", AMBER, total.p95_ms),
            ("p99", PURPLE, total.p99_ms),
        ]
    return HistogramPlot("Distribution", tuple(edges), tuple(merged), tuple(marks))


def _percentile(point: Point, name: str) -> float | None:
    return None if point.total is None else float(getattr(point.total, name))
