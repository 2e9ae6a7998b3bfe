"""Plots as SVG, for a notebook that is kept: no program has to draw them again.

Text and lines have the colour of the text around them, so that they are readable on any ground.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from html import escape
from itertools import pairwise

from mlserve_jupyter.widgets.plots import BLUE, HistogramPlot, Plot, TimePlot

_WIDTH, _HEIGHT = 460, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 12, 24
_SPARK_WIDTH, _SPARK_HEIGHT = 100, 22

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
        return _words("no calls")
    first, last = plot.begins[0], plot.begins[-1] + plot.step
    length_s = (last - first).total_seconds()

    def x(at: datetime) -> float:
        return _LEFT + (at - first).total_seconds() / length_s * (_WIDTH - _LEFT - _RIGHT)

    if plot.shape == "bars":
        stacks = zip(*(layer.values for layer in plot.layers), strict=True)
        top = max(sum(value or 0 for value in stack) for stack in stacks)
    else:
        top = max((v for layer in plot.layers for v in layer.values if v is not None), default=0)
    ticks = nice_ticks(top)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / ticks[-1] * (_HEIGHT - _TOP - _BOTTOM)

    drawn = _bars(plot, x, y) if plot.shape == "bars" else _lines(plot, x, y)
    form = "%H:%M" if length_s <= 2 * 86400 else "%d %b"
    steps = [first + timedelta(seconds=length_s * i / 4) for i in range(5)]
    return (
        _grid(ticks, y)
        + drawn
        + "".join(_below(x(at), at.strftime(form), i, 4) for i, at in enumerate(steps))
    )


def _bars(plot: TimePlot, x: _X, y: _Y) -> str:
    parts = []
    for i, begins in enumerate(plot.begins):
        left, right = x(begins), x(begins + plot.step)
        width = max(right - left - 0.6, 0.4)
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
                    f'<circle cx="{across:.1f}" cy="{down:.1f}" r="2" fill="{layer.color}"/>'
                )
            else:
                parts.append(
                    f'<path d="M{_path(places)}" fill="none" stroke="{layer.color}" '
                    'stroke-width="1.6" stroke-linejoin="round"/>'
                )
    return "".join(parts)


def _histogram(plot: HistogramPlot) -> str:
    if not plot.counts:
        return _words("no calls")
    low, high = plot.bounds_ms[0], plot.bounds_ms[-1]
    length = math.log(high / low)

    def x(ms: float) -> float:
        return _LEFT + math.log(ms / low) / length * (_WIDTH - _LEFT - _RIGHT)

    ticks = nice_ticks(max(plot.counts))

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / ticks[-1] * (_HEIGHT - _TOP - _BOTTOM)

    bars = "".join(
        f'<rect x="{x(begins):.1f}" y="{y(count):.1f}" '
        f'width="{max(x(ends) - x(begins) - 0.6, 0.4):.1f}" '
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
    names = "".join(_below(x(ms), f"{ms:,g}", 1, 2) for ms in log_ticks(low, high))
    return _grid(ticks, y) + bars + marks + names


def _grid(ticks: Sequence[float], y: _Y) -> str:
    return "".join(
        f'<path d="M{_LEFT},{y(tick):.1f} H{_WIDTH - _RIGHT}" stroke="currentColor" '
        f'opacity="0.14"/><text x="{_LEFT - 6}" y="{y(tick) + 3.5:.1f}" text-anchor="end" '
        f'fill="currentColor" opacity="0.65">{tick:,g}</text>'
        for tick in ticks
    )


def _below(x: float, text: str, i: int, last: int) -> str:
    anchor = "start" if i == 0 else "end" if i == last else "middle"
    return (
        f'<text x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}" fill="currentColor" '
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
