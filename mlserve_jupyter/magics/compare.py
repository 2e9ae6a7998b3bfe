"""``%mlserve compare NAME A B``: two versions of a model side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from mlserve_jupyter.api.analytics import Compare, ComparedVersion, TimeSeries
from mlserve_jupyter.api.moments import Length, Moment
from mlserve_jupyter.client.http import connect
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage
from mlserve_jupyter.magics.display import (
    Display,
    html_paragraph,
    html_table,
    html_text,
    text_table,
)
from mlserve_jupyter.magics.stats import SINCE, STEP, UNTIL, charts
from mlserve_jupyter.widgets.units import NOTHING, latency_text, moment, share, whole

USAGE = Usage(
    "compare",
    "Put two versions of a model side by side: requests, errors, latency.",
    (
        Argument("NAME", "The model's name.", completes="models"),
        Argument("A", "A version.", "integer", completes="versions"),
        Argument("B", "Another version.", "integer", completes="versions"),
        SINCE,
        UNTIL,
        STEP,
        TARGET,
    ),
)


@dataclass(frozen=True, repr=False)
class Comparison(Display):
    """Two versions side by side.

    Attributes
    ----------
    compare
        The numbers.
    """

    compare: Compare

    @property
    def _header(self) -> tuple[str, ...]:
        a, b = self.compare.a, self.compare.b
        return ("", f"version {a.version}", f"version {b.version}", "difference")

    def _rows(self) -> Iterator[tuple[str, ...]]:
        a, b = self.compare.a, self.compare.b
        yield "status", a.status, b.status, ""
        yield "requests", whole(a.n), whole(b.n), _ratio(a.n, b.n)
        yield "share of requests", f"{share(a.share)} %", f"{share(b.share)} %", ""
        yield "rows", whole(a.rows), whole(b.rows), _ratio(a.rows, b.rows)
        yield _rates("error rate", a, b, lambda version: version.error_rate)
        yield _rates("cache hits", a, b, lambda version: version.cache_hit_rate)
        for stage in ("total", "queue", "load", "predict"):
            for name in ("p50_ms", "p95_ms", "p99_ms"):
                times_ms = [_percentile(version, stage, name) for version in (a, b)]
                if any(ms is not None for ms in times_ms):
                    label = f"{stage} {name.removesuffix('_ms')}"
                    shown = (latency_text(ms) for ms in times_ms)
                    yield (label, *shown, _ratio(*times_ms))

    @property
    def _title(self) -> str:
        return f"{self.compare.model}, {moment(self.compare.since)} to {moment(self.compare.until)}"

    def _text(self) -> str:
        return f"{self._title}\n\n{text_table(self._header, self._rows())}"

    def _html(self) -> str:
        title = html_paragraph(html_text(self._title, bold=True))
        return title + html_table(self._header, self._rows()) + self._charts()

    def _charts(self) -> str:
        """Draw both versions on the same axes, side by side."""
        from mlserve_jupyter.widgets.plots import (
            histogram_plot,
            latency_plot,
            on_same_axes,
            on_same_scale,
        )

        versions = (self.compare.a, self.compare.b)
        if not any(version.n for version in versions):
            return ""
        over_time = [
            replace(
                latency_plot(_series(self.compare, each)),
                title=f"Latency of version {each.version}",
            )
            for each in versions
        ]
        spread = [
            replace(
                histogram_plot(each.histogram, each.total),
                title=f"Distribution of version {each.version}",
            )
            for each in versions
        ]
        return charts(on_same_scale(*over_time)) + charts(on_same_axes(*spread))


def compare(
    name: str,
    a: int,
    b: int,
    *,
    since: Moment = "1d",
    until: Moment | None = None,
    step: Length | None = None,
    to: str | None = None,
) -> Comparison:
    """Put two versions of a model side by side.

    Parameters
    ----------
    name
        The model's name.
    a, b
        The versions.
    since, until
        Times (naive ones are in UTC), or how long ago it was: ``"1d"``, ``"90min"``.
    step
        Length of a step of the charts, such as ``"5min"``; None lets the server choose.
    to
        URL of another server than the notebook's own.

    Returns
    -------
    Comparison
        A notebook shows it as a table with charts; ``compare`` has the numbers.

    Raises
    ------
    RequestFailed
        There is no such model, version or range.
    ServerNotFound
        No server answers.
    """
    return Comparison(connect(to).compare(name, a, b, since=since, until=until, step=step))


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Comparison:
    """Run the magic."""
    return compare(**arguments)


def _rates(
    label: str,
    a: ComparedVersion,
    b: ComparedVersion,
    rate_of: Callable[[ComparedVersion], float],
) -> tuple[str, ...]:
    """Show shares and, in points, how the second differs from the first."""
    points = 100 * (rate_of(b) - rate_of(a))
    difference = f"{points:+.2f} points" if a.n and b.n else ""
    return label, f"{share(rate_of(a))} %", f"{share(rate_of(b))} %", difference


def _ratio(a: float | None, b: float | None) -> str:
    """Show how many times the first the second is."""
    return f"× {b / a:.3g}" if a and b else "" if a == b else NOTHING


def _percentile(version: ComparedVersion, stage: str, name: str) -> float | None:
    found = getattr(version, stage)
    return None if found is None else float(getattr(found, name))


def _series(compare: Compare, version: ComparedVersion) -> TimeSeries:
    """Return a version's part as the series that charts are made of."""
    return TimeSeries(
        model=compare.model,
        version=version.version,
        method=None,
        principal=None,
        since=compare.since,
        until=compare.until,
        step_s=compare.step_s,
        points=version.points,
        all=version,
        histogram=version.histogram,
    )
