"""The parts of a dashboard as HTML: heading, tiles, tables and the keys of charts.

Names, notes and messages come from others: every text goes through ``escape`` here. The elements
are such that they can be read where no style reaches them, as in a notebook that is not trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Literal

from mlserve_jupyter.api.analytics import Figures
from mlserve_jupyter.api.resources import DescribePrediction
from mlserve_jupyter.widgets.page import Page
from mlserve_jupyter.widgets.plots import AMBER, BLUE, PURPLE, RED, TEAL, Plot, TimePlot
from mlserve_jupyter.widgets.svg import sparkline
from mlserve_jupyter.widgets.units import (
    NOTHING,
    clock,
    counted,
    latency,
    latency_text,
    moment,
    seconds_of,
    share,
    short,
    since,
    whole,
)

Tone = Literal["plain", "warn", "bad"]
_When = Callable[[datetime | None], str]
StateTone = Literal["live", "idle", "bad"]

_WARN_RATE, _BAD_RATE = 0.01, 0.05
_MAX_ROWS = 60
_MAX_ALERTS = 3


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes
    ----------
    is_number
        Numbers stand right.
    bar
        A bar behind the text, 0 to 1 of the cell.
    title
        Shown when the pointer rests on it.
    """

    text: str
    is_number: bool = False
    tone: Tone = "plain"
    bar: float | None = None
    title: str = ""


def part(name: str, content: str, *more: str, tag: str = "div", **attributes: str) -> str:
    """Put HTML into an element, whose looks go by its name and by ``more`` names."""
    classes = " ".join(f"jp-mlserve-dash-{each}" for each in (name, *more))
    given = "".join(f' {key}="{escape(value)}"' for key, value in attributes.items())
    return f'<{tag} class="{classes}"{given}>{content}</{tag}>'


def heading(page: Page) -> str:
    """Say what the dashboard is about, and of whom."""
    if page.model is None:
        return _heading("All models", counted(len(page.models), "model"))
    model = page.model
    if page.view.version is not None:
        about = f"version {page.view.version} alone"
    elif model.default_version is None:
        about = "no version is active"
    else:
        about = f"version {model.default_version} answers"
    return _heading(page.view.model or model.name, about)


def firing(page: Page) -> str:
    """Say what is out of its limits, in the server's words; nothing where nothing is."""
    if not page.alerts:
        return ""
    lines = [
        part(
            "over" if alert.value > alert.limit else "easing", f"<b>Alert</b> {escape(alert.text)}"
        )
        for alert in page.alerts[:_MAX_ALERTS]
    ]
    left_out = len(page.alerts) - len(lines)
    if left_out:
        lines.append(_note(f"and {counted(left_out, 'more alert')}: see `%mlserve alerts`"))
    return part("firing", "".join(lines), role="status")


def tiles(page: Page) -> str:
    """Show the figures that matter, each with how it went."""
    figures, points = page.figures, page.series.points
    total = figures.total

    def percentile(name: str, color: str, note: str) -> str:
        ms = None if total is None else getattr(total, name)
        values = [None if p.total is None else getattr(p.total, name) for p in points]
        return _tile(name.removesuffix("_ms"), *latency(ms), note, sparkline(values, color))

    requests = [float(point.n) for point in points]
    errors = [point.error_rate if point.n else None for point in points]
    cached = [point.cache_hit_rate if point.n else None for point in points]
    return _row_of_tiles(
        (
            _tile(
                "Requests",
                short(page.per_minute),
                "/ min",
                f"{whole(figures.n)} in {page.view.range}",
                sparkline(requests, BLUE),
            ),
            _tile(
                "Error rate",
                share(figures.error_rate) if figures.n else NOTHING,
                "%",
                counted(figures.errors, "error"),
                sparkline(errors, RED),
                _tone(figures),
            ),
            percentile("p50_ms", BLUE, "half are faster"),
            percentile("p95_ms", AMBER, "1 in 20 is slower"),
            percentile("p99_ms", PURPLE, "1 in 100 is slower"),
            _tile(
                "Cache hits",
                share(figures.cache_hit_rate) if figures.n else NOTHING,
                "%",
                f"{whole(figures.cached)} not computed",
                sparkline(cached, TEAL),
            ),
        )
    )


def chart_heading(plot: Plot) -> str:
    """Show a chart's title and the key to its colours."""
    named = (
        [(layer.name, layer.color) for layer in plot.layers]
        if isinstance(plot, TimePlot)
        else [(name, color) for name, color, _ in plot.marks]
    )
    keys = (
        part("key", f'<i style="background:{color}"></i>{escape(name)}', tag="span")
        for name, color in named
    )
    title = f"<b>{escape(plot.title)}</b> <small>{escape(plot.unit)}</small> "
    return part("charthead", title + part("keys", " ".join(keys), tag="span"))


def tables(page: Page, *, stands_still: bool = False) -> str:
    """Show what is behind the figures: models or versions, stages and callers, and calls.

    Parameters
    ----------
    stands_still
        Whether it may be read long after: with times, instead of how long ago something was.
    """

    def when(at: datetime | None) -> str:
        return seconds_of(at) if stands_still and at else since(at, page.read_at)

    parts = [_models(page, when) if page.model is None else _versions(page)]
    if page.figures.n:
        parts.append(_side_by_side(_stages(page.figures), _callers(page)))
    parts.append(_calls(page, when))
    if page.lost:
        parts.append(
            _note(
                f"{counted(page.lost, 'request')} of this server never reached the log, and "
                "nothing here counts them."
            )
        )
    return "".join(parts)


def state(words: str, tone: StateTone) -> str:
    """Say whether what is shown is of now."""
    return part("state", f"<i></i>{escape(words)}", tone)


def warning(message: str) -> str:
    """Show what went wrong, in words of the server or the client."""
    return part("alert", escape(message), role="alert")


def read_at(page: Page) -> str:
    """Say of when the figures are, and of which server."""
    return f"{clock(page.read_at)} · {page.server_url}"


def _heading(name: str, about: str) -> str:
    return part("title", f"<b>{escape(name)}</b> <span>{escape(about)}</span>")


def _row_of_tiles(each: Iterable[str]) -> str:
    return part("tiles", f"<tbody><tr>{''.join(each)}</tr></tbody>", tag="table")


def _tile(label: str, value: str, unit: str, note: str, trend: str, tone: Tone = "plain") -> str:
    shown = f"<b>{escape(value)}</b> <small>{escape(unit)}</small>"
    content = part("label", escape(label)) + part("value", shown) + part("about", escape(note))
    return part("tile", content + trend, tone, tag="td")


def _models(page: Page, when: _When) -> str:
    known = {model.name: model for model in page.models}
    figures = {each.model: each for each in page.model_figures}
    busiest = max((each.n for each in page.model_figures), default=0) or 1
    quiet = [model.name for model in page.models if model.name not in figures]
    rows = []
    for name in [*figures, *quiet][:_MAX_ROWS]:
        model, called = known.get(name), figures.get(name)
        version = "" if model is None else str(model.default_version or "none active")
        last = when(model.last_called_at if model else None)
        rows.append([Cell(name), Cell(version), *_figure_cells(called, busiest), Cell(last, True)])
    if not rows:
        return _section(
            "Models",
            _note("No model is deployed yet: deploy one with `%mlserve deploy clf`."),
        )
    table = _table(("model", "version", *_FIGURES, "#last call"), rows)
    left_out = len(figures) + len(quiet) - len(rows)
    more = _note(f"and {left_out} more") if left_out > 0 else ""
    return _section("Models", table + more)


def _versions(page: Page) -> str:
    busiest = max((each.n for each in page.version_figures), default=0) or 1
    default = None if page.model is None else page.model.default_version
    rows = [
        [
            Cell(f"{each.version}{' (answers)' if each.version == default else ''}"),
            Cell(each.status),
            *_figure_cells(each, busiest),
        ]
        for each in page.version_figures
    ]
    if not rows:
        return _section(
            "Versions",
            _note(f"No request in the last {page.view.range}."),
        )
    return _section("Versions", _table(("version", "status", *_FIGURES), rows[:_MAX_ROWS]))


_FIGURES = ("#requests", "#errors", "#p50", "#p95", "#p99", "#cache hits")


def _figure_cells(figures: Figures | None, busiest: int) -> list[Cell]:
    if figures is None or not figures.n:
        return [Cell("0", True), *[Cell(NOTHING, True)] * 5]
    total = figures.total
    times = (None, None, None) if total is None else (total.p50_ms, total.p95_ms, total.p99_ms)
    return [
        Cell(whole(figures.n), True, bar=figures.n / busiest),
        Cell(f"{share(figures.error_rate)} %", True, _tone(figures)),
        *(Cell(latency_text(ms), True) for ms in times),
        Cell(f"{share(figures.cache_hit_rate)} %", True),
    ]


def _stages(figures: Figures) -> str:
    rows = []
    stages = (
        ("queue", figures.queue),
        ("load", figures.load),
        ("predict", figures.predict),
        ("total", figures.total),
    )
    for name, times in stages:
        if times is not None:
            each = (times.p50_ms, times.p95_ms, times.p99_ms)
            rows.append(
                [
                    Cell(name),
                    Cell(whole(times.n), True),
                    *(Cell(latency_text(ms), True) for ms in each),
                ]
            )
    return _section(
        "Where the time goes", _table(("stage", "#requests", "#p50", "#p95", "#p99"), rows)
    )


def _callers(page: Page) -> str:
    rows = [
        [
            Cell(each.principal),
            Cell(whole(each.n), True, bar=each.share),
            Cell(f"{share(each.share)} %", True),
            Cell(f"{share(each.errors / each.n)} %", True, "bad" if each.errors else "plain"),
        ]
        for each in page.callers[:5]
    ]
    if not rows:
        return ""
    return _section("Top callers", _table(("caller", "#requests", "#share", "#errors"), rows))


def _calls(page: Page, when: _When) -> str:
    if not page.calls:
        return ""
    rows = [_call(call, page, when) for call in page.calls]
    header = ["when", "model", "version", "method", "status", "#rows", "#took", "caller"]
    if page.model is not None:
        header.remove("model")
    return _section("Latest calls", _table(header, rows))


def _call(call: DescribePrediction, page: Page, when: _When) -> list[Cell]:
    is_ok = call.status == "ok"
    status = "cached" if call.cached else call.status
    return [
        Cell(when(call.created_at), title=moment(call.created_at)),
        *([Cell(call.model)] if page.model is None else []),
        Cell(str(call.version)),
        Cell(call.method),
        Cell(status, tone="plain" if is_ok else "bad", title=call.error or ""),
        Cell(whole(call.n_rows), True),
        Cell(latency_text(call.total_ms), True),
        Cell(call.principal),
    ]


def _tone(figures: Figures) -> Tone:
    rate = figures.error_rate
    return "bad" if rate >= _BAD_RATE else "warn" if rate >= _WARN_RATE else "plain"


def _section(title: str, content: str) -> str:
    return part("section", part("charthead", f"<b>{escape(title)}</b>") + content)


def _side_by_side(*sections: str) -> str:
    return part("pair", "".join(sections))


def _note(words: str) -> str:
    return part("note", escape(words), tag="p")


def _table(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Show a table; a ``#`` before a name says that numbers stand below it."""
    head = "".join(
        part("number", escape(name[1:]), tag="th")
        if name.startswith("#")
        else f"<th>{escape(name)}</th>"
        for name in header
    )
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    content = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return part("scroll", part("table", content, tag="table"))


def _cell(cell: Cell) -> str:
    width = 0 if cell.bar is None else max(cell.bar, 0.01)
    bar = part("bar", "", tag="i", style=f"width:{width:.0%}") if width else ""
    content = f"{bar}<span>{escape(cell.text)}</span>"
    tone = [] if cell.tone == "plain" else [cell.tone]
    given = {"title": cell.title} if cell.title else {}
    return part("number" if cell.is_number else "text", content, *tone, tag="td", **given)
