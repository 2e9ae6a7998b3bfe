"""Pages of dashboards, as they are read from a server that was called for an hour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import msgspec

from mlserve_jupyter.api.alerts import DescribeAlert
from mlserve_jupyter.api.analytics import (
    Figures,
    LatencyHistogram,
    ModelSummary,
    Percentiles,
    Point,
    TimeSeries,
    TopCaller,
    VersionSummary,
)
from mlserve_jupyter.api.resources import DescribeModel, DescribePrediction
from mlserve_jupyter.widgets.page import Page, View, latest_rate

NOW = datetime(2026, 11, 23, 19, 20, 30, tzinfo=timezone.utc)
HOSTILE = '<img src=x onerror="window.injected=true">'


def figures(n: int, slowness: float = 1.0) -> Figures:
    """Sum ``n`` calls up, of which 1 in 50 failed and 1 in 4 came from the cache."""
    total = None
    if n:
        total = Percentiles(
            n=n,
            mean_ms=4.2 * slowness,
            p50_ms=3.1 * slowness,
            p95_ms=12.4 * slowness,
            p99_ms=48.9 * slowness,
        )
    errors, cached = n // 50, n // 4
    return Figures(
        n=n,
        errors=errors,
        cached=cached,
        rows=n * 4,
        error_rate=errors / n if n else 0.0,
        cache_hit_rate=cached / n if n else 0.0,
        total=total,
        queue=total,
        load=None,
        predict=total,
    )


def series(counts: Sequence[int]) -> TimeSeries:
    """Give as many calls a minute as ``counts`` says, up to ``NOW``."""
    last = NOW.replace(second=0)
    points = [
        Point(at=last - timedelta(minutes=len(counts) - 1 - i), **fields(figures(n, 1 + i % 3 / 4)))
        for i, n in enumerate(counts)
    ]
    n = sum(counts)
    bounds = [0.4 * 1.08**i for i in range(80)] if n else []
    bars = [int(900 * math.exp(-(((i - 26) / 9) ** 2))) for i in range(79)] if n else []
    return TimeSeries(
        model=None,
        version=None,
        method=None,
        principal=None,
        since=points[0].at if points else NOW,
        until=last + timedelta(minutes=1),
        step_s=60,
        points=points,
        all=figures(n),
        histogram=LatencyHistogram(bounds_ms=bounds, counts=bars),
    )


def model(name: str) -> DescribeModel:
    """Describe a model with two versions that was called 12 s ago."""
    return DescribeModel(
        id=name,
        name=name,
        owner="owner",
        description="",
        created_at=NOW,
        updated_at=NOW,
        default_version=2,
        n_versions=2,
        predict_path=f"/mlserve/api/v1/predict/{name}",
        last_called_at=NOW - timedelta(seconds=12),
        n_predictions=5000,
    )


def call(name: str, i: int, status: str = "ok", principal: str = "owner") -> DescribePrediction:
    """Describe the call that came ``7 * i`` seconds ago."""
    return DescribePrediction(
        request_id=f"request-{i}",
        model=name,
        version=2,
        method="predict",
        principal=principal,
        created_at=NOW - timedelta(seconds=7 * i),
        status=status,
        cached=status == "ok" and i % 3 == 0,
        n_rows=i + 1,
        queue_ms=0.1,
        load_ms=0.0,
        predict_ms=2.0,
        total_ms=2.4 * i + 1,
        inputs=msgspec.Raw(b"null"),
        outputs=msgspec.Raw(b"null"),
        truncated=False,
        labels=msgspec.Raw(b"null"),
    )


def alert(title: str, text: str = "", value: float = 0.275) -> DescribeAlert:
    """Describe an alert on an error rate of over 5 %."""
    return DescribeAlert(
        id=title,
        rule="error_rate",
        title=title,
        state="firing",
        value=value,
        worst=0.5,
        limit=0.05,
        text=text or f"The error rate of {title} is over its limit.",
        began_at=NOW,
        fired_at=NOW,
        ended_at=None,
        is_told=False,
    )


def page(
    name: str | None = None,
    *,
    models: Sequence[str] = ("wine", "churn"),
    counts: Sequence[int] = (0, 80, 120, 0, 60, 100),
    principal: str = "owner",
) -> Page:
    """Put a page together: of one model, or of all."""
    over_time = series(counts)
    is_called = sum(counts) > 0
    summed = over_time.all
    versions = [
        VersionSummary(version=n, status="active", share=0.5, **fields(summed)) for n in (2, 1)
    ]
    callers = [
        TopCaller(principal=principal, n=summed.n, errors=1, cached=2, rows=summed.rows, share=1.0)
    ]
    statuses = ("ok", "ok", "signature_mismatch")
    return Page(
        view=View(name),
        server_url="http://127.0.0.1:8888/mlserve/",
        read_at=NOW,
        model=None if name is None else model(name),
        models=tuple(map(model, models)),
        figures=summed,
        per_minute=latest_rate(over_time, NOW),
        series=over_time,
        model_figures=tuple(
            ModelSummary(id=each, model=each, **fields(summed)) for each in models if is_called
        )
        if name is None
        else (),
        version_figures=tuple(versions) if name is not None and is_called else (),
        callers=tuple(callers) if is_called else (),
        calls=tuple(
            call(name or models[0], i, status, principal) for i, status in enumerate(statuses)
        )
        if is_called
        else (),
        lost=0,
        alerts=(),
    )


def fields(struct: msgspec.Struct) -> dict[str, object]:
    """Return the fields of a wire type by their names."""
    return {name: getattr(struct, name) for name in struct.__struct_fields__}
