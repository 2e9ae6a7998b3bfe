"""The analytics over REST: real calls of a real server, and who may see what of them."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.api.analytics import Compare, ModelReport, Summary, TimeSeries
from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.storage.engine import reading
from mlserve_jupyter.storage.monitoring_tables import model_stats, stat_deltas
from tests import toys
from tests.live import LiveServer
from tests.server.manifests import manifest_of
from tests.storage.databases import opened


@pytest.fixture(scope="module")
def server(live_server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> LiveServer:
    """A server with the model ``counted``, which has two versions and was called."""
    folder = tmp_path_factory.mktemp("analytics")
    for model, name in ((toys.SumModel(), "one"), (toys.FailsOn13(), "two")):
        (folder / name).mkdir()
        deploy(live_server, "counted", Path(toys.write_model(model, folder / name).path))
    for version, n in ((1, 12), (2, 3)):
        for number in range(n):
            value = 13.0 if version == 2 else float(number)
            call(live_server, "counted", value, version=version)
    return live_server


def deploy(server: LiveServer, name: str, artifact: Path) -> None:
    parts = [
        ("manifest", (None, encode_json(manifest_of(name, artifact)))),
        ("artifact", ("model", artifact.read_bytes())),
    ]
    answer = server.request("POST", "api/v1/models", files=parts)
    assert answer.status_code == 201, answer.text


def call(server: LiveServer, model: str, *values: float, version: int) -> httpx.Response:
    return server.request(
        "POST",
        f"api/v1/predict/{model}?version={version}",
        json={"instances": [[value] for value in values]},
    )


def ask(server: LiveServer, path: str, kind: Any, **params: Any) -> Any:
    answer = server.request("GET", f"api/v1/analytics/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=kind)


def test_what_was_called_is_in_the_report_at_once(server: LiveServer) -> None:
    report = ask(server, "models/counted/summary", ModelReport)
    assert (report.all.n, report.all.errors, report.all.rows) == (15, 3, 15)
    assert report.all.error_rate == 0.2
    assert [(each.version, each.n, each.errors) for each in report.versions] == [
        (2, 3, 3),
        (1, 12, 0),
    ]
    assert [(each.method, each.n) for each in report.methods] == [("predict", 15)]
    assert [(each.n, each.share) for each in report.callers] == [(15, 1.0)]
    assert report.all.total is not None
    assert 0 < report.all.total.p50_ms <= report.all.total.p95_ms <= report.all.total.p99_ms
    assert report.all.predict is not None
    assert report.all.predict.n == 15
    assert len(report.slowest) == 10
    assert sum(report.histogram.counts) == 15
    call(server, "counted", 1.0, 2.0, version=1)
    again = ask(server, "models/counted/summary", ModelReport)
    assert (again.all.n, again.all.rows) == (16, 17)
    pages = server.request("GET", "api/v1/analytics/models/counted/predictions").json()
    logged = {each["request_id"]: each["total_ms"] for each in pages["items"]}
    for each in again.slowest:
        assert logged[each.request_id] == each.total_ms


def test_a_summary_has_all_models_and_usage_has_them_over_time(server: LiveServer) -> None:
    summary = ask(server, "summary", Summary)
    counted = next(each for each in summary.models if each.model == "counted")
    assert counted.n >= 15
    assert summary.all.n == sum(each.n for each in summary.models)
    usage = ask(server, "usage", TimeSeries, step_s=60 * 60)
    assert usage.model is None
    assert sum(point.n for point in usage.points) == usage.all.n >= summary.all.n


def test_a_time_series_can_be_limited_to_a_version_a_method_and_a_caller(
    server: LiveServer,
) -> None:
    whole = ask(server, "models/counted/timeseries", TimeSeries)
    second = ask(server, "models/counted/timeseries", TimeSeries, version=2)
    assert whole.step_s == 900
    assert (second.version, second.all.n, second.all.errors) == (2, 3, 3)
    caller = ask(server, "models/counted/summary", ModelReport).callers[0].principal
    for params, n in (
        ({"principal": caller}, whole.all.n),
        ({"principal": "nobody"}, 0),
        ({"method": "predict"}, whole.all.n),
        ({"method": "transform"}, 0),
        ({"principal": caller, "method": "predict", "version": 2}, 3),
    ):
        assert ask(server, "models/counted/timeseries", TimeSeries, **params).all.n == n


def test_two_versions_are_compared(server: LiveServer) -> None:
    compared = ask(server, "models/counted/compare", Compare, a=1, b=2)
    assert (compared.a.version, compared.b.version) == (1, 2)
    assert (compared.a.error_rate, compared.b.error_rate) == (0.0, 1.0)
    assert compared.a.share + compared.b.share == pytest.approx(1)


def test_a_range_may_be_any(server: LiveServer) -> None:
    now = datetime.now(timezone.utc)
    before = (now - timedelta(days=2)).isoformat()
    found = ask(server, "models/counted/summary", ModelReport, since=before)
    assert found.all.n >= 15
    assert ask(server, "models/counted/summary", ModelReport, until=before).all.n == 0
    far = ask(server, "models/counted/timeseries", TimeSeries, since="0001-01-01T00:00:00Z")
    assert far.all.n >= 15
    assert len(far.points) < 2000


def test_a_range_is_written_as_people_write_times(server: LiveServer) -> None:
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    for since in ("1d", "90min", yesterday.date().isoformat()):
        assert ask(server, "models/counted/summary", ModelReport, since=since).all.n >= 15
        log = server.request("GET", f"api/v1/analytics/models/counted/predictions?since={since}")
        assert len(log.json()["items"]) >= 15


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("models/nothing/summary", 404, "no model 'nothing'"),
        ("models/counted/timeseries?version=9", 404, "no version 9"),
        ("models/counted/compare?a=1", 400, "'b' is missing: an integer from 1 on."),
        ("models/counted/compare?a=1&b=9", 404, "no version 9"),
        ("models/counted/timeseries?step_s=61", 400, "whole minutes"),
        ("models/counted/timeseries?step_s=60&since=2020-01-01T00:00:00Z", 400, "2000 is the most"),
        ("summary?since=yesterday", 400, "how long ago it was (90min, 12h, 1d)"),
        ("../models/counted?verison=1", 400, "no argument 'verison'. It takes none."),
        ("../models?limit=5&offset=5", 400, "no argument 'offset'"),
        ("../models/counted/versions/1?full=true", 400, "no argument 'full'"),
        ("summary?from=1d", 400, "no argument 'from'. It takes since, until, scope."),
        ("usage?step=60", 400, "Did you mean 'step_s'?"),
        ("models/counted/summary?sinse=1d", 400, "Did you mean 'since'?"),
        ("models/counted/timeseries?verison=1", 400, "Did you mean 'version'?"),
        ("models/counted/timeseries?step_s=1", 400, "an integer from 60 on, not '1'"),
        ("models/counted/predictions?statsu=failed&verison=1", 400, "Did you mean 'status'?"),
        ("models/counted/predictions?version=77", 404, "no version 77"),
        ("models/counted/predictions?format=xlsx", 400, "'csv' or 'json' or 'jsonl' or 'parquet'"),
        ("models/counted/drift?form=1d", 400, "no argument 'form'"),
        ("models/counted/quality?form=1d", 400, "no argument 'form'"),
        ("summary?since=9999-01-01T00:00:00Z", 400, "'since' must be before 'until'"),
        ("summary?scope=others", 400, "'scope' must be 'all' or 'own', not 'others'"),
    ],
)
def test_what_cannot_be_answered_says_why(
    server: LiveServer, path: str, status: int, says: str
) -> None:
    answer = server.request("GET", f"api/v1/analytics/{path}")
    assert answer.status_code == status, answer.text
    assert says in answer.json()["message"]


@pytest.mark.parametrize("busting", ["1795471522639", "_=1795471522639"])
def test_the_time_that_keeps_caches_from_answering_is_no_argument(
    server: LiveServer, busting: str
) -> None:
    for path in ("models?limit=5&", "analytics/summary?since=1d&"):
        answer = server.request("GET", f"api/v1/{path}{busting}")
        assert answer.status_code == 200, answer.text


@pytest.mark.slow
def test_a_server_folds_what_was_called_by_itself(own_server: LiveServer, tmp_path: Path) -> None:
    deploy(own_server, "folded", Path(toys.write_model(toys.SumModel(), tmp_path).path))
    call(own_server, "folded", 1.0, version=1)
    assert ask(own_server, "models/folded/summary", ModelReport).all.n == 1
    deadline_s = time.monotonic() + 90
    with opened(own_server.settings) as engine:
        while n_rows(engine, stat_deltas) and time.monotonic() < deadline_s:
            time.sleep(0.2)
        assert n_rows(engine, stat_deltas) == 0
        assert n_rows(engine, model_stats) == 5
    assert ask(own_server, "models/folded/summary", ModelReport).all.n == 1


def n_rows(engine: Engine, table: sa.Table) -> int:
    with reading(engine) as connection:
        return len(connection.execute(sa.select(table.c.model_id)).all())
