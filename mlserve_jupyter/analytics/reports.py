"""Reports: what was called, how often, by whom, how it went and how long it took."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

import msgspec
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.prediction_rows import count_losses
from mlserve_jupyter.analytics.rollup_reading import (
    CallerRow,
    Selection,
    SlowRow,
    read_callers,
    read_slowest,
    read_tallies,
)
from mlserve_jupyter.analytics.rollup_steps import DAY_S, Span, cover, cover_with_steps
from mlserve_jupyter.analytics.tally import Tally, share, sum_of
from mlserve_jupyter.api.analytics import (
    Compare,
    ComparedVersion,
    MethodSummary,
    ModelReport,
    ModelSummary,
    Point,
    SlowRequest,
    Summary,
    TimeSeries,
    TopCaller,
    VersionSummary,
)
from mlserve_jupyter.api.resources import Status
from mlserve_jupyter.storage.engine import reading
from mlserve_jupyter.storage.replica import ReportReads

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class ReportedVersion:
    """A version, as reports name it."""

    id: str
    version: int
    status: Status


@dataclass(frozen=True)
class ReportedModel:
    """A model that the caller may see all of.

    Attributes
    ----------
    reference
        How the caller names it.
    versions
        By their id.
    """

    id: str
    reference: str
    versions: Mapping[str, ReportedVersion]


@dataclass(frozen=True)
class When:
    """What a report is to count.

    Attributes
    ----------
    since, until
        None for a day before ``until``, and for now. Nothing is counted that lies ahead, or
        before 1970.
    step_s
        Length of the steps of a time series; None for what suits the range.
    """

    since: datetime | None = None
    until: datetime | None = None
    step_s: int | None = None

    def span(self, now_s: float) -> Span:
        """Return the periods of a report without steps."""
        since_s, until_s = self._bounds(now_s)
        return cover(since_s, until_s, now_s)

    def steps(self, now_s: float) -> tuple[Span, int]:
        """Return the periods of a report with steps, and the length of these."""
        since_s, until_s = self._bounds(now_s)
        return cover_with_steps(since_s, until_s, self.step_s, now_s)

    def _bounds(self, now_s: float) -> tuple[float, float]:
        until_s = now_s if self.until is None else min(self.until.timestamp(), now_s)
        since_s = until_s - DAY_S if self.since is None else self.since.timestamp()
        return max(since_s, 0.0), until_s


class Reports:
    """What the rollups say; synchronous, for threads.

    Every method raises ``InvalidRequest`` for a range that has no time in it, and for steps that it
    cannot have, and ``StorageUnavailable`` where the database does not answer.

    Parameters
    ----------
    engine
        Of a database whose schema is prepared; nothing is written.
    reads
        Where the reports come from instead, if there is a replica for them.
    """

    def __init__(self, engine: Engine, reads: ReportReads | None = None) -> None:
        self._reading = partial(reading, engine) if reads is None else reads.reading

    def summary(
        self, models: Sequence[ReportedModel], when: When, *, of_all: bool = False
    ) -> Summary:
        """Sum up the calls of models.

        Parameters
        ----------
        of_all
            Whether these are all that there are, so that the database need not look for each.
        """
        span = when.span(time.time())
        selection = Selection(span, None if of_all else tuple(model.id for model in models))
        by_id = {model.id: model for model in models}
        with self._reading() as connection:
            tallies = {
                id: tally
                for (id,), tally in read_tallies(connection, selection, ("model_id",)).items()
                if id in by_id  # others were deployed since the list was made
            }
            callers = read_callers(connection, selection)
            slowest = read_slowest(connection, selection)
            lost = count_losses(connection)
        total = sum_of(tallies.values())
        return Summary(
            since=_time(span.since_s),
            until=_end(span),
            all=total.figures(),
            per_minute=_per_minute(total, span),
            models=[
                ModelSummary(id=id, model=by_id[id].reference, **tally.fields())
                for id, tally in _by_calls(tallies)
            ],
            callers=_callers(callers, total),
            slowest=list(_slowest(slowest, models)),
            lost=lost,
        )

    def model(self, model: ReportedModel, when: When) -> ModelReport:
        """Sum up the calls of a model: all, and by version, method and caller."""
        span = when.span(time.time())
        selection = Selection(span, (model.id,))
        with self._reading() as connection:
            tallies = read_tallies(connection, selection, ("version_id", "method"))
            callers = read_callers(connection, selection)
            slowest = read_slowest(connection, selection)
            lost = count_losses(connection)
        total = sum_of(tallies.values())
        versions = _grouped(tallies, 0)
        methods = _grouped(tallies, 1)
        return ModelReport(
            since=_time(span.since_s),
            until=_end(span),
            id=model.id,
            model=model.reference,
            all=total.figures(),
            per_minute=_per_minute(total, span),
            versions=sorted(
                (
                    VersionSummary(**_version_fields(model.versions[id], tally, total))
                    for id, tally in versions.items()
                    if id in model.versions
                ),
                key=lambda version: -version.version,
            ),
            methods=[
                MethodSummary(method=method, **tally.fields())
                for method, tally in _by_calls(methods)
            ],
            callers=_callers(callers, total),
            slowest=list(_slowest(slowest, [model])),
            histogram=total.total.histogram(),
            lost=lost,
        )

    def usage(
        self, models: Sequence[ReportedModel], when: When, *, of_all: bool = False
    ) -> TimeSeries:
        """Return the calls of models over time; ``of_all`` as in :meth:`summary`."""
        ids = None if of_all else tuple(model.id for model in models)
        span, step_s = when.steps(time.time())
        return self._series(Selection(span, ids), step_s)

    def timeseries(
        self,
        model: ReportedModel,
        when: When,
        version: ReportedVersion | None = None,
        method: str | None = None,
        principal: str | None = None,
    ) -> TimeSeries:
        """Return the calls of a model over time, limited to what is given."""
        span, step_s = when.steps(time.time())
        version_ids = None if version is None else (version.id,)
        series = self._series(Selection(span, (model.id,), version_ids, method, principal), step_s)
        return msgspec.structs.replace(
            series,
            model=model.reference,
            version=None if version is None else version.version,
            method=method,
            principal=principal,
        )

    def compare(
        self, model: ReportedModel, a: ReportedVersion, b: ReportedVersion, when: When
    ) -> Compare:
        """Put two versions of a model side by side."""
        span, step_s = when.steps(time.time())
        selection = Selection(span, (model.id,))
        with self._reading() as connection:
            tallies = read_tallies(connection, selection, ("version_id", "start_s"))
        total = sum_of(tallies.values())
        compared = [
            _compared(
                version,
                {start_s: tally for (id, start_s), tally in tallies.items() if id == version.id},
                total,
                span,
                step_s,
            )
            for version in (a, b)
        ]
        return Compare(
            model=model.reference,
            since=_time(span.since_s),
            until=_end(span),
            step_s=step_s,
            a=compared[0],
            b=compared[1],
        )

    def _series(self, selection: Selection, step_s: int) -> TimeSeries:
        with self._reading() as connection:
            tallies = read_tallies(connection, selection, ("start_s",))
        total = sum_of(tallies.values())
        by_start = {start_s: tally for (start_s,), tally in tallies.items()}
        return TimeSeries(
            model=None,
            version=None,
            method=None,
            principal=None,
            since=_time(selection.span.since_s),
            until=_end(selection.span),
            step_s=step_s,
            points=list(_points(by_start, selection.span, step_s)),
            all=total.figures(),
            histogram=total.total.histogram(),
        )


def _points(by_start: Mapping[int, Tally], span: Span, step_s: int) -> Iterator[Point]:
    """Return a point for each step, also where nothing was called."""
    by_step: dict[int, Tally] = {}
    for start_s, tally in by_start.items():
        step = start_s // step_s
        known = by_step.get(step)
        by_step[step] = tally if known is None else sum_of((known, tally))
    nothing = Tally()
    for step in _steps(span, step_s):
        yield Point(at=_time(step * step_s), **by_step.get(step, nothing).fields())


def _steps(span: Span, step_s: int) -> Sequence[int]:
    return range(span.since_s // step_s, span.until_s // step_s)


def _compared(
    version: ReportedVersion,
    by_start: Mapping[int, Tally],
    of_model: Tally,
    span: Span,
    step_s: int,
) -> ComparedVersion:
    total = sum_of(by_start.values())
    return ComparedVersion(
        points=list(_points(by_start, span, step_s)),
        histogram=total.total.histogram(),
        **_version_fields(version, total, of_model),
    )


def _version_fields(version: ReportedVersion, tally: Tally, of_model: Tally) -> dict[str, Any]:
    """Return the fields of a ``VersionSummary``, which are of several types, hence ``Any``."""
    return {
        "version": version.version,
        "status": version.status,
        "share": share(tally.n, of_model.n),
        **tally.fields(),
    }


def _grouped(tallies: Mapping[tuple[Any, ...], Tally], place: int) -> dict[str, Tally]:
    """Add up the tallies with the same value at one place of their keys (of any type: ``Any``)."""
    groups: dict[str, Tally] = {}
    for key, tally in tallies.items():
        groups.setdefault(key[place], Tally()).merge(tally)
    return groups


def _by_calls(tallies: Mapping[str, Tally]) -> list[tuple[str, Tally]]:
    return sorted(tallies.items(), key=lambda item: -item[1].n)


def _callers(rows: Iterable[CallerRow], of_all: Tally) -> list[TopCaller]:
    return [
        TopCaller(
            principal=row.principal,
            n=row.n,
            errors=row.n_errors,
            cached=row.n_cached,
            rows=row.n_rows,
            share=share(row.n, of_all.n),
        )
        for row in rows
    ]


def _slowest(rows: Iterable[SlowRow], models: Iterable[ReportedModel]) -> Iterator[SlowRequest]:
    known = {id: (model, version) for model in models for id, version in model.versions.items()}
    for row in rows:
        if row.version_id in known:
            model, version = known[row.version_id]
            yield SlowRequest(
                request_id=row.call.request_id,
                model=model.reference,
                version=version.version,
                method=row.method,
                principal=row.call.principal,
                at=_EPOCH + timedelta(microseconds=row.call.at_us),
                status=row.call.status,
                rows=row.call.n_rows,
                queue_ms=row.call.queue_ms,
                load_ms=row.call.load_ms,
                predict_ms=row.call.predict_ms,
                total_ms=row.call.total_ms,
            )


def _per_minute(tally: Tally, span: Span) -> float:
    length_s = (_end(span) - _time(span.since_s)).total_seconds()
    return tally.n / (max(length_s, 1.0) / 60)


def _end(span: Span) -> datetime:
    """Return until when calls are counted: periods that have begun may end ahead."""
    return min(_time(span.until_s), datetime.now(timezone.utc))


def _time(at_s: int) -> datetime:
    return _EPOCH + timedelta(seconds=at_s)
