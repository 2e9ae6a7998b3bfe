"""What a dashboard shows: read from the server in a few calls, and kept as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from mlserve_jupyter.api.analytics import (
    Figures,
    ModelSummary,
    SlowRequest,
    TimeSeries,
    TopCaller,
    VersionSummary,
)
from mlserve_jupyter.api.resources import DescribeModel, DescribePrediction
from mlserve_jupyter.client.http import Client

RANGES = {
    "15 min": timedelta(minutes=15),
    "1 h": timedelta(hours=1),
    "6 h": timedelta(hours=6),
    "24 h": timedelta(days=1),
    "7 d": timedelta(days=7),
    "30 d": timedelta(days=30),
    "90 d": timedelta(days=90),
}
"""The ranges that a dashboard offers, by the words for them."""

N_CALLS = 8
_MAX_MODELS_READ = 5


@dataclass(frozen=True)
class View:
    """What a dashboard is asked to show.

    Attributes
    ----------
    model
        A model as the caller names it; None for all of the caller's own.
    version
        One of the model's versions; None for all.
    range
        One of the words of ``RANGES``.
    """

    model: str | None = None
    version: int | None = None
    range: str = "1 h"


@dataclass(frozen=True)
class Page:
    """What there is to show of a view.

    Attributes
    ----------
    read_at
        When, in UTC.
    model
        The view's model; None where it is of all.
    models
        All of the caller's own, by name.
    figures
        Of all calls that the view is about.
    per_minute
        Calls a minute in the newest steps.
    series
        The same calls over time.
    model_figures
        Of each model that was called; empty where the view is of one.
    version_figures
        Of each version that was called; empty where the view is of all models.
    callers, slowest
        Those that called most, and the calls that took longest.
    calls
        The newest calls, newest first, whenever they were.
    lost
        Calls that were answered and never reached the log.
    """

    view: View
    server_url: str
    read_at: datetime
    model: DescribeModel | None
    models: tuple[DescribeModel, ...]
    figures: Figures
    per_minute: float
    series: TimeSeries
    model_figures: tuple[ModelSummary, ...]
    version_figures: tuple[VersionSummary, ...]
    callers: tuple[TopCaller, ...]
    slowest: tuple[SlowRequest, ...]
    calls: tuple[DescribePrediction, ...]
    lost: int


def read_page(client: Client, view: View) -> Page:
    """Read what a view shows.

    Raises
    ------
    RequestFailed
        There is no such model or version.
    ServerNotFound, DeadlineExceeded
        No server answers, or not in time.
    """
    now = datetime.now(timezone.utc)
    since = now - RANGES[view.range]
    models = tuple(sorted(client.models("own"), key=lambda each: each.name))
    if view.model is None:
        summary = client.summary(since=since)
        series = client.usage(since=since)
        recent = sorted(
            (each for each in models if each.last_called_at is not None),
            key=lambda each: each.last_called_at or now,
            reverse=True,
        )
        calls = [
            call
            for each in recent[:_MAX_MODELS_READ]
            for call in client.predictions(each.name, limit=N_CALLS).items
        ]
        return Page(
            view,
            client.connection.url,
            now,
            None,
            models,
            summary.all,
            latest_rate(series, now),
            series,
            tuple(summary.models),
            (),
            tuple(summary.callers),
            tuple(summary.slowest),
            tuple(sorted(calls, key=lambda call: call.created_at, reverse=True)[:N_CALLS]),
            summary.lost,
        )
    model = client.model(view.model)
    if view.version is not None:
        client.version(view.model, view.version)  # refuses one that does not exist
    report = client.report(view.model, since=since)
    series = client.timeseries(view.model, since=since, version=view.version)
    page = client.predictions(view.model, limit=N_CALLS, version=view.version)
    return Page(
        view,
        client.connection.url,
        now,
        model,
        models,
        series.all,
        latest_rate(series, now),
        series,
        (),
        tuple(report.versions),
        tuple(report.callers),
        tuple(report.slowest),
        tuple(page.items),
        report.lost,
    )


def latest_rate(series: TimeSeries, now: datetime) -> float:
    """Return the calls a minute of the newest step together with the one before it.

    The newest step has only begun, and alone would say little.
    """
    latest = series.points[-2:]
    if not latest:
        return 0.0
    ends = min(latest[-1].at + timedelta(seconds=series.step_s), now)
    minutes = (ends - latest[0].at).total_seconds() / 60
    return sum(point.n for point in latest) / minutes if minutes > 0 else 0.0
