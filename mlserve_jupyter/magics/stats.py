"""``%mlserve stats [NAME]``: what was called how often, how it went, and how long it took."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from mlserve_jupyter.api.analytics import (
    Figures,
    ModelReport,
    Percentiles,
    SlowRequest,
    Summary,
    TimeSeries,
    TopCaller,
)
from mlserve_jupyter.api.moments import Length, Moment
from mlserve_jupyter.client.analytics import ReportScope
from mlserve_jupyter.client.http import connect
from mlserve_jupyter.errors import InvalidUsage
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage
from mlserve_jupyter.magics.display import (
    Display,
    html_details,
    html_paragraph,
    html_table,
    html_text,
    html_warnings,
    text_table,
)
from mlserve_jupyter.widgets.units import (
    counted,
    latency_text,
    length,
    moment,
    share,
    short,
    whole,
)

SINCE = Argument(
    "--since", "From when on: 1d ago without it; as well 90min, 12h, or 2026-05-01.", value="TIME"
)
UNTIL = Argument("--until", "Until when: now without it.", value="TIME")
STEP = Argument("--step", "Length of a step of the charts, such as 5min.", value="TIME")

USAGE = Usage(
    "stats",
    "Show requests, errors, cache hits and latency, over any range.",
    (
        Argument("[NAME]", "The model's name; all of your own without it.", completes="models"),
        SINCE,
        UNTIL,
        STEP,
        Argument(
            "--scope",
            "Your own models, or those of all users, for administrators.",
            choices=("own", "all"),
        ),
        TARGET,
    ),
)

FIGURES_HEADER = ("requests", "errors", "cache hits", "rows", "p50", "p95", "p99")
_STAGES_HEADER = ("stage", "requests", "mean", "p50", "p95", "p99")
_CALLERS_HEADER = ("caller", "requests", "share", "errors", "cache hits", "rows")
_SLOWEST_HEADER = (
    "time", "model", "version", "method", "caller", "status", "rows", "queue", "load", "predict",
    "total", "request",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class Stats(Display):
    """What was called.

    Attributes
    ----------
    report
        The sums: a ``ModelReport``, or a ``Summary`` of several models.
    series
        The calls over time.
    """

    report: ModelReport | Summary
    series: TimeSeries

    def frame(self) -> Any:
        """Return the calls over time as a ``pandas.DataFrame`` with a row a step.

        Its columns are ``n``, ``errors``, ``cached``, ``rows``, ``error_rate``,
        ``cache_hit_rate`` and, for each of ``total``, ``queue``, ``load`` and ``predict``,
        ``total_n``, ``total_mean_ms``, ``total_p50_ms`` and so on.
        """
        import pandas as pd

        index = pd.DatetimeIndex([point.at for point in self.series.points], name="at")
        return pd.DataFrame([_flat(point) for point in self.series.points], index=index)

    @property
    def _title(self) -> str:
        if isinstance(self.report, ModelReport):
            return self.report.model
        return "All models"

    @property
    def _range(self) -> str:
        return f"{moment(self.report.since)} to {moment(self.report.until)}"

    @property
    def _sums(self) -> str:
        figures = self.report.all
        if not figures.n:
            return "No requests."
        words = (
            f"{counted(figures.n, 'request')} ({self._rate}), "
            f"{share(figures.error_rate)} % errors, {share(figures.cache_hit_rate)} % cache hits, "
            f"{counted(figures.rows, 'row')}"
        )
        if figures.total is not None:
            words += f"; p95 {latency_text(figures.total.p95_ms)}"
        return words

    @property
    def _rate(self) -> str:
        """Say how many requests a minute there were, from the step of the first of them on."""
        until = min(self.series.until, self.report.until)
        busy = (point.at for point in self.series.points if point.n)
        since = max(next(busy, self.report.since), self.report.since)
        took_s = max((until - since).total_seconds(), 60.0)
        words = f"{short(self.report.all.n * 60 / took_s)} per minute"
        if since > self.report.since:
            return f"{words} since {moment(since)}"
        return f"{words} over {length(took_s)}"

    @property
    def _lost(self) -> list[str]:
        lost = self.report.lost
        if not lost:
            return []
        return [f"{counted(lost, 'request')} of this server never reached the log."]

    def _groups(self) -> Iterator[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
        """Yield the header and the rows of each table that has any."""
        report = self.report
        if isinstance(report, ModelReport):
            versions = [
                (f"{each.version} ({each.status})", f"{share(each.share)} %", *figure_cells(each))
                for each in report.versions
            ]
            yield ("version", "share", *FIGURES_HEADER), versions
            methods = [(each.method or "(unknown)", *figure_cells(each)) for each in report.methods]
            yield ("method", *FIGURES_HEADER), methods
        else:
            models = [(each.model, *figure_cells(each)) for each in report.models]
            yield ("model", *FIGURES_HEADER), models
        yield _STAGES_HEADER, list(stage_rows(report.all))
        yield _CALLERS_HEADER, list(_caller_rows(report.callers))

    def _text(self) -> str:
        lines = [f"{self._title}, {self._range}", self._sums, *self._lost]
        for header, rows in self._groups():
            if rows:
                lines += ["", text_table(header, rows)]
        if self.report.slowest:
            lines += ["", text_table(_SLOWEST_HEADER, slow_rows(self.report.slowest))]
        return "\n".join(lines)

    def _html(self) -> str:
        from mlserve_jupyter.widgets.plots import histogram_plot, latency_plot, requests_plot

        parts = [
            html_paragraph(
                html_text(self._title, bold=True) + html_text(f"  {self._range}", dim=True)
            ),
            html_paragraph(html_text(self._sums)),
            html_warnings(self._lost),
        ]
        if self.report.all.n:
            total = self.series.all.total
            plots = (
                requests_plot(self.series),
                latency_plot(self.series),
                histogram_plot(self.series.histogram, total),
            )
            parts.append(charts(plots))
        parts += [html_table(header, rows) for header, rows in self._groups() if rows]
        if self.report.slowest:
            table = html_table(_SLOWEST_HEADER, slow_rows(self.report.slowest))
            parts.append(html_details("The slowest calls", table))
        return "".join(parts)


def stats(
    name: str | None = None,
    *,
    since: Moment = "1d",
    until: Moment | None = None,
    step: Length | None = None,
    scope: ReportScope = "own",
    to: str | None = None,
) -> Stats:
    """Sum up the calls of a model, or of all of one's own.

    Parameters
    ----------
    name
        The model's name; None for all of one's own.
    since, until
        Times (naive ones are in UTC), or how long ago it was: ``"1d"``, ``"90min"``.
    step
        Length of a step of the time series, such as ``"5min"``; None lets the server choose.
    scope
        ``all`` of an administrator means the models of all users; without a name.
    to
        URL of another server than the notebook's own.

    Returns
    -------
    Stats
        A notebook shows it with charts and tables; ``report`` and ``series`` have the numbers,
        and ``frame()`` the time series as a DataFrame.

    Raises
    ------
    RequestFailed
        There is no such model, or no such range.
    ServerNotFound
        No server answers.
    """
    client = connect(to)
    if name is None:
        return Stats(
            client.summary(since=since, until=until, scope=scope),
            client.usage(since=since, until=until, step=step, scope=scope),
        )
    if scope != "own":
        raise InvalidUsage("--scope is for all models: leave the name out, or the scope.")
    return Stats(
        client.report(name, since=since, until=until),
        client.timeseries(name, since=since, until=until, step=step),
    )


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Stats:
    """Run the magic."""
    return stats(**arguments)


def figure_cells(figures: Figures) -> tuple[str, ...]:
    """Show what some calls add up to, under ``FIGURES_HEADER``."""
    total = figures.total
    times = (None, None, None) if total is None else (total.p50_ms, total.p95_ms, total.p99_ms)
    return (
        whole(figures.n),
        f"{share(figures.error_rate)} %",
        f"{share(figures.cache_hit_rate)} %",
        whole(figures.rows),
        *(latency_text(ms) for ms in times),
    )


def stage_rows(figures: Figures) -> Iterator[tuple[str, ...]]:
    """Show how long each stage took of those that any call went through."""
    for stage in ("queue", "load", "predict", "total"):
        found: Percentiles | None = getattr(figures, stage)
        if found is not None:
            times_ms = (found.mean_ms, found.p50_ms, found.p95_ms, found.p99_ms)
            yield (stage, whole(found.n), *(latency_text(ms) for ms in times_ms))


def slow_rows(calls: Iterable[SlowRequest]) -> Iterator[tuple[str, ...]]:
    """Show the slowest calls."""
    for call in calls:
        times_ms = (call.queue_ms, call.load_ms, call.predict_ms, call.total_ms)
        yield (
            moment(call.at),
            call.model,
            str(call.version),
            call.method,
            call.principal,
            call.status,
            whole(call.rows),
            *(latency_text(ms or None) for ms in times_ms),  # 0.0: it went without this stage
            call.request_id,
        )


def charts(plots: Iterable[Any]) -> str:
    """Draw plots (of ``widgets.plots``; importing it here would slow down every other magic)."""
    from mlserve_jupyter.widgets.svg import svg

    drawn = "".join(
        '<figure style="flex:1 1 320px;max-width:480px;margin:0">'
        f'<figcaption style="margin:0 0 2px">{html_text(plot.title)} '
        f"{html_text(plot.unit, dim=True)}{_legend(plot)}"
        "</figcaption>"
        f"{svg(plot)}</figure>"
        for plot in plots
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:12px;margin:6px 0">{drawn}</div>'


def _legend(plot: Any) -> str:
    """Name the colours of a plot (of ``widgets.plots``)."""
    named = [(mark[0], mark[1]) for mark in getattr(plot, "marks", ())]
    named += [(layer.name, layer.color) for layer in getattr(plot, "layers", ())]
    return "".join(
        f' <span style="color:{color}">■</span> {html_text(name, dim=True)}'
        for name, color in named
    )


def _caller_rows(callers: Iterable[TopCaller]) -> Iterator[tuple[str, ...]]:
    for caller in callers:
        yield (
            caller.principal,
            whole(caller.n),
            f"{share(caller.share)} %",
            f"{share(caller.errors / caller.n)} %",
            f"{share(caller.cached / caller.n)} %",
            whole(caller.rows),
        )


def _flat(figures: Figures) -> dict[str, float]:
    """Return figures as a row of numbers; a stage that no request went through has none."""
    names = ("n", "errors", "cached", "rows", "error_rate", "cache_hit_rate")
    row: dict[str, float] = {name: getattr(figures, name) for name in names}
    for stage in ("total", "queue", "load", "predict"):
        found: Percentiles | None = getattr(figures, stage)
        for name in Percentiles.__struct_fields__:
            row[f"{stage}_{name}"] = math.nan if found is None else getattr(found, name)
    return row
