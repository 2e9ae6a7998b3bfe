"""Counting a sample of the calls beside the log: what is counted, how much at most, and when."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.drift import fold_old_days
from mlserve_jupyter.analytics.histogram_rows import (
    Counted,
    Counts,
    Period,
    add_counted,
    read_counted,
)
from mlserve_jupyter.analytics.live_histograms import (
    BURST_ROWS,
    MAX_ROWS_A_CALL,
    LiveHistograms,
)
from mlserve_jupyter.analytics.prediction_log import PredictionLog
from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.analytics.prediction_rows import WaitingRow
from mlserve_jupyter.api.log_policy import LoggedAs
from mlserve_jupyter.api.profile import FeatureProfile, Profile
from mlserve_jupyter.api.resources import UpdateVersion
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.monitoring_tables import live_histograms
from tests.analytics.calls import NOON, WAIT_S, call, opened_log
from tests.registry.deploys import Deploys

PROFILE = Profile(
    n_rows=100,
    features=[
        FeatureProfile(
            name="size", kind="number", edges=[0.0, 10.0], counts=[0, 90, 0], n_missing=10
        ),
        FeatureProfile(name="kind", kind="category", categories=["a", "é"], counts=[60, 40, 0]),
    ],
    method="predict",
    outputs=[FeatureProfile(name="predict", kind="category", categories=["1"], counts=[100, 0])],
)


@pytest.fixture
def served(deploy: Deploys) -> ServedVersion:
    return deploy(baseline=PROFILE)


@pytest.fixture
def live(engine: Engine) -> Iterator[LiveHistograms]:
    histograms = LiveHistograms(engine)
    yield histograms
    histograms.close()


def asked(served: ServedVersion, number: int, body: Any, **others: Any) -> PredictionRecord:
    inputs = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return call(served, number, inputs=inputs, **others)


def observe(live: LiveHistograms, engine: Engine, records: list[PredictionRecord]) -> None:
    rows = [
        WaitingRow(number, record, False, record.size_bytes)
        for number, record in enumerate(records, start=1)
    ]
    with reading(engine) as connection:
        live.observe(connection, rows)
    assert live.flush(WAIT_S)


def counted(engine: Engine, served: ServedVersion) -> Counted:
    with reading(engine) as connection:
        return read_counted(connection, served.id, NOON, NOON + timedelta(hours=1))


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[5, "a"], [20, "b"], [None, "é"]]},
        {"inputs": [[5, "a"], [20, "b"], [None, "é"]]},
        {"inputs": {"kind": ["a", "b", "é"], "size": [5, 20, None]}},
        {"instances": [{"kind": "a", "size": 5}, {"kind": "b", "size": 20}, {"kind": "é"}]},
        {"dataframe_records": [{"size": 5, "kind": "a"}, {"kind": "b", "size": 20}, {"kind": "é"}]},
        {
            "dataframe_split": {
                "columns": ["kind", "size"],
                "data": [["a", 5], ["b", 20], ["é", None]],
            }
        },
        "size,kind\n5,a\n20,b\n,é\n",
        "5,a\n20,b\n,é\n",
    ],
)
def test_values_are_counted_in_whatever_form_they_came(
    engine: Engine, live: LiveHistograms, served: ServedVersion, body: Any
) -> None:
    observe(live, engine, [asked(served, 0, body, n_rows=3, outputs=b"[1,1,2]")])
    found = counted(engine, served)
    assert found.n_rows == 3
    assert found.counts.features == {"size": [0, 1, 1, 1], "kind": [1, 1, 1, 0]}
    assert found.counts.outputs == {"predict": [2, 1, 0]}


def test_calls_of_other_methods_count_as_input_only(
    engine: Engine, live: LiveHistograms, served: ServedVersion
) -> None:
    observe(live, engine, [asked(served, 0, {"instances": [[1, "a"]]}, method="sim")])
    assert counted(engine, served).counts == Counts({"size": [0, 1, 0, 0], "kind": [1, 0, 0, 0]})


@pytest.mark.parametrize(
    "inputs",
    [b"", b"{", b"[]", b"{}", b'{"instances":[]}', b'{"instances":[[1]]}', b'{"instances":1}',
     b'{"inputs":{}}', b'{"base64":"","content_type":""}', b'{"dataframe_split":{}}', b'""',
     b'{"inputs":{"size":3}}', b'{"instances":[{"size":[]}, 3]}', b"\xff"],
)  # fmt: skip
def test_what_cannot_be_read_is_not_counted_and_harms_nothing(
    engine: Engine, live: LiveHistograms, served: ServedVersion, inputs: bytes
) -> None:
    good = asked(served, 1, {"instances": [[1, "a"]]})
    observe(live, engine, [asked(served, 0, inputs, outputs=None), good])
    assert counted(engine, served).counts.features["kind"] == [1, 0, 0, 0]


def test_failed_calls_and_those_that_are_not_kept_are_not_counted(
    engine: Engine, live: LiveHistograms, served: ServedVersion
) -> None:
    record = asked(served, 0, {"instances": [[1, "a"]]})
    failed = msgspec.structs.replace(record, status="signature_mismatch")
    hidden = msgspec.structs.replace(record, inputs=None, outputs=None)
    with reading(engine) as connection:
        live.observe(
            connection,
            [WaitingRow(1, failed, False, 1), WaitingRow(2, hidden, False, 1, is_kept=False)],
        )
    assert live.flush(WAIT_S)
    assert counted(engine, served).n_rows == 0


def test_columns_that_the_log_leaves_out_are_not_taken_for_missing(
    engine: Engine, live: LiveHistograms, served: ServedVersion
) -> None:
    policy = LoggedAs(1.0, True, frozenset({"size"}), ("size", "kind"), "table", False)
    body = {"dataframe_split": {"columns": ["kind"], "data": [["a"]]}}
    observe(live, engine, [asked(served, 0, body, logged_as=policy)])
    assert counted(engine, served).counts.features == {"kind": [1, 0, 0, 0]}


def test_a_version_without_a_baseline_is_not_counted(
    engine: Engine, live: LiveHistograms, deploy: Deploys
) -> None:
    served = deploy()
    observe(live, engine, [asked(served, 0, {"instances": [[1, "a"]]})])
    assert counted(engine, served).n_rows == 0


def test_a_batch_that_is_written_again_counts_once(
    engine: Engine, live: LiveHistograms, served: ServedVersion
) -> None:
    records = [asked(served, n, {"instances": [[1, "a"]]}) for n in range(10)]
    observe(live, engine, records)
    observe(live, engine, records)
    assert counted(engine, served).n_rows == 10


def test_of_a_flood_a_bounded_sample_is_counted_that_is_like_the_whole(
    engine: Engine, live: LiveHistograms, served: ServedVersion
) -> None:
    chance = random.Random(3)
    records = [
        asked(served, n, {"instances": [[20 if chance.random() < 0.3 else 5, "a"]]})
        for n in range(20_000)
    ]
    observe(live, engine, records)
    found = counted(engine, served)
    assert BURST_ROWS <= found.n_rows <= BURST_ROWS * 1.5
    share = found.counts.features["size"][2] / found.n_rows
    assert 0.2 < share < 0.4


def test_of_one_large_call_some_rows_are_counted(
    engine: Engine, live: LiveHistograms, served: ServedVersion
) -> None:
    rows = [[5, "a"]] * 5000 + [[20, "é"]] * 5000
    record = asked(
        served, 0, {"instances": rows}, n_rows=10_000, outputs=msgspec.json.encode([1] * 10_000)
    )
    observe(live, engine, [record])
    found = counted(engine, served)
    assert found.n_rows == MAX_ROWS_A_CALL
    [_, low, high, _] = found.counts.features["size"]
    assert low + high == MAX_ROWS_A_CALL
    assert min(low, high) > 20
    # The same rows of each column.
    assert found.counts.features["kind"][:2] == [low, high]


def test_the_log_hands_its_calls_over(
    engine: Engine, settings: Settings, live: LiveHistograms, served: ServedVersion
) -> None:
    log: PredictionLog
    with opened_log(engine, settings, [live.observe]) as log:
        for n in range(200):
            log.append(asked(served, n, {"instances": [[n % 20, "a"]]}))
        assert log.flush(WAIT_S)
        assert live.flush(WAIT_S)
    assert counted(engine, served).n_rows == 200


def test_two_processes_add_to_the_same_hour(engine: Engine, served: ServedVersion) -> None:
    for _ in range(2):
        live = LiveHistograms(engine)
        observe(live, engine, [asked(served, 0, {"instances": [[1, "a"]]})])
        live.close()
    assert counted(engine, served).counts.features["kind"] == [2, 0, 0, 0]


def test_closing_writes_what_was_counted(engine: Engine, served: ServedVersion) -> None:
    live = LiveHistograms(engine, write_s=3600)
    record = asked(served, 0, {"instances": [[1, "a"]]})
    with reading(engine) as connection:
        live.observe(connection, [WaitingRow(1, record, False, 1)])
    live.close()
    assert counted(engine, served).n_rows == 1


def test_counts_of_a_model_that_is_deleted_are_dropped(
    engine: Engine, live: LiveHistograms, deploy: Deploys
) -> None:
    gone, stays = deploy("gone", baseline=PROFILE), deploy("stays", baseline=PROFILE)
    with reading(engine) as connection:
        rows = [
            WaitingRow(n, asked(served, n, {"instances": [[1, "a"]]}), False, 1)
            for n, served in enumerate((gone, stays), start=1)
        ]
        live.observe(connection, rows)
    deploy.registry.update_version(gone.model_id, 1, UpdateVersion(status="archived"))
    deploy.registry.delete_model(gone.model_id)
    assert live.flush(WAIT_S)
    assert counted(engine, gone).n_rows == 0
    assert counted(engine, stays).n_rows == 1


def test_hours_of_long_ago_become_days_and_keep_their_counts(
    engine: Engine, served: ServedVersion
) -> None:
    generator = np.random.default_rng(2)
    total = 0
    for hour in range(72):
        counts = generator.integers(0, 9, 4).tolist()
        total += sum(counts)
        with writing(engine) as connection:
            period = Period(served.id, NOON + timedelta(hours=hour), served.model_id)
            add_counted(connection, period, Counted(sum(counts), Counts({"size": counts})))
    fold_old_days(engine, lambda: True)
    fold_old_days(engine, lambda: True)
    with reading(engine) as connection:
        rows = connection.execute(sa.select(live_histograms.c.at, live_histograms.c.hours)).all()
        found = read_counted(connection, served.id, NOON - timedelta(hours=12), NOON + timedelta(4))
    midnights = [datetime(2026, 5, day, tzinfo=NOON.tzinfo) for day in (1, 2, 3, 4)]
    assert sorted(row.at for row in rows) == midnights
    assert {row.hours for row in rows} == {24}
    assert found.n_rows == total == sum(found.counts.features["size"])


def test_folding_stops_where_it_may_not_go_on(engine: Engine, served: ServedVersion) -> None:
    with writing(engine) as connection:
        add_counted(connection, Period(served.id, NOON, served.model_id), Counted(1))
    fold_old_days(engine, lambda: False)
    with reading(engine) as connection:
        assert connection.execute(sa.select(live_histograms.c.hours)).scalar_one() == 1
