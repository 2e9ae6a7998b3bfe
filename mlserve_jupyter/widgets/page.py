"""What a dashboard shows: read from the server in a few calls, and kept as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import get_args

from mlserve_jupyter.api.alerts import DescribeAlert, ModelRule
from mlserve_jupyter.api.analytics import (
    Figures,
    ModelSummary,
    TimeSeries,
    TopCaller,
    VersionSummary,
)
from mlserve_jupyter.api.resources import DescribeModel, DescribePrediction
from mlserve_jupyter.client.http import Client
from mlserve_jupyter.errors import RequestFailed

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
_MAX_ALERTS_READ = 500
_MODELS_KNOWN_FOR = timedelta(seconds=30)
"""For a choice among them; requests are counted where there is a quota."""


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
    callers
        Those that called most.
    calls
        The newest calls, newest first, whenever they were.
    lost
        Calls that were answered and never reached the log.
    alerts
        Those that fire, of the models that the view is about, the newest first.
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
    calls: tuple[DescribePrediction, ...]
    lost: int
    alerts: tuple[DescribeAlert, ...]


class PageReader:
    """Reads pages from a server.

    Parameters
    ----------
    connect
        Gives the client, each time anew: a server that was started again has another key.
    """

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._models: tuple[DescribeModel, ...] = ()
        self._models_read_at = datetime.min.replace(tzinfo=timezone.utc)
        self._known_calls: dict[str, tuple[datetime, list[DescribePrediction]]] = {}

    def read(self, view: View) -> Page:
        """Read what a view shows.

        Raises
        ------
        RequestFailed
            There is no such model or version.
        ServerNotFound, DeadlineExceeded
            No server answers, or not in time.
        """
        client = self._connect()
        now = datetime.now(timezone.utc)
        if view.model is None or now - self._models_read_at > _MODELS_KNOWN_FOR:
            self._models = tuple(sorted(client.models("own"), key=lambda each: each.name))
            self._models_read_at = now
        if view.model is None:
            return self._read_all(client, view, now)
        model = client.model(view.model)
        since = now - RANGES[view.range]
        report = client.report(view.model, since=since)
        series = client.timeseries(view.model, since=since, version=view.version)
        calls = client.predictions(view.model, limit=N_CALLS, version=view.version).items
        return Page(
            view=view,
            server_url=client.connection.url,
            read_at=now,
            model=model,
            models=self._models,
            figures=series.all,
            per_minute=latest_rate(series, now),
            series=series,
            model_figures=(),
            version_figures=tuple(report.versions),
            callers=tuple(report.callers),
            calls=tuple(calls),
            lost=report.lost,
            alerts=_firing(client, view.model),
        )

    def _read_all(self, client: Client, view: View, now: datetime) -> Page:
        since = now - RANGES[view.range]
        summary = client.summary(since=since)
        series = client.usage(since=since)
        return Page(
            view=view,
            server_url=client.connection.url,
            read_at=now,
            model=None,
            models=self._models,
            figures=summary.all,
            per_minute=latest_rate(series, now),
            series=series,
            model_figures=tuple(summary.models),
            version_figures=(),
            callers=tuple(summary.callers),
            calls=self._latest_calls(client),
            lost=summary.lost,
            alerts=_of_models(_firing(client), self._models),
        )

    def _latest_calls(self, client: Client) -> tuple[DescribePrediction, ...]:
        """Return the newest calls of the models that were called last, asking only of new ones."""
        called = [(each.last_called_at, each.name) for each in self._models if each.last_called_at]
        latest = sorted(called, reverse=True)[:_MAX_MODELS_READ]
        self._known_calls = {
            name: known
            if (known := self._known_calls.get(name)) and known[0] == at
            else (at, client.predictions(name, limit=N_CALLS).items)
            for at, name in latest
        }
        calls = [call for _, each in self._known_calls.values() for call in each]
        return tuple(sorted(calls, key=lambda call: call.created_at, reverse=True)[:N_CALLS])


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


def _firing(client: Client, model: str | None = None) -> tuple[DescribeAlert, ...]:
    """Return the alerts that fire; none where the server is of a release without alerts."""
    try:
        return tuple(islice(client.alerts(model, state="firing"), _MAX_ALERTS_READ))
    except RequestFailed as error:
        if error.status != 404:
            raise
        return ()


def _of_models(
    alerts: Iterable[DescribeAlert], models: Iterable[DescribeModel]
) -> tuple[DescribeAlert, ...]:
    """Leave out the alerts of keys, and of what else an administrator sees."""
    rules = get_args(ModelRule)
    titles = {f"{model.owner}~{model.name}" for model in models}
    return tuple(alert for alert in alerts if alert.rule in rules and alert.title in titles)
