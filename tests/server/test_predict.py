"""Predictions over HTTP, against a real server and real workers."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.neighbors import KNeighborsClassifier

from tests.live import LiveServer

FRAME = pd.DataFrame(
    {
        "age": [31, 2**53 + 1, 70],
        "city": ["Bern", "Genève", None],
        "when": pd.to_datetime(["2026-01-01T00:00", "2026-02-01T12:00", None]),
        "share": [0.1, float("nan"), 0.3],
        "member": [True, False, True],
    }
)


class Echo(TransformerMixin, BaseEstimator):
    """Gives back what it was given, with its dtypes."""

    def fit(self, X: Any, y: Any = None) -> Echo:
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Any) -> Any:
        return X

    def predict(self, X: Any) -> Any:
        return [f"{dtype} {name}" for name, dtype in X.dtypes.items()]


@pytest.fixture(scope="module")
def echo(live_server: LiveServer) -> str:
    import mlserve_jupyter
    from mlserve_jupyter.client.connection import Connection

    assert Connection is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLSERVE_URL", live_server.url)
        patch.setenv("MLSERVE_KEY", live_server.key)
        mlserve_jupyter.deploy(Echo().fit(FRAME), name="echo", sample=FRAME, method="transform")
    return "api/v1/predict/echo"


ROWS = [
    [31, "Bern", "2026-01-01T00:00:00", 0.1, True],
    [2**53 + 1, None, None, "NaN", False],
]
ANSWER = [
    [31, "Bern", "2026-01-01T00:00:00", 0.1, True],
    [2**53 + 1, None, None, "NaN", False],
]


def answer(live_server: LiveServer, path: str, **options: Any) -> Any:
    response = live_server.request("POST", path, **options)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    "body",
    [
        {"instances": ROWS},
        {"inputs": ROWS},
        {"instances": [dict(zip(FRAME.columns, row, strict=True)) for row in ROWS]},
        {"dataframe_records": [dict(zip(FRAME.columns, row, strict=True)) for row in ROWS]},
        {"inputs": {name: [row[i] for row in ROWS] for i, name in enumerate(FRAME.columns)}},
        {"dataframe_split": {"columns": list(FRAME.columns), "data": ROWS}},
        {
            "dataframe_split": {
                "columns": list(FRAME.columns)[::-1],
                "data": [row[::-1] for row in ROWS],
            }
        },
    ],
    ids=["instances", "inputs", "rows by name", "records", "columns", "split", "other order"],
)
def test_every_form_of_body_gives_the_same_answer(
    live_server: LiveServer, echo: str, body: Any
) -> None:
    found = answer(live_server, echo, json=body)
    assert found["predictions"] == ANSWER
    assert found["columns"] == list(FRAME.columns)
    assert (found["model"], found["version"]) == ("echo", 1)


def test_csv_gives_the_same_answer(live_server: LiveServer, echo: str) -> None:
    text = "age,city,when,share,member\n31,Bern,2026-01-01T00:00:00,0.1,true\n"
    text += "9007199254740993,,,,false\n"
    found = answer(live_server, echo, content=text, headers={"Content-Type": "text/csv"})
    assert found["predictions"] == ANSWER


def test_missing_optional_columns_become_null(live_server: LiveServer, echo: str) -> None:
    found = answer(live_server, echo, json={"dataframe_records": [{"age": 1, "member": True}]})
    assert found["predictions"] == [[1, None, None, "NaN", True]]


def test_the_model_sees_the_dtypes_of_the_notebook(live_server: LiveServer, echo: str) -> None:
    found = answer(live_server, echo + "?method=predict", json={"instances": ROWS})
    assert found["predictions"] == Echo().predict(FRAME)


@pytest.mark.parametrize(
    ("body", "row", "column", "said"),
    [
        ({"instances": [ROWS[0], [1, "x", None, "abc", True]]}, 1, "share", "abc"),
        ({"instances": [[1.5, "x", None, 1, True]]}, 0, "age", "integer"),
        ({"instances": [["1", "x", None, 1, True]]}, 0, "age", "integer"),
        ({"instances": [[2**63, "x", None, 1, True]]}, 0, "age", ""),
        ({"instances": [[None, "x", None, 1, True]]}, 0, "age", "null"),
        ({"instances": [[1, 5, None, 1, True]]}, 0, "city", "string"),
        ({"instances": [[1, "x", "yesterday", 1, True]]}, 0, "when", "yesterday"),
        ({"instances": [[1, "x", None, 1, 1]]}, 0, "member", "true"),
        ({"instances": [ROWS[0], [1, "x"]]}, 1, None, "5"),
        ({"dataframe_records": [{"member": True}]}, 0, "age", "age"),
        ({"dataframe_records": [{"age": 1, "member": True, "mistake": 1}]}, 0, "mistake", "mist"),
        ({"instances": []}, None, None, ""),
    ],
)
def test_row_23_input_that_does_not_fit_names_the_row_the_column_and_what_was_expected(
    live_server: LiveServer, echo: str, body: Any, row: Any, column: Any, said: str
) -> None:
    response = live_server.request("POST", echo, json=body)
    assert (response.status_code, response.json()["code"]) == (422, "signature_mismatch")
    details = response.json()["details"]
    assert details.get("row") == row
    assert details.get("column") == column
    assert said in response.json()["message"]


@pytest.mark.parametrize(
    "content",
    [
        rb'{"instances": [{"\ud800": 1}]}',
        rb'{"inputs": {"\ud800": [1]}}',
        rb'{"dataframe_records": [{"\ud800": 1}]}',
        rb'{"dataframe_split": {"columns": ["\ud800"], "data": [[1]]}}',
    ],
    ids=["instances", "inputs", "records", "split"],
)
def test_a_column_whose_name_is_no_text_is_refused_by_an_error_that_is(
    live_server: LiveServer, echo: str, content: bytes
) -> None:
    response = live_server.request("POST", echo, content=content)
    assert (response.status_code, response.json()["code"]) == (422, "signature_mismatch")
    assert r"\ud800" in response.json()["message"] + str(response.json()["details"])


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "invalid_body"),
        (b"{", 400, "invalid_body"),
        (b"\xff\xfe", 400, "invalid_body"),
        (b'{"instances": [[NaN, "x", null, 1, true]]}', 400, "invalid_body"),
        (b'{"instances": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, "invalid_body"),
        (b"[]", 400, "invalid_body"),
        (b"{}", 400, "invalid_body"),
        (b'{"instances": [], "inputs": []}', 400, "invalid_body"),
        (b'{"instances": 1}', 400, "invalid_body"),
    ],
)
def test_row_23_bodies_that_cannot_be_read_are_refused(
    live_server: LiveServer, echo: str, content: bytes, status: int, code: str
) -> None:
    response = live_server.request("POST", echo, content=content)
    assert 400 <= response.status_code <= 422
    assert response.json()["code"] in (code, "signature_mismatch")
    assert len(response.json()["message"]) < 500


def test_other_content_types_are_415(live_server: LiveServer, echo: str) -> None:
    response = live_server.request(
        "POST", echo, content=b"<a/>", headers={"Content-Type": "text/xml"}
    )
    assert response.status_code == 415
    assert "application/json" in response.json()["message"]


def test_what_is_not_there_is_named_with_what_is(live_server: LiveServer, echo: str) -> None:
    body = {"instances": ROWS}
    for path, status, code, said in (
        ("api/v1/predict/echo2", 404, "model_not_found", "'echo'"),
        (echo + "?version=9", 404, "version_not_found", "1"),
        (echo + "?version=abc", 400, "invalid_request", "integer"),
        (echo + "?methd=predict", 400, "invalid_request", "'method'"),
        (echo + "?method=fit", 400, "invalid_request", "transform"),
        (echo + "?method=__class__", 400, "invalid_request", "transform"),
    ):
        response = live_server.request("POST", path, json=body)
        assert (response.status_code, response.json()["code"]) == (status, code), path
        assert said in response.json()["message"]


def test_a_model_can_be_named_by_its_id_and_by_its_owner(
    live_server: LiveServer, echo: str
) -> None:
    model = live_server.request("GET", "api/v1/models/echo").json()
    for name in (model["id"], f"{model['owner']}~echo"):
        found = answer(live_server, f"api/v1/predict/{name}", json={"instances": ROWS})
        assert found["predictions"] == ANSWER


def test_every_call_is_in_the_log(live_server: LiveServer, echo: str) -> None:
    new = [[77, *row[1:]] for row in ROWS]
    good = answer(live_server, echo, json={"instances": new})
    bad = live_server.request("POST", echo, json={"instances": [[1]]}).json()
    unreadable = b'{"instances": [[1, 1e400, "x"]]}'
    assert live_server.request("POST", echo, content=unreadable).status_code in (400, 422)
    page = live_server.request("GET", "api/v1/analytics/models/echo/predictions").json()
    by_id = {item["request_id"]: item for item in page["items"]}
    logged = by_id[good["request_id"]]
    assert logged["status"] == "ok"
    assert logged["inputs"] == {"instances": new}
    assert logged["outputs"] == [[77, *row[1:]] for row in ANSWER]
    assert (logged["n_rows"], logged["cached"]) == (2, False)
    assert logged["total_ms"] >= logged["predict_ms"] > 0
    assert by_id[bad["request_id"]]["status"] == "signature_mismatch"
    assert page["lost"] == 0


@pytest.mark.parametrize("position", [[10**23, "x"], [1, "x"], [1, "\0"], [1.5, "x"], []])
def test_a_cursor_that_the_log_never_gave_is_refused(
    live_server: LiveServer, echo: str, position: list[Any]
) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(position).encode()).decode()
    path = f"api/v1/analytics/models/echo/predictions?cursor={cursor}"
    response = live_server.request("GET", path)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")


def test_ten_thousand_rows_answer_exactly(live_server: LiveServer, notebook: Any) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(10_000, 8))
    knn = KNeighborsClassifier().fit(X[:500], rng.integers(0, 3, 500))
    notebook.deploy(knn, name="knn", sample=X[:100])
    response = live_server.request(
        "POST",
        "api/v1/predict/knn?method=kneighbors",
        content=json.dumps({"instances": X.tolist()}),
    )
    distances, indices = knn.kneighbors(X)
    assert response.json()["predictions"] == [distances.tolist(), indices.tolist()]


def test_a_call_whose_caller_is_gone_never_reaches_the_model(
    live_server: LiveServer, notebook: Any
) -> None:
    import threading

    def slow(X: Any) -> Any:
        import time

        time.sleep(float(X[0][0]))
        return X

    notebook.deploy(slow, name="slow", sample=np.zeros((3, 1)))
    path = "api/v1/predict/slow"
    first = threading.Thread(
        target=lambda: live_server.request("POST", path, json={"instances": [[2.0]]})
    )
    first.start()
    impatient = httpx.Client(timeout=0.5)
    for _ in range(3):
        with pytest.raises(httpx.ReadTimeout):
            impatient.post(
                live_server.url + path,
                json={"instances": [[1.5]]},
                headers={"X-MLServe-Key": live_server.key},
            )
    first.join()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        page = live_server.request("GET", "api/v1/analytics/models/slow/predictions").json()
        statuses = sorted(item["status"] for item in page["items"])
        if len(statuses) == 4:
            break
    assert statuses == ["cancelled", "cancelled", "cancelled", "ok"]
