"""The prediction log over REST: what is kept, what is found, and files of it."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from pyarrow import parquet
from tornado.httputil import HTTPHeaders

from mlserve_jupyter.analytics.prediction_log import PredictionLog
from mlserve_jupyter.api.log_policy import LogChanges
from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.api.signature import Signature
from mlserve_jupyter.client.connection import Connection
from mlserve_jupyter.client.http import Client
from mlserve_jupyter.errors import InvalidUsage, RequestFailed
from mlserve_jupyter.server.predictions import accepted_format
from mlserve_jupyter.server.resource import request_id_of
from mlserve_jupyter.storage.engine import open_engine, reading
from mlserve_jupyter.storage.tables import models
from tests import toys
from tests.analytics.calls import WAIT_S, call
from tests.live import LiveServer, start_server
from tests.registry.deploys import Deploys
from tests.server.manifests import manifest_of
from tests.waiting import wait_for

LOG = "api/v1/analytics/models/logged/predictions"


@pytest.fixture(scope="module")
def server(live_server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> LiveServer:
    """A server with the model ``logged``, which was called five times."""
    deploy(live_server, "logged", tmp_path_factory.mktemp("logged"))
    for number in range(5):
        predict(live_server, "logged", float(number))
    return live_server


def deploy(server: LiveServer, name: str, folder: Path, **changes: Any) -> Any:
    artifact = Path(toys.write_model(toys.SumModel(), folder).path)
    parts = [
        ("manifest", (None, encode_json(manifest_of(name, artifact, **changes)))),
        ("artifact", ("model", artifact.read_bytes())),
    ]
    answer = server.request("POST", "api/v1/models", files=parts)
    assert answer.status_code == 201, answer.text
    return answer.json()


def predict(server: LiveServer, model: str, value: float, **headers: str) -> Any:
    body = {"instances": [[value]]}
    answer = server.request("POST", f"api/v1/predict/{model}", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def logged(server: LiveServer, model: str, **params: Any) -> list[dict[str, Any]]:
    path = f"api/v1/analytics/models/{model}/predictions"
    answer = server.request("GET", path, params=params)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def test_what_is_kept_is_changed_by_the_owner_and_holds_at_once(
    server: LiveServer, tmp_path: Path
) -> None:
    deploy(server, "left-out", tmp_path)
    assert server.request("GET", "api/v1/models/left-out").json()["logging"] == {
        "share": 1.0, "inputs": True, "without": [],
    }  # fmt: skip
    changed = server.request("PATCH", "api/v1/models/left-out", json={"logging": {"share": 0}})
    assert changed.status_code == 200, changed.text
    assert changed.json()["logging"]["share"] == 0
    for _ in range(3):
        predict(server, "left-out", 1.0)
    assert logged(server, "left-out") == []
    assert server.request("GET", "api/v1/models/left-out").json()["n_predictions"] == 3
    server.request(
        "PATCH", "api/v1/models/left-out", json={"logging": {"share": 1, "inputs": False}}
    )
    predict(server, "left-out", 2.0)
    [item] = logged(server, "left-out")
    assert (item["inputs"], item["outputs"], item["status"]) == (None, [2.0], "ok")
    server.request("PATCH", "api/v1/models/left-out", json={"logging": {"inputs": True}})
    predict(server, "left-out", 3.0)
    assert logged(server, "left-out")[0]["inputs"] == {"instances": [[3.0]]}


def test_a_column_stays_out_of_the_log_until_it_is_said_that_none_is(
    server: LiveServer, tmp_path: Path
) -> None:
    deploy(server, "personal", tmp_path, logging=LogChanges(without=["x0"]))
    changes: list[dict[str, Any]] = [
        {"share": 0.5}, {"inputs": False}, {"share": 0}, {}, {"share": 1}, {"inputs": True},
    ]  # fmt: skip
    for change in changes:
        answer = server.request("PATCH", "api/v1/models/personal", json={"logging": change})
        assert answer.json()["logging"]["without"] == ["x0"], change
    model = deploy(server, "personal", tmp_path, logging=LogChanges(share=1.0))["model"]
    assert model["logging"] == {"share": 1.0, "inputs": True, "without": ["x0"]}
    [event] = server.request("GET", "api/v1/audit?action=version.deploy&limit=1").json()["items"]
    assert event["details"]["logging"]["without"] == ["x0"]
    predict(server, "personal", 1.0)
    assert logged(server, "personal")[0]["inputs"]["dataframe_split"]["columns"] == []
    server.request("PATCH", "api/v1/models/personal", json={"logging": {"without": []}})
    predict(server, "personal", 2.0)
    assert logged(server, "personal")[0]["inputs"] == {"instances": [[2.0]]}


def test_a_version_that_names_its_columns_otherwise_is_warned_of(
    server: LiveServer, tmp_path: Path
) -> None:
    deploy(server, "renamed", tmp_path, logging=LogChanges(without=["x0"]))
    predict(server, "renamed", 1.0)
    [item] = logged(server, "renamed")
    assert item["inputs"] == {"dataframe_split": {"columns": [], "data": [[]]}}
    other = replace(toys.ONE_FEATURE, columns=(replace(toys.FEATURE, name="y0"),))
    answer = deploy(server, "renamed", tmp_path, signature=Signature(inputs=other))
    assert "leaves out x0, which this version does not take" in answer["warnings"][-1]
    assert answer["model"]["logging"]["without"] == ["x0"]
    events = server.request("GET", "api/v1/audit?action=version.deploy&limit=2").json()["items"]
    assert [each["details"].get("logging", {}).get("without") for each in events] == [None, ["x0"]]


@pytest.mark.parametrize(
    "logging",
    [
        {"share": 1.5},
        {"share": "some"},
        {"without": "x0"},
        {"without": ["no such column"]},
        {"columns": []},
        None,
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_and_changes_nothing(
    server: LiveServer, logging: Any
) -> None:
    answer = server.request("PATCH", "api/v1/models/logged", json={"logging": logging})
    assert answer.status_code == 400, answer.text
    assert server.request("GET", "api/v1/models/logged").json()["logging"]["share"] == 1.0


def test_calls_are_found_by_time_status_and_caller(server: LiveServer) -> None:
    items = logged(server, "logged")
    assert len(items) == 5
    middle = items[2]
    assert logged(server, "logged", since=middle["created_at"]) == items[:3]
    assert logged(server, "logged", until=middle["created_at"]) == items[3:]
    assert len(logged(server, "logged", status="ok", version=1)) == 5
    assert logged(server, "logged", status="failed") == []
    assert len(logged(server, "logged", principal=middle["principal"])) == 5
    assert logged(server, "logged", labelled="true") == []


@pytest.mark.parametrize("format", ["json", "csv"])
@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("status=faild", "not 'faild'. Did you mean 'failed'?"),
        ("status=no_model", "'status' must be 'ok', 'failed' or the code of an error"),
        ("status=model_faild", "Did you mean 'model_failed'?"),
        ("method=predct", "the method 'predct'. Did you mean 'predict'?"),
    ],
)
def test_what_no_call_can_have_is_refused_with_the_nearest(
    server: LiveServer, query: str, said: str, format: str
) -> None:
    answer = server.request("GET", f"{LOG}?{query}&format={format}")
    assert answer.status_code == 400
    assert said in answer.json()["message"]
    events = server.request("GET", "api/v1/audit?outcome=okk")
    assert events.status_code == 400
    assert "Did you mean 'ok'?" in events.json()["message"]


def test_calls_of_a_method_that_there_is_not_are_found_where_somebody_made_them(
    server: LiveServer, tmp_path: Path
) -> None:
    deploy(server, "misnamed", tmp_path)
    server.request("POST", "api/v1/predict/misnamed?method=predct", json={"instances": [[1.0]]})
    assert [call["status"] for call in logged(server, "misnamed", method="predct")] == [
        "invalid_request"
    ]


@pytest.mark.parametrize(
    "query", ["since=yesterday", "version=0", "labelled=perhaps", "format=xlsx", "since=1"]
)
def test_what_cannot_be_looked_for_is_refused(server: LiveServer, query: str) -> None:
    answer = server.request("GET", f"{LOG}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_the_log_is_sent_as_a_file_by_format_or_accept(server: LiveServer) -> None:
    names = [item["request_id"] for item in logged(server, "logged")]
    as_csv = server.request("GET", f"{LOG}?format=csv")
    assert as_csv.headers["Content-Type"].startswith("text/csv")
    assert as_csv.headers["Content-Disposition"] == 'attachment; filename="logged.csv"'
    rows = list(csv.DictReader(io.StringIO(as_csv.text)))
    assert [row["request_id"] for row in rows] == names
    lines = server.request("GET", LOG, headers={"Accept": "application/jsonl"})
    assert [json.loads(line)["request_id"] for line in lines.text.splitlines()] == names
    table = parquet.read_table(
        io.BytesIO(server.request("GET", f"{LOG}?format=parquet&status=ok").content)
    )
    assert table.column("request_id").to_pylist() == names
    assert json.loads(table.column("inputs").to_pylist()[0]) == {"instances": [[4.0]]}
    assert server.request("GET", f"{LOG}?format=csv&status=failed").text.count("\n") == 1


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("application/vnd.apache.parquet", "parquet"),
        ("text/html, */*;q=0.8", "json"),
        ("application/json;q=0.5, text/csv", "csv"),
        ("Application/X-NDJSON", "jsonl"),
        ("text/csv;q=0, application/json", "json"),
        ("text/csv;q=nonsense", "json"),
    ],
)
def test_accept_chooses_the_form(accept: str, format: str) -> None:
    assert accepted_format(accept) == format


def test_ids_of_new_requests_grow_with_the_time_and_are_all_different() -> None:
    first = request_id_of(HTTPHeaders())
    time.sleep(0.005)
    later = [request_id_of(HTTPHeaders()) for _ in range(1000)]
    assert len(set(later)) == 1000
    assert all(first[:12] < each[:12] and len(each) == 32 for each in later)


def test_a_client_reads_pages_and_writes_files(
    server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlserve_jupyter.client.log._PAGE_CALLS", 2)
    client = Client(Connection(server.url, server.key))
    page = client.predictions("logged", limit=5, since="1h")
    assert (len(page.items), page.next_cursor) == (5, None)
    page = client.predictions("logged", limit=3, status="ok")
    assert len(page.items) == 3
    assert page.next_cursor is not None
    file = client.export_predictions("logged", tmp_path / "calls.csv", since="1h")
    assert file.read_text().count("\n") == 6
    lines = client.export_predictions("logged", tmp_path / "calls.NDJSON", since="1h")
    assert {json.loads(line)["model"] for line in lines.read_text().splitlines()} == {"logged"}
    lines.unlink()
    with pytest.raises(InvalidUsage, match=r"'calls\.xlsx'.*\.parquet, \.csv"):
        client.export_predictions("logged", tmp_path / "calls.xlsx")
    other = client.export_predictions("logged", tmp_path / "calls", format="csv", since="1h")
    assert other.read_text() == file.read_text()
    other.unlink()
    with pytest.raises(RequestFailed, match="no-such"):
        client.export_predictions("no-such", file)
    assert file.read_text().count("\n") == 6, "what was there before stays"
    assert [each.name for each in tmp_path.iterdir()] == ["calls.csv"]
    client.close()


@pytest.mark.slow
def test_a_file_that_breaks_off_is_no_whole_file(tmp_path: Path) -> None:
    with start_server(tmp_path) as server:
        deploy(server, "large", tmp_path)
        fill(server, n_calls=160)
        url = f"{server.url}api/v1/analytics/models/large/predictions?format=jsonl"
        headers = {"Authorization": f"token {server.token}"}
        with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
            pieces = answer.iter_bytes()
            next(pieces)
            # No page can be read any more, and those that are on their way are not all.
            database = server.settings.data_dir / "mlserve.db"
            database.rename(database.with_suffix(".away"))
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_a_file_of_any_length_takes_little_memory(large_log: LiveServer, format: str) -> None:
    url = f"{large_log.url}api/v1/analytics/models/large/predictions?format={format}"
    headers = {"Authorization": f"token {large_log.token}"}
    begun, most, n_bytes = 0, 0, 0
    with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
        for piece in answer.iter_bytes(2**20):
            n_bytes += len(piece)
            if n_bytes < 25 * 2**20:
                begun = resident_bytes(large_log)  # with all that the format needs at all
            most = max(most, resident_bytes(large_log))
    assert n_bytes > 75 * 2**20
    assert most - begun < 30 * 2**20


@pytest.fixture(scope="module")
def large_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with a log of 160 MB of what can hardly be compressed."""
    folder = tmp_path_factory.mktemp("large")
    with start_server(folder) as server:
        deploy(server, "large", folder)
        fill(server, n_calls=1000, n_bytes=170_000)
        yield server


def resident_bytes(server: LiveServer) -> int:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def fill(server: LiveServer, n_calls: int, n_bytes: int = 250_000) -> None:
    """Log calls with inputs of so many bytes, as another process of the platform would."""
    engine = open_engine(server.settings)
    log = PredictionLog(engine, server.settings, server.settings.data_dir / "log")
    with reading(engine) as connection:
        model_id = connection.execute(sa.select(models.c.id)).scalar_one()
    deploys = Deploys(engine, server.settings.artifacts_dir)
    served = deploys.registry.snapshot().by_id(model_id).versions[1]
    for number in range(n_calls):
        log.append(call(served, number, inputs=b'"%s"' % secrets.token_hex(n_bytes // 2).encode()))
        if number % 20 == 0:
            assert log.flush(WAIT_S)
    log.close()
    engine.dispose()


def test_what_was_searched_for_is_not_in_the_hosts_log(live_server: LiveServer) -> None:
    path = "api/v1/analytics/models/none-such/predictions"
    arguments = {"contains": '{"email": "ada@example.org"}', "limit": "7"}
    answer = live_server.request("GET", path, params=arguments)
    assert answer.status_code == 404
    assert wait_for(lambda: "none-such/predictions" in live_server.log())  # as it answers first
    [line] = [line for line in live_server.log().splitlines() if "none-such/predictions" in line]
    assert "limit=7" in line
    assert "ada" not in line
