from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.analytics.prediction_rows import WaitingRow
from mlserve_jupyter.api.log_policy import LogChanges, LoggedAs, LogPolicy, logged_as
from mlserve_jupyter.api.resources import UpdateModel, UpdateVersion
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading
from mlserve_jupyter.storage.tables import predictions
from tests.analytics.calls import WAIT_S, call, losses_by_reason, n_rows, opened_log
from tests.registry.deploys import SIGNATURE, Deploys

SECRET = "ada@example.org"


def policy(**policy: object) -> LoggedAs | None:
    return logged_as(msgspec.convert(policy, LogPolicy), SIGNATURE.inputs)


class Noting:
    def __init__(self) -> None:
        self.rows: list[WaitingRow] = []

    def __call__(self, connection: Connection, rows: Sequence[WaitingRow]) -> None:
        self.rows += rows


def logged(
    engine: Engine, settings: Settings, records: Sequence[PredictionRecord]
) -> tuple[list[sa.Row], list[WaitingRow]]:  # type: ignore[type-arg]
    """Log calls; return the rows of the table, and what observers were told of."""
    observer = Noting()
    with opened_log(engine, settings, [observer]) as log:
        for record in records:
            log.append(record)
        assert log.flush(WAIT_S)
    with reading(engine) as connection:
        rows = connection.execute(sa.select(predictions).order_by(predictions.c.sequence)).all()
    return list(rows), observer.rows


def secretive(served: ServedVersion, **others: object) -> PredictionRecord:
    facts = {"inputs": b'{"instances":[[1.5,"%s"]]}' % SECRET.encode(), **others}
    return call(served, **facts)


def test_a_share_of_the_calls_is_logged_and_all_are_counted(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served, tenth = deploy(), policy(share=0.1)
    records = [call(served, number, logged_as=tenth) for number in range(2000)]
    rows, told = logged(engine, settings, records)
    # Six standard deviations of a binomial distribution: a false alarm in 10^9 runs.
    assert 200 - 81 < len(rows) < 200 + 81
    assert len(told) == 2000
    assert [row.is_kept for row in told].count(True) == len(rows)
    assert all(row.record.inputs is None for row in told if not row.is_kept)
    with opened_log(engine, settings) as log:
        assert log.last_calls([served.model_id])[served.model_id].n_predictions == 2000
        assert log.losses() == 0


def test_nothing_is_logged_of_a_model_whose_share_is_none(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    none = policy(share=0)
    rows, told = logged(
        engine, settings, [secretive(deploy(), logged_as=none, error=SECRET) for _ in range(3)]
    )
    assert rows == []
    assert [row.is_kept for row in told] == [False] * 3
    assert SECRET not in repr(told)


def test_columns_that_are_left_out_reach_neither_the_table_nor_observers(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served, without = deploy(), policy(without=["kind"])
    body = b'{"instances":[{"size":2.5,"kind":"%s"}]}' % SECRET.encode()
    rows, told = logged(
        engine,
        settings,
        [
            secretive(served, logged_as=without),
            secretive(served, logged_as=without, inputs=body),
            secretive(served, logged_as=without, inputs=b'"size,kind\\n1,%s"' % SECRET.encode()),
            secretive(served, logged_as=without, status="model_failed", error=SECRET),
            secretive(served, logged_as=without, inputs=None),
        ],
    )
    assert [row.inputs and msgspec.json.decode(row.inputs) for row in rows] == [
        {"dataframe_split": {"columns": ["size"], "data": [[1.5]]}},
        {"instances": [{"size": 2.5}]},
        None,
        None,
        None,
    ]
    assert [row.status for row in rows] == ["ok", "ok", "ok", "model_failed", "ok"]
    assert rows[0].outputs is not None
    assert SECRET not in repr(rows)
    assert SECRET not in repr(told)


def test_a_model_may_be_logged_without_what_was_sent(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    rows, _ = logged(engine, settings, [secretive(deploy(), logged_as=policy(inputs=False))])
    assert [(row.inputs, row.outputs) for row in rows] == [(None, "[1]")]


def test_a_version_that_is_gone_costs_no_other_call_that_is_only_counted(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served, gone, none = deploy(), deploy("gone"), policy(share=0)
    deploy.registry.update_version(gone.model_id, 1, UpdateVersion(status="archived"))
    deploy.registry.delete_model(gone.model_id)
    records = [call(version, logged_as=none) for version in (served, gone, served)]
    _, told = logged(engine, settings, [*records, call(served)])
    assert [row.record.version_id for row in told] == [served.id] * 3
    assert n_rows(engine) == 1
    assert losses_by_reason(engine) == {"version_deleted": 1}


def test_the_policy_of_a_model_reaches_its_versions_old_and_new(deploy: Deploys) -> None:
    first = deploy()
    assert deploy.registry.snapshot().by_id(first.model_id).versions[1].logged_as is None
    wanted = LogChanges(share=0.5, without=["kind"])
    deploy.registry.update_model(first.model_id, UpdateModel(logging=wanted))
    deploy()
    model = deploy.registry.snapshot().by_id(first.model_id)
    assert model.logging == wanted.applied_to(LogPolicy())
    assert [version.logged_as for version in model.versions.values()] == [
        LoggedAs(0.5, True, frozenset({"kind"}), ("size", "kind"), "table", False)
    ] * 2
    deploy.registry.update_model(
        first.model_id, UpdateModel(logging=LogChanges(share=1, without=[]))
    )
    model = deploy.registry.snapshot().by_id(first.model_id)
    assert [version.logged_as for version in model.versions.values()] == [None, None]
