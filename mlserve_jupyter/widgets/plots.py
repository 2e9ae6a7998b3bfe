"""What the charts show, apart from how they are drawn: by Vega-Lite, or as SVG."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import ClassVar, Literal

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
    least_top
        What the axis reaches at least, so that plots can be held against each other.
    """

    title: str
    shape: Literal["bars", "lines"]
    unit: str
    begins: tuple[datetime, ...]
    step: timedelta
    layers: tuple[Layer, ...]
    least_top: float = 0.0

    @property
    def top(self) -> float:
        """How high the axis has to reach."""
        if self.shape == "bars":
            stacks = zip(*(layer.values for layer in self.layers), strict=True)
            highest = max((sum(value or 0 for value in stack) for stack in stacks), default=0.0)
        else:
            values = (value for layer in self.layers for value in layer.values if value is not None)
            highest = max(values, default=0.0)
        return max(highest, self.least_top)


@dataclass(frozen=True)
class HistogramPlot:
    """How many calls took how long, on a logarithmic scale.

    Attributes
    ----------
    bounds_ms, counts
        Bar ``i`` lies between ``bounds_ms[i]`` and ``bounds_ms[i + 1]``.
    marks
        Names, colours and places of what is marked, in milliseconds.
    least_top, least_range_ms
        What the axes reach at least, so that plots can be held against each other.
    """

    title: str
    bounds_ms: tuple[float, ...]
    counts: tuple[int, ...]
    marks: tuple[tuple[str, str, float], ...] = field(default=())
    least_top: int = 0
    least_range_ms: tuple[float, float] | None = None

    unit: ClassVar[str] = "ms"

    @property
    def top(self) -> int:
        """How high the axis has to reach."""
        return max((*self.counts, self.least_top))

    @property
    def range_ms(self) -> tuple[float, float]:
        """From where to where the axis has to reach; only where there was a call."""
        ends = (*self.bounds_ms[:1], *self.bounds_ms[-1:], *(self.least_range_ms or ()))
        return min(ends), max(ends)


Plot = TimePlot | HistogramPlot


def on_same_scale(*plots: TimePlot) -> tuple[TimePlot, ...]:
    """Give plots of the same steps one axis."""
    top = max(plot.top for plot in plots)
    return tuple(replace(plot, least_top=top) for plot in plots)


def on_same_axes(*plots: HistogramPlot) -> tuple[HistogramPlot, ...]:
    """Give histograms the same axes; those without a call have none."""
    called = [plot for plot in plots if plot.counts]
    if not called:
        return plots
    top = max(plot.top for plot in called)
    low = min(plot.range_ms[0] for plot in called)
    high = max(plot.range_ms[1] for plot in called)
    return tuple(replace(plot, least_top=top, least_range_ms=(low, high)) for plot in plots)


def requests_plot(series: TimeSeries) -> TimePlot:
    """Show the calls a minute: computed, from the cache, and errors."""
    minutes = series.step_s / 60

    def a_minute(counts: list[int]) -> tuple[float, ...]:
        return tuple(count / minutes for count in counts)

    points = series.points
    computed = a_minute([max(point.n - point.cached - point.errors, 0) for point in points])
    return TimePlot(
        "Requests",
        "bars",
        "per minute",
        tuple(point.at for point in points),
        timedelta(seconds=series.step_s),
        (
            Layer("computed", BLUE, computed),
            Layer("cache hits", TEAL, a_minute([point.cached for point in points])),
            Layer("errors", RED, a_minute([point.errors for point in points])),
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
