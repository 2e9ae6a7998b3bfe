"""Labels that meet the log in the database: what is scored, what is not, and what is not found."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics import quality as quality_module
from mlserve_jupyter.analytics.labels import (
    KEPT_WITHOUT_CALL_DAYS,
    count_labelled,
    forget_labels_without_call,
    read_labels,
    write_labels,
)
from mlserve_jupyter.analytics.quality import CLOCK_SKEW, ScoredVersion, read_quality, task_of
from mlserve_jupyter.api.profile import Profile
from mlserve_jupyter.api.quality import Quality
from mlserve_jupyter.api.resources import UpdateVersion
from mlserve_jupyter.api.signature import InputSpec, OutputSpec, Signature
from mlserve_jupyter.errors import ModelNotFound, TooLarge
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.monitoring_tables import labels
from tests.analytics.calls import NOON, WAIT_S, call, opened_log
from tests.registry.deploys import Deploys


def quality_of(engine: Engine, *served: ServedVersion, **range_: Any) -> Quality:
    with reading(engine) as connection:
        return read_quality(
            connection,
            served[0].model_id,
            served[0].model,
            {each.id: ScoredVersion(each.version, each.signature) for each in served},
            range_.get("since", NOON - timedelta(days=1)),
            range_.get("until", NOON + timedelta(days=1)),
        )


def log_calls(engine: Engine, settings: Settings, *calls: Any) -> None:
    with opened_log(engine, settings) as log:
        for each in calls:
            log.append(each)
        assert log.flush(WAIT_S)


def test_each_version_is_scored_by_itself(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    first, second = deploy(), deploy()
    log_calls(
        engine,
        settings,
        *(call(first, n, outputs=b"[1]") for n in range(10)),
        *(call(second, n, outputs=b"[0]") for n in range(10, 30)),
    )
    write_labels(engine, first.model_id, {f"r{n}": [n % 2] for n in range(30)})
    found = quality_of(engine, first, second)
    assert [(each.version, each.n_calls) for each in found.versions] == [(2, 20), (1, 10)]
    assert [each.classification and each.classification.accuracy for each in found.versions] == [
        0.5,
        0.5,
    ]
    assert (found.n_labelled, found.n_calls, found.is_cut) == (30, 30, False)


def test_calls_outside_the_range_failed_calls_and_labels_without_a_call_are_not_scored(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()
    log_calls(
        engine,
        settings,
        call(served, 0, outputs=b"[1]"),
        call(served, 1, outputs=b"[1]", created_at=NOON - timedelta(days=2)),
        call(served, 2, outputs=None, status="model_failed"),
        call(served, 3, outputs=None),
        call(served, 4, outputs=b"[1,1]"),
    )
    write_labels(engine, served.model_id, {f"r{n}": [1] for n in range(6)})
    found = quality_of(engine, served)
    assert (found.n_labelled, found.n_calls) == (6, 3)
    [version] = found.versions
    assert (version.n_calls, version.n_not_scored) == (1, 2)


def test_models_with_calls_of_the_same_id_are_kept_apart(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    mine, other = deploy("mine"), deploy("other")
    log_calls(engine, settings, call(mine, 0, outputs=b"[1]"), call(other, 0, outputs=b"[1]"))
    write_labels(engine, mine.model_id, {"r0": [1]})
    assert quality_of(engine, mine).n_calls == 1
    assert quality_of(engine, other).n_calls == 0
    assert quality_of(engine, other).versions == []


def test_labels_are_replaced_and_may_come_before_the_call(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()
    write_labels(engine, served.model_id, {"r0": [0]})
    write_labels(engine, served.model_id, {"r0": [1]})
    log_calls(engine, settings, call(served, 0, outputs=b"[1]"))
    [version] = quality_of(engine, served).versions
    assert version.classification is not None
    assert version.classification.accuracy == 1
    assert [day.at.day for day in version.days] == [1]


def test_thousands_of_labels_are_read_in_pieces_and_bounded(
    engine: Engine, settings: Settings, deploy: Deploys, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = deploy()
    log_calls(engine, settings, *(call(served, n, outputs=b"[1]") for n in range(1700)))
    write_labels(engine, served.model_id, {f"r{n}": [1] for n in range(1700)})
    assert quality_of(engine, served).versions[0].n_calls == 1700
    monkeypatch.setattr(quality_module, "MAX_LABELS", 1200)
    found = quality_of(engine, served)
    assert (found.versions[0].n_calls, found.is_cut) == (1200, True)


def test_labels_of_a_model_that_is_deleted_are_refused(engine: Engine, deploy: Deploys) -> None:
    served = deploy()
    write_labels(engine, served.model_id, {"r0": [1]})
    deploy.registry.update_version(served.model_id, 1, UpdateVersion(status="archived"))
    deploy.registry.delete_model(served.model_id)
    with pytest.raises(ModelNotFound):
        write_labels(engine, served.model_id, {"r0": [1]})


@pytest.mark.parametrize(
    ("dtype", "said", "task"),
    [
        ("int64", None, "classification"),
        ("str", None, "classification"),
        ("float64", None, "regression"),
        ("Float64", None, "regression"),
        (None, None, "classification"),
        ("float64", "classification", "classification"),
        ("int64", "regression", "regression"),
    ],
)
def test_what_is_scored_is_what_the_model_says_or_what_it_gives(
    dtype: str | None, said: Any, task: str
) -> None:
    signature = Signature(
        InputSpec("ndarray", (None, 1), ()), {"predict": OutputSpec("ndarray", dtype)}
    )
    profile = None if said is None else msgspec.convert({"n_rows": 1, "task": said}, Profile)
    assert task_of(signature, "predict", profile) == task


def test_a_range_may_begin_with_the_first_day_there_is(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()
    log_calls(engine, settings, call(served, 0, outputs=b"[1]"))
    write_labels(engine, served.model_id, {"r0": [1]})
    first = datetime.min.replace(tzinfo=timezone.utc)
    assert quality_of(engine, served, since=first).n_calls == 1


def test_a_label_counts_for_one_call_the_first_one_answered_under_its_id(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()
    later = NOON + timedelta(seconds=1)
    log_calls(
        engine,
        settings,
        call(served, 0, outputs=b"[0]", created_at=later + CLOCK_SKEW / 2),
        call(served, 0, outputs=b"[1]", created_at=later),
        call(served, 0, outputs=None, status="model_failed"),
    )
    write_labels(engine, served.model_id, {"r0": [1]})
    found = quality_of(engine, served)
    assert (found.n_calls, found.versions[0].n_calls) == (1, 1)
    assert found.versions[0].classification is not None
    assert found.versions[0].classification.accuracy == 1.0
    assert quality_of(engine, served, until=later).n_calls == 0


def test_another_caller_cannot_take_a_label_over_by_using_its_id(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    first, second = deploy(), deploy()
    log_calls(engine, settings, call(first, 7, outputs=b"[1]", principal="ann (token)"))
    write_labels(engine, first.model_id, {"r7": [1]})
    before = quality_of(engine, first, second)
    later = NOON + timedelta(hours=2)
    log_calls(
        engine,
        settings,
        call(first, 7, outputs=b"[0]", created_at=later, principal="ben (token)"),
        call(second, 7, outputs=b"[0]", created_at=later, principal="ben (token)"),
    )
    assert quality_of(engine, first, second) == before
    assert before.versions[0].classification is not None
    assert before.versions[0].classification.accuracy == 1.0
    # Nor in a report that has the later calls alone.
    assert quality_of(engine, first, second, since=later).n_calls == 0
    # Nor once the version that answered first is gone.
    assert quality_of(engine, second).n_calls == 0


def test_large_labels_are_read_a_few_megabytes_at_a_time(engine: Engine, deploy: Deploys) -> None:
    served = deploy()
    large = ["x" * 250] * 1000
    write_labels(engine, served.model_id, {f"r{n}": large for n in range(40)})
    with reading(engine) as connection:
        chunks = list(read_labels(connection, served.model_id, NOON - timedelta(days=999), 35))
    assert len(chunks) > 1
    assert max(sum(map(len, chunk.values())) for chunk in chunks) < 5 * 2**20
    ids = [request_id for chunk in chunks for request_id in chunk]
    assert len(ids) == len(set(ids)) == 35


def test_labels_of_a_call_that_are_too_large_are_refused_and_none_is_kept(
    engine: Engine, deploy: Deploys
) -> None:
    served = deploy()
    with pytest.raises(TooLarge, match=r"call r1 take 3\d\d,\d\d\d bytes .* 262,144"):
        write_labels(engine, served.model_id, {"r0": [1], "r1": ["x" * 250] * 1200})
    with reading(engine) as connection:
        assert count_labelled(connection, served.model_id) == 0


def test_labels_without_a_call_are_forgotten_after_a_month(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served, other = deploy("one"), deploy("other")
    log_calls(engine, settings, call(served, 0), call(other, 1))
    write_labels(engine, served.model_id, {f"r{n}": [1] for n in range(1200)})
    write_labels(engine, other.model_id, {"r0": [1], "r1": [1]})
    old = datetime.now(timezone.utc) - timedelta(days=KEPT_WITHOUT_CALL_DAYS, minutes=1)
    with writing(engine) as connection:
        connection.execute(labels.update().values(created_at=old))
    write_labels(engine, served.model_id, {"r1199": [0]})
    forget_labels_without_call(engine, lambda: True)
    with reading(engine) as connection:
        kept = connection.execute(sa.select(labels.c.model_id, labels.c.request_id)).all()
    assert sorted(tuple(row) for row in kept) == sorted(
        [(served.model_id, "r0"), (served.model_id, "r1199"), (other.model_id, "r1")]
    )
