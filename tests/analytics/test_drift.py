"""Whether input that has moved is found, and input that has not is left alone, over many seeds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.drift import WatchedVersion, compare, fold_old_days, read_drift
from mlserve_jupyter.analytics.histogram_rows import Counted, Counts, Period, add_counted
from mlserve_jupyter.api.drift import ALPHA, FeatureDrift
from mlserve_jupyter.api.log_policy import LogChanges
from mlserve_jupyter.api.profile import Counter, FeatureProfile, Profile
from mlserve_jupyter.artifacts.infer import infer_inputs
from mlserve_jupyter.artifacts.profile import profile_inputs
from mlserve_jupyter.errors import Conflict
from mlserve_jupyter.storage.engine import reading, writing
from tests.analytics.calls import NOON
from tests.registry.deploys import Deploys

Frame = Any  # a DataFrame
Change = Callable[[Frame], Frame]


def drawn(n: int, random: np.random.Generator) -> Frame:
    """Rows of columns of every kind, ties, tails and gaps among them."""
    frame = pd.DataFrame(
        {
            "normal": random.normal(3, 2, n),
            "heavy": random.standard_t(2, n),
            "skewed": random.lognormal(0, 1, n),
            "count": random.poisson(2, n),
            "rounded": random.normal(0, 1, n).round(1),
            "zeros": np.where(random.random(n) < 0.8, 0.0, random.exponential(1, n)),
            "flag": random.random(n) < 0.05,
            "city": random.choice(["Bern", "Basel", "Genf", "Chur"], n, p=[0.6, 0.3, 0.09, 0.01]),
            "text": ["x" * length for length in random.geometric(0.02, n)],
        }
    )
    frame.loc[random.random(n) < 0.05, "normal"] = np.nan
    return frame


def drift_of(sample: Frame, live: Frame) -> dict[str, FeatureDrift]:
    features = profile_inputs(sample, infer_inputs(sample))
    counted = Counted(len(live), Counts())
    for feature in features:
        counter = Counter(feature)
        values = live[feature.name]
        counter.add(values.astype(object).where(values.notna(), None).tolist())
        counted.counts.features[feature.name] = counter.counts
    found, _ = compare(Profile(n_rows=len(sample), features=features), counted)
    return {each.name: each for each in found}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_sample", "n_live"), [(100, 100), (200, 5000), (2000, 150), (3000, 3000)]
)
def test_input_that_has_not_moved_raises_fewer_alarms_than_promised(
    n_sample: int, n_live: int
) -> None:
    looks, alarms, small = 150, 0, 0
    for seed in range(looks):
        random = np.random.default_rng(seed)
        found = drift_of(drawn(n_sample, random), drawn(n_live, random))
        alarms += any(each.level in ("moderate", "significant") for each in found.values())
        small += min(each.p_value for each in found.values()) < ALPHA
    # 1.5 looks are expected at most; by chance alone, 7 and more come in one of 1000 runs.
    assert alarms <= 6
    assert small <= 6


def shifted(column: str, by: float) -> Change:
    return lambda frame: frame.assign(**{column: frame[column] + by})


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("normal", shifted("normal", 2)),  # one standard deviation
        ("normal", shifted("normal", -1.2)),
        ("normal", lambda f: f.assign(normal=3 + (f["normal"] - 3) * 2)),
        ("normal", lambda f: f.assign(normal=f["normal"].where(f.index % 3 != 0))),
        ("normal", lambda f: f.assign(normal=f["normal"] * 1000)),
        ("heavy", shifted("heavy", 1)),
        ("skewed", lambda f: f.assign(skewed=f["skewed"] * 2)),
        ("count", lambda f: f.assign(count=f["count"] + (f.index % 2))),
        ("rounded", shifted("rounded", 0.6)),
        ("zeros", lambda f: f.assign(zeros=f["zeros"].where(f.index % 3 != 0, 1.0))),
        ("flag", lambda f: f.assign(flag=f.index % 4 == 0)),
        ("city", lambda f: f.assign(city=f["city"].where(f.index % 4 != 0, "Zug"))),
        ("city", lambda f: f.assign(city=f["city"].replace("Bern", "Chur"))),
        ("text", lambda f: f.assign(text=f["text"] + "y" * 30)),
    ],
)
def test_a_column_that_has_moved_is_found_and_no_other(column: str, change: Change) -> None:
    found_in = others = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        found = drift_of(drawn(1000, random), change(drawn(500, random)))
        found_in += found[column].level in ("moderate", "significant")
        others += sum(
            each.level in ("moderate", "significant")
            for name, each in found.items()
            if name != column
        )
    assert found_in >= 19
    assert others <= 1


def test_large_samples_make_no_alarm_of_a_difference_that_does_not_matter() -> None:
    random = np.random.default_rng(1)
    found = drift_of(drawn(10_000, random), shifted("normal", 0.2)(drawn(200_000, random)))
    assert found["normal"].p_value < 1e-6
    assert found["normal"].psi < 0.1
    assert found["normal"].level == "none"


def test_the_figures_are_those_of_the_counts() -> None:
    random = np.random.default_rng(2)
    found = drift_of(drawn(1000, random), drawn(400, random))["normal"]
    assert (found.n_baseline, found.n_live) == (1000, 400)
    assert sum(found.baseline_counts) == round(1000 * (1 - found.missing_baseline))
    assert sum(found.live_counts) == round(400 * (1 - found.missing_live))
    assert len(found.live_counts) == len(found.edges) + 1
    assert found.test == "kolmogorov_smirnov"


def test_columns_of_which_nothing_was_seen_are_not_judged() -> None:
    random = np.random.default_rng(2)
    sample = drawn(1000, random)
    features = profile_inputs(sample, infer_inputs(sample))
    found, _ = compare(Profile(n_rows=1000, features=features), Counted())
    assert {each.level for each in found} == {"too_few"}
    assert {each.psi for each in found} == {0.0}


def test_without_scipy_the_answer_says_what_to_install(
    engine: Engine, deploy: Deploys, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = deploy()
    watched = WatchedVersion(served.id, served.model, served.version, ())
    with reading(engine) as connection:
        assert read_drift(connection, watched, NOON, NOON).level == "no_baseline"
        monkeypatch.setitem(sys.modules, "scipy.special", None)
        with pytest.raises(Conflict, match=r"mlserve_jupyter\[drift\]"):
            read_drift(connection, watched, NOON, NOON)


def test_a_range_may_end_with_the_last_hour_there_is(engine: Engine, deploy: Deploys) -> None:
    served = deploy()
    watched = WatchedVersion(served.id, served.model, served.version, ())
    last = datetime.max.replace(tzinfo=timezone.utc)
    with reading(engine) as connection:
        assert read_drift(connection, watched, NOON, last).level == "no_baseline"


def test_columns_that_the_log_leaves_out_have_no_baseline(engine: Engine, deploy: Deploys) -> None:
    features = [
        FeatureProfile(name=name, kind="number", edges=[0.0], counts=[1, 1])
        for name in ("size", "kind")
    ]
    profile = Profile(n_rows=2, features=features)
    hidden = LogChanges(without=["size"])
    first = deploy(baseline=profile, logging=hidden)
    second = deploy(baseline=profile)  # the policy stays with the model
    for served in (first, second):
        watched = WatchedVersion(served.id, served.model, served.version, ("size", "kind"))
        with reading(engine) as connection:
            found = read_drift(connection, watched, NOON, NOON)
        assert [each.name for each in found.features] == ["kind"]
        assert found.not_watched == ["size"]


def test_a_range_counts_whole_hours_and_of_long_ago_whole_days(
    engine: Engine, deploy: Deploys
) -> None:
    served = deploy(baseline=Profile(n_rows=30))
    watched = WatchedVersion(served.id, served.model, served.version, ())
    now = datetime.now(timezone.utc).replace(minute=10, second=0, microsecond=0)
    long_ago = now.replace(hour=13) - timedelta(days=20)
    for at in (now, long_ago):
        hour = at.replace(minute=0)
        with writing(engine) as connection:
            add_counted(connection, Period(served.id, hour, served.model_id), Counted(7))
    fold_old_days(engine, lambda: True)

    def n_rows(since: datetime, until: datetime) -> int:
        with reading(engine) as connection:
            return read_drift(connection, watched, since, until).n_live_rows

    minute = timedelta(minutes=1)
    assert n_rows(now, now + minute) == 7
    assert n_rows(now - timedelta(hours=1), now - 11 * minute) == 0
    assert n_rows(long_ago, long_ago + minute) == 7
    assert n_rows(long_ago - timedelta(days=2), long_ago - timedelta(days=1)) == 0
