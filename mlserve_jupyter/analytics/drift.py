"""How far what a version is asked, and answers, has moved from the sample of its deploy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.analytics.histogram_rows import (
    Counted,
    fold_day,
    read_baseline,
    read_counted,
)
from mlserve_jupyter.analytics.maintenance import MayGoOn
from mlserve_jupyter.analytics.shift_tests import (
    Outcome,
    chi_square,
    kolmogorov_smirnov,
    stability_index,
)
from mlserve_jupyter.api.drift import (
    ALPHA,
    MIN_LIVE_ROWS,
    MODERATE_PSI,
    SIGNIFICANT_PSI,
    Drift,
    DriftLevel,
    FeatureDrift,
)
from mlserve_jupyter.api.profile import FeatureProfile, Profile
from mlserve_jupyter.errors import Conflict
from mlserve_jupyter.storage.engine import writing

HOURS_KEPT_DAYS = 8
FOLD_EVERY_S = 3600.0

_SEVERITY: tuple[DriftLevel, ...] = ("too_few", "none", "moderate", "significant")


class WatchedVersion(NamedTuple):
    """The version that is asked about, and its columns."""

    id: str
    model: str
    version: int
    columns: tuple[str, ...]


def read_drift(
    connection: Connection, version: WatchedVersion, since: datetime, until: datetime
) -> Drift:
    """Hold what was counted within a range against the baseline.

    Raises
    ------
    Conflict
        scipy is not installed beside the server.
    """
    _require_scipy()
    since, until = _hour(since), _end_of_hour(until)
    if since < _hours_begin():
        since = since.replace(hour=0)
    baseline = read_baseline(connection, version.id)
    profile = Profile(n_rows=0) if baseline is None else baseline.profile
    counted = read_counted(connection, version.id, since, until)
    features, outputs = compare(profile, counted)
    watched = {feature.name for feature in features}
    found: DriftLevel = "no_baseline"
    if baseline is not None:
        levels = [each.level for each in (*features, *outputs)]
        found = max(levels, key=_SEVERITY.index, default="too_few")
    return Drift(
        model=version.model,
        version=version.version,
        since=since,
        until=until,
        level=found,
        n_baseline_rows=profile.n_rows,
        n_live_rows=counted.n_rows,
        method=profile.method,
        features=features,
        outputs=outputs,
        not_watched=[name for name in version.columns if name not in watched],
    )


def compare(profile: Profile, counted: Counted) -> tuple[list[FeatureDrift], list[FeatureDrift]]:
    """Compare counts with those of the baseline.

    Returns
    -------
    features, outputs
        Those that the baseline has; what was never sent has no live counts.
    """
    n_tests = len(profile.features) + len(profile.outputs)
    features = [
        _compare_one(each, counted.counts.features.get(each.name), n_tests)
        for each in profile.features
    ]
    outputs = [
        _compare_one(each, counted.counts.outputs.get(each.name), n_tests)
        for each in profile.outputs
    ]
    return features, outputs


def _compare_one(
    profile: FeatureProfile, counts: Sequence[int] | None, n_tests: int
) -> FeatureDrift:
    if counts is None or len(counts) != profile.n_bins + 1:
        counts = [0] * (profile.n_bins + 1)
    live, missing = list(counts[:-1]), counts[-1]
    n_baseline, n_live = sum(profile.counts) + profile.n_missing, sum(counts)
    psi = stability_index([*profile.counts, profile.n_missing], counts)
    outcome = _tested(profile, live, missing)
    p_value = min(1.0, outcome.p_value * n_tests)
    return FeatureDrift(
        name=profile.name,
        kind=profile.kind,
        level=_level(psi, p_value, n_live),
        psi=psi,
        test="chi_square" if profile.kind == "category" else "kolmogorov_smirnov",
        statistic=outcome.statistic,
        p_value=p_value,
        n_baseline=n_baseline,
        n_live=n_live,
        missing_baseline=profile.n_missing / n_baseline if n_baseline else 0.0,
        missing_live=missing / n_live if n_live else 0.0,
        edges=profile.edges,
        categories=profile.categories,
        baseline_counts=profile.counts,
        live_counts=live,
    )


def _tested(profile: FeatureProfile, live: list[int], missing: int) -> Outcome:
    """Test values, and of numbers that are missing on either side their share as well."""
    if profile.kind == "category":
        return chi_square([*profile.counts, profile.n_missing], [*live, missing])
    values = kolmogorov_smirnov(profile.counts, live)
    if not profile.n_missing and not missing:
        return values
    shares = chi_square([sum(profile.counts), profile.n_missing], [sum(live), missing])
    return Outcome(values.statistic, min(1.0, 2 * min(values.p_value, shares.p_value)))


def _level(psi: float, p_value: float, n_live: int) -> DriftLevel:
    if n_live < MIN_LIVE_ROWS:
        return "too_few"
    if p_value >= ALPHA or psi < MODERATE_PSI:
        return "none"
    return "significant" if psi >= SIGNIFICANT_PSI else "moderate"


def fold_old_days(engine: Engine, may_go_on: MayGoOn) -> None:
    """Put the hours of days that are long ago into one row each; a periodic job."""
    is_left = True
    while is_left and may_go_on():
        with writing(engine, durable=False) as connection:
            is_left = fold_day(connection, _hours_begin())


def _hours_begin() -> datetime:
    """Return the midnight before which there is a row a day."""
    return _hour(datetime.now(timezone.utc)).replace(hour=0) - timedelta(days=HOURS_KEPT_DAYS)


def _hour(at: datetime) -> datetime:
    return at.astimezone(timezone.utc).replace(minute=0, second=0, microsecond=0)


def _end_of_hour(until: datetime) -> datetime:
    """Return the full hour that is not before a time; the end of time where there is none."""
    try:
        return _hour(until + timedelta(hours=1, microseconds=-1))
    except OverflowError:
        return datetime.max.replace(tzinfo=timezone.utc)


def _require_scipy() -> None:
    try:
        import scipy.special  # noqa: F401
    except ImportError:
        raise Conflict(
            "The server's environment has no scipy, which the tests for drift need: "
            "pip install 'mlserve_jupyter[drift]' there, and restart it."
        ) from None
