"""What the rollups say is what the calls in the log add up to, folded or not."""

from __future__ import annotations

import math
import os
import random
import signal
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from threading import Event, Thread
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics import rollups
from mlserve_jupyter.analytics.latency_histogram import LEAST_MS
from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.analytics.prediction_rows import WaitingRow
from mlserve_jupyter.analytics.reports import ReportedModel, ReportedVersion, Reports, When
from mlserve_jupyter.analytics.rollup_steps import DAY_S, HOUR_S, KEPT_S, MINUTE_S
from mlserve_jupyter.analytics.rollups import UNKNOWN_METHOD, count_calls, expire, fold
from mlserve_jupyter.api.analytics import RELATIVE_ERROR, Figures, Percentiles
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.monitoring_tables import (
    caller_stats,
    model_stats,
    prediction_stats,
    stat_deltas,
)
from tests.analytics.calls import WAIT_S, call, opened_log
from tests.registry.deploys import Deploys
from tests.storage.databases import opened, processes

MARGIN = RELATIVE_ERROR * 1.000001


def now() -> datetime:
    return datetime.now(timezone.utc)


def reported(*versions: ServedVersion) -> ReportedModel:
    return ReportedModel(
        versions[0].model_id,
        versions[0].model,
        {each.id: ReportedVersion(each.id, each.version, each.status) for each in versions},
    )


def some_calls(
    versions: Sequence[ServedVersion], n: int, seed: int, days: float = 1.0
) -> list[PredictionRecord]:
    """Make calls of all kinds within the last days."""
    draw = random.Random(seed)
    until = now()
    calls = []
    for number in range(n):
        cached = draw.random() < 0.2
        failed = draw.random() < 0.1
        queue_ms = 0.0 if cached or draw.random() < 0.5 else draw.expovariate(2)
        load_ms = 0.0 if cached or draw.random() < 0.95 else draw.lognormvariate(4, 1)
        predict_ms = 0.0 if cached else draw.lognormvariate(1, 1.5)
        calls.append(
            call(
                draw.choice(versions),
                number,
                created_at=until - timedelta(seconds=draw.random() * days * DAY_S),
                principal=draw.choice(["ann", "bob", "zoë"]),
                method=draw.choice(["predict", "sim"]),
                status="invalid_value" if failed else "ok",
                cached=cached,
                n_rows=draw.randrange(5),
                queue_ms=queue_ms,
                load_ms=load_ms,
                predict_ms=predict_ms,
                total_ms=queue_ms + load_ms + predict_ms + draw.random() / 10,
            )
        )
    return calls


def write(engine: Engine, calls: Sequence[PredictionRecord], batch: int = 50) -> None:
    """Hand calls to the rollups, a batch at a time."""
    for start in range(0, len(calls), batch):
        with writing(engine, durable=False) as connection:
            count_calls(
                connection, [WaitingRow(0, each, False, 0) for each in calls[start : start + batch]]
            )


def check_percentiles(found: Percentiles | None, values: list[float]) -> None:
    if not values:
        assert found is None
        return
    assert found is not None
    assert found.n == len(values)
    ordered = sorted(values)
    for percent, estimate in ((50, found.p50_ms), (95, found.p95_ms), (99, found.p99_ms)):
        exact = ordered[math.ceil(percent * len(ordered) / 100) - 1]
        assert abs(estimate - exact) <= MARGIN * exact + LEAST_MS


def check_figures(found: Figures, calls: Sequence[PredictionRecord]) -> None:
    """Check figures against the calls themselves."""
    assert found.n == len(calls)
    assert found.errors == sum(each.status != "ok" for each in calls)
    assert found.cached == sum(each.cached for each in calls)
    assert found.rows == sum(each.n_rows for each in calls)
    assert found.error_rate == (found.errors / found.n if calls else 0)
    assert found.cache_hit_rate == (found.cached / found.n if calls else 0)
    check_percentiles(found.total, [each.total_ms for each in calls])
    for stage in ("queue", "load", "predict"):
        times_ms = [getattr(each, f"{stage}_ms") for each in calls if not each.cached]
        check_percentiles(getattr(found, stage), [ms for ms in times_ms if ms])


def check_all(engine: Engine, model: ReportedModel, calls: Sequence[PredictionRecord]) -> None:
    """Check each report against the calls themselves."""
    reports = Reports(engine)
    whole = When(since=now() - timedelta(days=100))

    def of(**wanted: Any) -> list[PredictionRecord]:
        return [
            each
            for each in calls
            if all(getattr(each, name) == value for name, value in wanted.items())
        ]

    report = reports.model(model, whole)
    check_figures(report.all, calls)
    assert sum(report.histogram.counts) == len(calls)
    ids = {version.version: id for id, version in model.versions.items()}
    for version in report.versions:
        check_figures(version, of(version_id=ids[version.version]))
        assert version.share == version.n / len(calls)
    for method in report.methods:
        check_figures(method, of(method=method.method))
    assert sum(method.n for method in report.methods) == len(calls)
    by_caller = {caller.principal: caller.n for caller in report.callers}
    assert by_caller == {name: len(of(principal=name)) for name in by_caller}
    assert sum(by_caller.values()) == len(calls)
    assert [caller.n for caller in report.callers] == sorted(by_caller.values(), reverse=True)
    slowest = sorted(calls, key=lambda each: -each.total_ms)[:10]
    assert [each.request_id for each in report.slowest] == [each.request_id for each in slowest]
    assert [each.at for each in report.slowest] == [each.created_at for each in slowest]

    summary = reports.summary([model], whole)
    check_figures(summary.all, calls)
    assert [each.id for each in summary.models] == [model.id]
    assert summary.models == reports.summary([model], whole, of_all=True).models

    series = reports.timeseries(model, When(since=now() - timedelta(days=1, hours=1)))
    within = [each for each in calls if series.since <= each.created_at < series.until]
    check_figures(series.all, within)
    for point in series.points:
        end = point.at + timedelta(seconds=series.step_s)
        check_figures(point, [each for each in within if point.at <= each.created_at < end])

    limited = reports.timeseries(model, whole, next(iter(model.versions.values())), "sim", "ann")
    first = next(iter(model.versions))
    check_figures(limited.all, of(version_id=first, method="sim", principal="ann"))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_figure_is_that_of_the_calls_themselves_within_the_stated_error(
    engine: Engine, deploy: Deploys, seed: int
) -> None:
    versions = [deploy("clf"), deploy("clf", b"next")]
    calls = some_calls(versions, 400, seed)
    model = reported(*versions)
    write(engine, calls[:250])
    check_all(engine, model, calls[:250])
    fold(engine)
    check_all(engine, model, calls[:250])
    write(engine, calls[250:])  # some of them in periods that are there, the rest beside them
    check_all(engine, model, calls)
    fold(engine)
    check_all(engine, model, calls)
    with reading(engine) as connection:
        assert connection.execute(sa.select(stat_deltas)).all() == []


@pytest.mark.slow
def test_ranges_of_months_are_made_of_the_periods_that_are_kept_of_them(
    engine: Engine, deploy: Deploys
) -> None:
    served = deploy()
    calls = some_calls([served], 1500, 5, days=300)
    write(engine, calls)
    fold(engine)
    n_before = n_periods(engine)
    expire(engine)
    assert n_periods(engine) < n_before
    model, reports = reported(served), Reports(engine)
    for days in (0.5, 1.5, 3, 17, 40, 179, 290):
        for until in (None, now() - timedelta(days=days / 3)):
            found = reports.model(model, When(now() - timedelta(days=days), until))
            assert found.since <= now() - timedelta(days=days)
            within = [each for each in calls if found.since <= each.created_at < found.until]
            check_figures(found.all, within)
            check_figures(
                reports.timeseries(model, When(found.since, found.until)).all,
                calls_in(calls, reports.timeseries(model, When(found.since, found.until))),
            )


def calls_in(calls: Sequence[PredictionRecord], series: Any) -> list[PredictionRecord]:
    return [each for each in calls if series.since <= each.created_at < series.until]


def n_periods(engine: Engine) -> int:
    return n_rows_of(engine, prediction_stats) + n_rows_of(engine, caller_stats)


def n_rows_of(engine: Engine, table: sa.Table) -> int:
    with reading(engine) as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


def test_the_log_adds_its_calls_to_the_rollups_in_its_own_transaction(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()
    calls = some_calls([served], 60, 1)
    failed: list[str] = []

    def fail_once(connection: sa.Connection) -> None:
        sa.event.remove(engine, "commit", fail_once)
        failed.append("commit")
        raise sa.exc.OperationalError("COMMIT", None, Exception("disk I/O error"))

    with opened_log(engine, settings, [count_calls]) as log:
        sa.event.listen(engine, "commit", fail_once)
        for each in calls:
            log.append(each)
        assert log.flush(WAIT_S)
    assert failed == ["commit"]
    check_all(engine, reported(served), calls)


def test_periods_do_not_depend_on_when_they_are_folded(engine: Engine, deploy: Deploys) -> None:
    served = [deploy("a"), deploy("b")]
    calls = some_calls(served[:1], 200, 7)
    twins = [
        # The same calls of another model, folded once a batch.
        PredictionRecord(
            **{**_fields(each), "model_id": served[1].model_id, "version_id": served[1].id}
        )
        for each in calls
    ]
    write(engine, calls)
    fold(engine)
    for start in range(0, len(twins), 20):
        write(engine, twins[start : start + 20], batch=7)
        fold(engine)
    for table in (model_stats, prediction_stats, caller_stats):
        first, second = (_periods(engine, table, each.model_id) for each in served)
        assert first == second
        assert len(first) > 200


def _fields(record: PredictionRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in PredictionRecord.__struct_fields__}


def _periods(engine: Engine, table: sa.Table, model_id: str) -> list[tuple[Any, ...]]:
    columns = [column for column in table.c if column.name not in ("model_id", "version_id")]
    query = sa.select(*columns).where(table.c.model_id == model_id)
    with reading(engine) as connection:
        return sorted(tuple(row) for row in connection.execute(query))


def test_a_call_counts_in_one_period_of_each_length(engine: Engine, deploy: Deploys) -> None:
    served = deploy()
    write(engine, some_calls([served], 100, 3))
    fold(engine)
    for table in (model_stats, prediction_stats, caller_stats):
        with reading(engine) as connection:
            sums = connection.execute(
                sa.select(table.c.step_s, sa.func.sum(table.c.n_predictions)).group_by(
                    table.c.step_s
                )
            )
            assert {step_s: int(n) for step_s, n in sums} == dict.fromkeys(KEPT_S, 100)


def test_a_report_sees_each_call_once_while_others_fold(
    engine: Engine, settings: Settings, deploy: Deploys, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = deploy()
    calls = some_calls([served], 300, 9)
    write(engine, calls, batch=5)
    monkeypatch.setattr(rollups, "FOLD_ROWS", 7)
    done = Event()

    def fold_and_tell() -> None:
        with opened(settings) as own:
            fold(own)
        done.set()

    folding = Thread(target=fold_and_tell)
    folding.start()
    reports, model = Reports(engine), reported(served)
    while not done.is_set():
        assert reports.model(model, When(now() - timedelta(days=2))).all.n == 300
    folding.join()
    check_all(engine, model, calls)


def test_two_processes_that_fold_at_once_count_each_call_once(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()
    calls = some_calls([served], 300, 10)
    write(engine, calls, batch=3)
    children = [processes.Process(target=_fold_all, args=(settings,)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    check_all(engine, reported(served), calls)


def _fold_all(settings: Settings) -> None:
    rollups.FOLD_ROWS = 5
    with opened(settings) as engine:
        fold(engine)


def test_a_process_that_is_killed_while_it_folds_loses_nothing(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    served = deploy()
    calls = some_calls([served], 300, 11)
    write(engine, calls, batch=10)
    for n_statements in (1, 3, 6, 9):
        child = processes.Process(target=_fold_and_die, args=(settings, n_statements))
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
        check_all(engine, reported(served), calls)
    fold(engine)
    check_all(engine, reported(served), calls)


def _fold_and_die(settings: Settings, n_statements: int) -> None:
    """Fold, and end like a killed process after some statements of the second transaction."""
    rollups.FOLD_ROWS = 20
    with opened(settings) as engine:
        rollups.fold(engine, iter([True, False]).__next__)
        left = n_statements

        def die(*of_the_event: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sa.event.listen(engine, "before_cursor_execute", die)
        fold(engine)


def test_a_fold_stops_between_two_transactions_when_it_is_told(
    engine: Engine, deploy: Deploys, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = deploy()
    calls = some_calls([served], 100, 12)
    write(engine, calls, batch=4)
    monkeypatch.setattr(rollups, "FOLD_ROWS", 10)
    n_deltas = n_rows_of(engine, stat_deltas)
    fold(engine, iter([True, True, False]).__next__)
    assert n_rows_of(engine, stat_deltas) == n_deltas - 20
    check_all(engine, reported(served), calls)


def test_what_is_left_of_a_deleted_model_is_left_out(
    engine: Engine, settings: Settings, deploy: Deploys
) -> None:
    gone, stays = deploy("gone"), deploy("stays")
    write(engine, some_calls([gone, stays], 50, 13))
    fold(engine)
    _archive_and_delete(deploy, gone)
    with reading(engine) as connection:
        for table in (model_stats, prediction_stats, caller_stats, stat_deltas):
            assert not connection.execute(
                sa.select(table.c.model_id).where(table.c.model_id == gone.model_id)
            ).all()
    late = some_calls([gone], 5, 14)  # written by a process that has not noticed
    write(engine, late)
    fold(engine)
    with reading(engine) as connection:
        assert connection.execute(sa.select(stat_deltas)).all() == []
    everything = Reports(engine).summary([reported(stays)], When(now() - timedelta(days=2)))
    assert [each.model for each in everything.models] == ["stays"]


def _archive_and_delete(deploy: Deploys, served: ServedVersion) -> None:
    from mlserve_jupyter.api.resources import UpdateVersion

    deploy.registry.update_version(
        served.model_id, served.version, UpdateVersion(status="archived")
    )
    deploy.registry.delete_model(served.model_id)


def test_methods_that_callers_make_up_are_one(engine: Engine, deploy: Deploys) -> None:
    served = deploy()
    names = ["predict", "x" * 1000, "made\0up", "", *(f"m{i}" for i in range(20))]
    write(engine, [call(served, i, method=name, created_at=now()) for i, name in enumerate(names)])
    model, reports = reported(served), Reports(engine)
    for fold_first in (False, True):
        if fold_first:
            fold(engine)
        report = reports.model(model, When())
        known = {each.method: each.n for each in report.methods}
        assert known == {UNKNOWN_METHOD: 23, "predict": 1}
        assert {each.method for each in report.slowest} <= {UNKNOWN_METHOD, "predict"}
        assert reports.timeseries(model, When(), method="m1").all.n == 0


def test_there_is_nothing_before_the_first_call(engine: Engine, deploy: Deploys) -> None:
    served, reports = deploy(), Reports(engine)
    model = reported(served)
    version = model.versions[served.id]
    assert reports.summary([model], When()).models == []
    assert reports.summary([], When()).all.n == 0
    assert reports.model(model, When()).all.total is None
    assert reports.timeseries(model, When()).all.n == 0
    compared = reports.compare(model, version, version, When())
    assert (compared.a.n, compared.a.share, compared.a.histogram.counts) == (0, 0.0, [])


def test_models_of_others_are_not_counted(engine: Engine, deploy: Deploys) -> None:
    mine, others = deploy("mine"), deploy("others")
    write(engine, some_calls([mine, others], 80, 15))
    when = When(now() - timedelta(days=2))
    reports = Reports(engine)
    n_mine = reports.model(reported(mine), when).all.n
    found = reports.summary([reported(mine)], when)
    assert 0 < found.all.n == n_mine < 80
    assert {each.model for each in found.slowest} == {"mine"}
    assert sum(caller.n for caller in found.callers) == n_mine
    assert reports.usage([reported(mine)], when).all.n == n_mine
    assert reports.usage([reported(mine), reported(others)], when, of_all=True).all.n == 80


def test_two_versions_side_by_side(engine: Engine, deploy: Deploys) -> None:
    versions = [deploy("clf"), deploy("clf", b"two"), deploy("clf", b"three")]
    calls = some_calls(versions, 300, 16)
    write(engine, calls)
    model = reported(*versions)
    a, b = (model.versions[each.id] for each in versions[:2])
    found = Reports(engine).compare(model, a, b, When(now() - timedelta(days=2)))
    for compared, served in ((found.a, versions[0]), (found.b, versions[1])):
        own = [each for each in calls if each.version_id == served.id]
        check_figures(compared, own)
        assert compared.version == served.version
        assert compared.share == pytest.approx(len(own) / 300)
        assert sum(point.n for point in compared.points) == len(own)
        assert sum(compared.histogram.counts) == len(own)
    assert [point.at for point in found.a.points] == [point.at for point in found.b.points]


def test_steps_may_be_any_number_of_minutes(engine: Engine, deploy: Deploys) -> None:
    served = deploy()
    calls = some_calls([served], 200, 17, days=0.2)
    write(engine, calls)
    fold(engine)
    for step_s in (MINUTE_S, 7 * MINUTE_S, 900, HOUR_S, 7 * HOUR_S, DAY_S):
        series = Reports(engine).timeseries(
            reported(served), When(now() - timedelta(hours=5), step_s=step_s)
        )
        assert series.step_s == step_s
        check_figures(series.all, calls_in(calls, series))
        assert series.all.n == 200
        for point in series.points:
            end = point.at + timedelta(seconds=step_s)
            assert point.n == len([c for c in calls if point.at <= c.created_at < end])
