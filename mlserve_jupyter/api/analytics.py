"""Wire types of the analytics: what was called how often, how it went, and how long it took.

Times are in milliseconds. Percentiles come from histograms whose buckets grow geometrically, so
each is within ``RELATIVE_ERROR`` of the value that the calls themselves give by the nearest rank.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from mlserve_jupyter.api.resources import Status

RELATIVE_ERROR = 0.02
"""How far a percentile may be from that of the calls themselves, as a share of it."""


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """How long the calls took that went through a stage.

    Attributes
    ----------
    n
        Calls that went through it.
    mean_ms, p50_ms, p95_ms, p99_ms
        Within 2 % each. A percentile is a value that one of the calls had (the nearest rank).
    """

    n: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What some calls add up to.

    Attributes
    ----------
    n, errors, cached, rows
        Calls; those that failed; those that the result cache answered; rows of the inputs of all.
    error_rate, cache_hit_rate
        Shares of the calls, 0 to 1; 0.0 where there was none.
    total
        Of all calls, from request to answer; None where there was none.
    queue, load, predict
        Of the calls that waited for a worker, had the model loaded, and were computed; None where
        none did.
    """

    n: int
    errors: int
    cached: int
    rows: int
    error_rate: float
    cache_hit_rate: float
    total: Percentiles | None
    queue: Percentiles | None
    load: Percentiles | None
    predict: Percentiles | None


class Point(Figures, frozen=True, kw_only=True):
    """The calls of one step of a time series.

    Attributes
    ----------
    at
        When the step begins, in UTC.
    """

    at: datetime


class LatencyHistogram(msgspec.Struct, frozen=True, kw_only=True):
    """How many calls took how long in total.

    Attributes
    ----------
    bounds_ms
        Ascending, growing geometrically: bar ``i`` lies between ``bounds_ms[i]`` and
        ``bounds_ms[i + 1]``. Empty where there was no call.
    counts
        Calls of each bar; one fewer than there are bounds.
    """

    bounds_ms: list[float]
    counts: list[int]


class TopCaller(msgspec.Struct, frozen=True, kw_only=True):
    """A caller and what it asked for.

    Attributes
    ----------
    principal
        As the prediction log names it.
    share
        Of all calls of the range, 0 to 1.
    """

    principal: str
    n: int
    errors: int
    cached: int
    rows: int
    share: float


class SlowRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One of the calls that took longest; under its id it is in the prediction log."""

    request_id: str
    model: str
    version: int
    method: str
    principal: str
    at: datetime
    status: str
    rows: int
    queue_ms: float
    load_ms: float
    predict_ms: float
    total_ms: float


class ModelSummary(Figures, frozen=True, kw_only=True):
    """The calls of one model.

    Attributes
    ----------
    id, model
        Primary key; and how the caller names it: ``name``, or ``owner~name`` for that of another.
    """

    id: str
    model: str


class VersionSummary(Figures, frozen=True, kw_only=True):
    """The calls of one version.

    Attributes
    ----------
    share
        Of the model's calls in the range, 0 to 1.
    """

    version: int
    status: Status
    share: float


class MethodSummary(Figures, frozen=True, kw_only=True):
    """The calls of one method of a model."""

    method: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of all models that the caller may see all of.

    Attributes
    ----------
    since, until
        What is counted: calls that came at ``since`` or later and before ``until``, in UTC. The
        range that was asked for, widened to whole minutes, hours or days, whichever are kept, up to
        now.
    all
        Of all models.
    per_minute
        Calls a minute, on average.
    models
        Those that were called, by falling number of calls.
    callers
        Those that called most often.
    slowest
        The slowest first.
    lost
        Calls that were answered and never counted, over the whole life of this database.
    relative_error
        The largest that a percentile may have.
    """

    since: datetime
    until: datetime
    all: Figures
    per_minute: float
    models: list[ModelSummary]
    callers: list[TopCaller]
    slowest: list[SlowRequest]
    lost: int
    relative_error: float = RELATIVE_ERROR


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one model: all, and by version, method and caller.

    Attributes
    ----------
    since, until, per_minute, slowest, lost, relative_error
        As in :class:`Summary`.
    id, model
        As in :class:`ModelSummary`.
    all
        Of all versions, methods and callers.
    versions
        Those that were called, newest first.
    methods, callers
        Those that were called, and that called, by falling number of calls.
    histogram
        Of the total time of all calls.
    """

    since: datetime
    until: datetime
    id: str
    model: str
    all: Figures
    per_minute: float
    versions: list[VersionSummary]
    methods: list[MethodSummary]
    callers: list[TopCaller]
    slowest: list[SlowRequest]
    histogram: LatencyHistogram
    lost: int
    relative_error: float = RELATIVE_ERROR


class TimeSeries(msgspec.Struct, frozen=True, kw_only=True):
    """Calls over time.

    Attributes
    ----------
    model
        None for the calls of all models that the caller may see all of.
    version, method, principal
        What the calls are limited to; None where they are not.
    since, until
        What is counted: whole steps, up to now.
    step_s
        Length of a step, in seconds.
    points
        One a step, in order, also where there was no call.
    all
        Of the whole range.
    histogram
        Of the total time of all calls.
    """

    model: str | None
    version: int | None
    method: str | None
    principal: str | None
    since: datetime
    until: datetime
    step_s: int
    points: list[Point]
    all: Figures
    histogram: LatencyHistogram
    relative_error: float = RELATIVE_ERROR


class ComparedVersion(VersionSummary, frozen=True, kw_only=True):
    """One of the versions that are compared.

    Attributes
    ----------
    points
        Over the range, one a step.
    histogram
        Of the total time of its calls.
    """

    points: list[Point]
    histogram: LatencyHistogram


class Compare(msgspec.Struct, frozen=True, kw_only=True):
    """Two versions of a model side by side, over the same range.

    Attributes
    ----------
    since, until, step_s
        As in :class:`TimeSeries`.
    a, b
        In the order in which they were named.
    """

    model: str
    since: datetime
    until: datetime
    step_s: int
    a: ComparedVersion
    b: ComparedVersion
    relative_error: float = RELATIVE_ERROR
