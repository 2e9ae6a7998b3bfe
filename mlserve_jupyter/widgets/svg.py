"""Plots as SVG, for a notebook that is kept: no program has to draw them again.

Text and lines have the colour of the text around them, so that they are readable on any ground.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from html import escape
from itertools import pairwise

from mlserve_jupyter.widgets.plots import BLUE, HistogramPlot, Plot, TimePlot

_WIDTH, _HEIGHT = 460, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 12, 24
_SPARK_WIDTH, _SPARK_HEIGHT = 100, 22
_CHAR_WIDTH = 6.2
_POINT, _LEAST_BAR = 3, 1.5
"""What stands alone is to be seen."""

_TIME_STEPS = tuple(
    timedelta(minutes=minutes)
    for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10080, 20160, 43200)
)

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_X = Callable[[datetime], float]
_Y = Callable[[float], float]


def svg(plot: Plot) -> str:
    """Draw a plot."""
    drawn = _time(plot) if isinstance(plot, TimePlot) else _histogram(plot)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="100%" role="img" '
        f'aria-label="{escape(plot.title)}" xmlns="http://www.w3.org/2000/svg" '
        f'font-family="system-ui,sans-serif" font-size="10.5">{drawn}</svg>'
    )


def sparkline(values: Sequence[float | None], color: str) -> str:
    """Draw a line without axes; a step without a value is a gap."""
    top = max((value for value in values if value is not None), default=0.0) or 1.0
    across = _SPARK_WIDTH / max(len(values) - 1, 1)

    def place(i: int, value: float) -> tuple[float, float]:
        return i * across, _SPARK_HEIGHT - 1.5 - value / top * (_SPARK_HEIGHT - 3)

    runs = [
        [place(i, value) for i, value in run]
        for run in _runs([(i, value) for i, value in enumerate(values)])
    ]
    ground = "".join(
        f'<path d="M{run[0][0]:.1f},{_SPARK_HEIGHT} L{_path(run)} L{run[-1][0]:.1f},'
        f'{_SPARK_HEIGHT}Z" fill="{color}" opacity="0.13"/>'
        for run in runs
    )
    lines = "".join(
        f'<path d="M{_path(run if len(run) > 1 else [run[0], run[0]])}" fill="none" '
        f'stroke="{color}" stroke-width="1.4" stroke-linecap="round" '
        'vector-effect="non-scaling-stroke"/>'
        for run in runs
    )
    return (
        f'<svg viewBox="0 0 {_SPARK_WIDTH} {_SPARK_HEIGHT}" width="100%" height="{_SPARK_HEIGHT}" '
        f'preserveAspectRatio="none" aria-hidden="true">{ground}{lines}</svg>'
    )


def nice_ticks(top: float, n: int = 4) -> list[float]:
    """Return round numbers from 0 to at least ``top``: about ``n`` steps of 1, 2 or 5 × 10ⁿ."""
    if top <= 0:
        return [0.0, 1.0]
    rough = top / n
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough * (1 - 1e-9))
    return [step * i for i in range(math.ceil(top / step - 1e-9) + 1)]


def time_ticks(first: datetime, last: datetime, n: int = 8) -> list[tuple[datetime, str]]:
    """Return at most ``n`` round times of a range, with the words for them.

    Midnight has its day, all others the time of day.
    """
    length = last - first
    steps = (*_TIME_STEPS, _TIME_STEPS[-1] * math.ceil(length / _TIME_STEPS[-1] / (n - 1)))
    step = next(each for each in steps if length <= each * (n - 1))
    ticks = []
    at = first + (_EPOCH - first) % step
    while at <= last:
        is_day = at.hour == at.minute == 0
        ticks.append((at, f"{at:%d %b}" if is_day else f"{at:%H:%M}"))
        at += step
    return ticks


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten between two numbers, with 2 and 5 times each where they are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        ticks = [
            f * 10.0**power for power in powers for f in factors if low <= f * 10.0**power <= high
        ]
        if len(ticks) >= 4:
            return ticks
    return ticks or [low, high]


def _time(plot: TimePlot) -> str:
    if not plot.begins:
        return _words("no requests")
    first, last = plot.begins[0], plot.begins[-1] + plot.step
    length_s = (last - first).total_seconds()

    def x(at: datetime) -> float:
        return _LEFT + (at - first).total_seconds() / length_s * (_WIDTH - _LEFT - _RIGHT)

    ticks = nice_ticks(plot.top)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / ticks[-1] * (_HEIGHT - _TOP - _BOTTOM)

    drawn = _bars(plot, x, y) if plot.shape == "bars" else _lines(plot, x, y)
    times = time_ticks(first, last)
    return _grid(ticks, y) + drawn + "".join(_below(x(at), text) for at, text in times)


def _bars(plot: TimePlot, x: _X, y: _Y) -> str:
    parts = []
    for i, begins in enumerate(plot.begins):
        left, right = x(begins), x(begins + plot.step)
        width = max(right - left - 0.6, _LEAST_BAR)
        below = 0.0
        for layer in plot.layers:
            value = layer.values[i] or 0.0
            if value > 0:
                parts.append(
                    f'<rect x="{left:.1f}" y="{y(below + value):.1f}" width="{width:.1f}" '
                    f'height="{y(below) - y(below + value):.1f}" fill="{layer.color}"/>'
                )
            below += value
    return "".join(parts)


def _lines(plot: TimePlot, x: _X, y: _Y) -> str:
    parts = []
    for layer in plot.layers:
        for run in _runs(list(enumerate(layer.values))):
            places = [(x(plot.begins[i] + plot.step / 2), y(value)) for i, value in run]
            if len(places) == 1:
                ((across, down),) = places
                parts.append(
                    f'<circle cx="{across:.1f}" cy="{down:.1f}" r="{_POINT}" fill="{layer.color}"/>'
                )
            else:
                parts.append(
                    f'<path d="M{_path(places)}" fill="none" stroke="{layer.color}" '
                    'stroke-width="1.6" stroke-linejoin="round"/>'
                )
    return "".join(parts)


def _histogram(plot: HistogramPlot) -> str:
    if not plot.counts:
        return _words("no requests")
    low, high = plot.range_ms
    length = math.log(high / low)

    def x(ms: float) -> float:
        return _LEFT + math.log(ms / low) / length * (_WIDTH - _LEFT - _RIGHT)

    ticks = nice_ticks(plot.top)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / ticks[-1] * (_HEIGHT - _TOP - _BOTTOM)

    bars = "".join(
        f'<rect x="{x(begins):.1f}" y="{y(count):.1f}" '
        f'width="{max(x(ends) - x(begins) - 0.6, _LEAST_BAR):.1f}" '
        f'height="{y(0) - y(count):.1f}" fill="{BLUE}" opacity="0.75"/>'
        for (begins, ends), count in zip(pairwise(plot.bounds_ms), plot.counts, strict=True)
        if count
    )
    marks = "".join(
        f'<path d="M{x(at):.1f},{_TOP} V{_HEIGHT - _BOTTOM}" stroke="{color}" stroke-width="1.5" '
        'stroke-dasharray="4 3"/>'
        for _, color, at in plot.marks
        if low <= at <= high
    )
    names = "".join(_below(x(ms), f"{ms:,g}") for ms in log_ticks(low, high))
    return _grid(ticks, y) + bars + marks + names


def _grid(ticks: Sequence[float], y: _Y) -> str:
    return "".join(
        f'<path d="M{_LEFT},{y(tick):.1f} H{_WIDTH - _RIGHT}" stroke="currentColor" '
        f'opacity="0.14"/><text x="{_LEFT - 6}" y="{y(tick) + 3.5:.1f}" text-anchor="end" '
        f'fill="currentColor" opacity="0.65">{tick:,g}</text>'
        for tick in ticks
    )


def _below(x: float, text: str) -> str:
    """Write below the axis, within the picture."""
    half = len(text) * _CHAR_WIDTH / 2
    middle = min(max(x, half), _WIDTH - half)
    return (
        f'<text x="{middle:.1f}" y="{_HEIGHT - 8}" text-anchor="middle" fill="currentColor" '
        f'opacity="0.65">{escape(text)}</text>'
    )


def _words(text: str) -> str:
    return (
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT / 2}" text-anchor="middle" fill="currentColor" '
        f'opacity="0.65">{escape(text)}</text>'
    )


def _runs(values: list[tuple[int, float | None]]) -> list[list[tuple[int, float]]]:
    """Part values at the gaps."""
    runs: list[list[tuple[int, float]]] = [[]]
    for i, value in values:
        if value is not None:
            runs[-1].append((i, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _path(places: Sequence[tuple[float, float]]) -> str:
    return " L".join(f"{across:.1f},{down:.1f}" for across, down in places)
