"""The part of the client that asks what was called, how often and how fast."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from mlserve_jupyter.api.analytics import Compare, ModelReport, Summary, TimeSeries
from mlserve_jupyter.api.moments import Length, Moment, moment, seconds
from mlserve_jupyter.errors import InvalidUsage

ReportScope = Literal["own", "all"]

_Wire = TypeVar("_Wire")


class AnalyticsCalls(ABC):
    """The methods; each raises as those of ``Client`` do, and ``InvalidUsage`` for what is no time.

    ``since`` and ``until`` are times, ISO 8601 texts, or how long ago it was, such as ``1d``; naive
    times are in UTC. Without them a range ends now, and begins a day before.
    """

    @abstractmethod
    def _send(self, verb: str, path: str, type_: type[_Wire], **options: Any) -> _Wire: ...

    def summary(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        scope: ReportScope = "own",
    ) -> Summary:
        """Sum up the calls of one's own models.

        Parameters
        ----------
        scope
            ``all`` of an administrator means the models of all users.
        """
        params = {"scope": scope, **_range(since, until)}
        return self._send("GET", "api/v1/analytics/summary", Summary, params=params)

    def usage(
        self,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        step: Length | None = None,
        scope: ReportScope = "own",
    ) -> TimeSeries:
        """Give the calls of one's own models over time, see :meth:`timeseries`."""
        params = {"scope": scope, **_range(since, until), **_step(step)}
        return self._send("GET", "api/v1/analytics/usage", TimeSeries, params=params)

    def report(
        self, model: str, *, since: Moment | None = None, until: Moment | None = None
    ) -> ModelReport:
        """Sum up the calls of a model: all, and by version, method and caller."""
        path = f"{_path(model)}/summary"
        return self._send("GET", path, ModelReport, params=_range(since, until))

    def timeseries(
        self,
        model: str,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        step: Length | None = None,
        version: int | None = None,
        method: str | None = None,
        principal: str | None = None,
    ) -> TimeSeries:
        """Give the calls of a model over time.

        Parameters
        ----------
        step
            Whole minutes, such as ``5min``; None lets the server choose.
        version, method, principal
            Only the calls of these.
        """
        wanted = {"version": version, "method": method, "principal": principal}
        given = {name: value for name, value in wanted.items() if value is not None}
        params = {**_range(since, until), **_step(step), **given}
        return self._send("GET", f"{_path(model)}/timeseries", TimeSeries, params=params)

    def compare(
        self,
        model: str,
        a: int,
        b: int,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        step: Length | None = None,
    ) -> Compare:
        """Put two versions of a model side by side."""
        params = {"a": a, "b": b, **_range(since, until), **_step(step)}
        return self._send("GET", f"{_path(model)}/compare", Compare, params=params)


def _path(model: str) -> str:
    return f"api/v1/analytics/models/{quote(model, safe='~')}"


def _range(since: Moment | None, until: Moment | None) -> dict[str, str]:
    times = {"since": since, "until": until}
    return {name: moment(at).isoformat() for name, at in times.items() if at is not None}


def _step(step: Length | None) -> dict[str, int]:
    if step is None:
        return {}
    step_s = seconds(step)
    if step_s < 60:
        raise InvalidUsage(f"A step takes a minute or more (1min, 15min, 1h), not {step!r}.")
    return {"step_s": step_s}
