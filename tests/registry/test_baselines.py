"""What a model's log leaves out is not in the histograms of its samples, nor of its calls."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.histogram_rows import (
    Counted,
    Counts,
    Period,
    add_counted,
    fold_day,
    read_baseline,
    read_counted,
)
from mlserve_jupyter.api.log_policy import LogChanges
from mlserve_jupyter.api.profile import FeatureProfile, Profile
from mlserve_jupyter.api.resources import UpdateModel
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.monitoring_tables import live_histograms
from tests.analytics.calls import NOON
from tests.registry.deploys import Deploys

SECRET = "ada@example.org"
PROFILE = Profile(
    n_rows=2,
    features=[
        FeatureProfile(name="size", kind="number", edges=[0.0], counts=[2, 0]),
        FeatureProfile(name="kind", kind="category", categories=[SECRET], counts=[2, 0]),
    ],
    method="predict",
    outputs=[FeatureProfile(name="predict", kind="number", edges=[0.0], counts=[2, 0])],
)
COUNTS = Counts({"size": [1, 0, 0], "kind": [1, 0, 0]}, {"predict": [1, 0, 0]})

POLICIES = [
    (LogChanges(share=0), set()),
    (LogChanges(inputs=False), set()),
    (LogChanges(without=["kind"]), {"size"}),
    (LogChanges(share=0.5), {"size", "kind"}),
]


def features_of(engine: Engine, served: ServedVersion) -> set[str]:
    with reading(engine) as connection:
        baseline = read_baseline(connection, served.id)
    assert baseline is not None
    assert baseline.profile.outputs == PROFILE.outputs
    has_secret = SECRET.encode() in msgspec.json.encode(baseline.profile)
    assert has_secret == any(each.name == "kind" for each in baseline.profile.features)
    return {each.name for each in baseline.profile.features}


def add(engine: Engine, served: ServedVersion, hour: int = 0) -> None:
    with writing(engine) as connection:
        period = Period(served.id, NOON + timedelta(hours=hour), served.model_id)
        assert add_counted(connection, period, Counted(1, COUNTS))


def counted(engine: Engine, served: ServedVersion) -> Counted:
    with reading(engine) as connection:
        return read_counted(connection, served.id, NOON - timedelta(1), NOON + timedelta(1))


@pytest.mark.parametrize(("changes", "kept"), POLICIES)
def test_a_deploy_keeps_no_histogram_of_what_the_log_leaves_out(
    engine: Engine, deploy: Deploys, changes: LogChanges, kept: set[str]
) -> None:
    assert features_of(engine, deploy(baseline=PROFILE, logging=changes)) == kept


@pytest.mark.parametrize(("changes", "kept"), POLICIES)
def test_a_later_policy_takes_columns_out_of_what_is_there(
    engine: Engine, deploy: Deploys, changes: LogChanges, kept: set[str]
) -> None:
    versions = [deploy(baseline=PROFILE), deploy(baseline=PROFILE)]
    other = deploy("other", baseline=PROFILE)
    for served in (*versions, other):
        add(engine, served)
    deploy.registry.update_model(versions[0].model_id, UpdateModel(logging=changes))
    for served in versions:
        assert features_of(engine, served) == kept
        found = counted(engine, served)
        assert found.n_rows == 1
        assert found.counts.features.keys() == kept
        assert found.counts.outputs == COUNTS.outputs
    assert features_of(engine, other) == {"size", "kind"}
    assert counted(engine, other).counts == COUNTS


def test_what_was_counted_before_a_policy_is_not_written_after_it(
    engine: Engine, deploy: Deploys
) -> None:
    served = deploy(baseline=PROFILE)
    changes = UpdateModel(logging=LogChanges(without=["kind"]))
    deploy.registry.update_model(served.model_id, changes)
    for hour in range(2):
        add(engine, served, hour)
    assert counted(engine, served).counts.features.keys() == {"size"}
    with writing(engine) as connection:
        assert fold_day(connection, NOON + timedelta(days=30))
    found = counted(engine, served)
    assert found.n_rows == 2
    assert found.counts.features == {"size": [2, 0, 0]}
    with reading(engine) as connection:
        assert connection.execute(sa.select(live_histograms.c.hours)).scalars().all() == [24]
