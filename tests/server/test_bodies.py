"""Large bodies and bodies of columns over HTTP, against a real server and real workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import mlserve_jupyter
from mlserve_jupyter.client.connection import Connection
from mlserve_jupyter.client.http import Client
from mlserve_jupyter.errors import RequestFailed
from tests.columnar import ARROW, PARQUET, parquet_file, stream
from tests.live import LiveServer, start_server

RNG = np.random.default_rng(0)
N_ROWS = 20_000
FRAME = pd.DataFrame(
    {
        "a": RNG.normal(size=N_ROWS),
        "n": RNG.integers(0, 100, size=N_ROWS).astype("int16"),
        "city": pd.Categorical(np.array(["Bern", "Genf", "Lugano"])[np.arange(N_ROWS) % 3]),
    }
)


@pytest.fixture(scope="module")
def model(live_server: LiveServer) -> Any:
    fitted = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["city"]), remainder="passthrough"), Ridge()
    ).fit(FRAME, FRAME["a"] * 3 + FRAME["n"])
    wide = Ridge().fit(RNG.normal(size=(50, 30)), RNG.normal(size=50))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLSERVE_URL", live_server.url)
        patch.setenv("MLSERVE_KEY", live_server.key)
        mlserve_jupyter.deploy(fitted, name="bodies", sample=FRAME)
        mlserve_jupyter.deploy(wide, name="wide", sample=RNG.normal(size=(50, 30)))
    return fitted, wide


def post(server: LiveServer, body: bytes, content_type: str, name: str = "bodies") -> Any:
    return server.request(
        "POST", f"api/v1/predict/{name}", content=body, headers={"Content-Type": content_type}
    )


def test_all_forms_are_answered_as_the_notebook_answers(
    live_server: LiveServer, model: Any
) -> None:
    rows = {"dataframe_split": json.loads(FRAME.to_json(orient="split", double_precision=15))}
    for frame in (FRAME.head(3), FRAME):
        for body, content_type in (
            (stream(frame), ARROW),
            (stream(frame, compression="zstd"), ARROW),
            (parquet_file(frame), PARQUET),
            (frame.to_csv(index=False).encode(), "text/csv"),
        ):
            answer = post(live_server, body, content_type)
            assert answer.status_code == 200, answer.text[:300]
            assert answer.json()["predictions"] == model[0].predict(frame).tolist()
    answer = post(live_server, json.dumps(rows).encode(), "application/json")
    assert np.allclose(answer.json()["predictions"], model[0].predict(FRAME), atol=1e-9)


@pytest.mark.parametrize("n_rows", [1, 100, 1000, 5000])
def test_rows_of_an_array_are_answered_alike_at_every_size(
    live_server: LiveServer, model: Any, n_rows: int
) -> None:
    array = RNG.normal(size=(n_rows, 30))
    columns = {f"x{j}": array[:, j] for j in range(30)}
    expected = model[1].predict(array).tolist()
    for body, content_type in (
        (json.dumps({"instances": array.tolist()}).encode(), "application/json"),
        (stream(columns), ARROW),
        (parquet_file(columns), PARQUET),
    ):
        answer = post(live_server, body, content_type, "wide")
        assert answer.status_code == 200, answer.text[:300]
        assert answer.json()["predictions"] == expected


def test_a_bad_value_in_a_large_body_is_named(live_server: LiveServer, model: Any) -> None:
    rows = FRAME.astype({"city": str}).to_numpy().tolist()
    rows[17_000][0] = None
    body = json.dumps({"instances": rows}).encode()
    assert len(body) > 256 * 1024
    refused = [
        post(live_server, body, "application/json"),
        post(live_server, FRAME.assign(a="much").to_csv(index=False).encode(), "text/csv"),
        post(live_server, stream(FRAME.assign(n=FRAME["n"].astype("int32") * 1000)), ARROW),
        post(live_server, stream(FRAME)[:-1000], ARROW),
        post(live_server, b"\0" * 100_000, PARQUET),
        post(live_server, FRAME.to_csv(index=False).encode(), "text/nothing"),
    ]
    assert [answer.status_code for answer in refused] == [422, 422, 422, 400, 400, 415]
    details = [answer.json()["details"] for answer in refused]
    assert (details[0]["row"], details[0]["column"]) == (17_000, "a")
    assert (details[1]["row"], details[1]["column"]) == (0, "a")
    assert details[2]["column"] == "n"
    assert ARROW in details[5]["accepted"]


def test_row_23_few_bytes_that_hold_very_many_rows_are_over_the_limit(
    live_server: LiveServer, model: Any
) -> None:
    many = FRAME.iloc[np.zeros(1_200_000, dtype=int)].reset_index(drop=True)
    body = stream(many, compression="zstd")
    assert len(body) < 200_000
    answer = post(live_server, body, ARROW)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "1200000 rows" in answer.json()["message"]


def test_row_23_ten_million_rows_are_over_the_limit(live_server: LiveServer, model: Any) -> None:
    body = b'{"instances":[' + b"[1.5,1]," * 10_000_000 + b"[1.5,1]]}"
    answer = post(live_server, body, "application/json")
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def decoder_pids(server: LiveServer) -> set[str]:
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task").glob("*/children")
    pids = {child for each in children for child in each.read_text().split()}
    return {
        child
        for child in pids
        if "decoding.main" in Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
    }


def test_plain_columns_of_floats_are_read_where_they_arrive(tmp_path: Path) -> None:
    values = RNG.normal(size=(1000, 30))
    wide = Ridge().fit(values, values[:, 0])
    frame = pd.DataFrame(values, columns=[f"x{i}" for i in range(30)])
    with start_server(tmp_path) as server:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLSERVE_URL", server.url)
            patch.setenv("MLSERVE_KEY", server.key)
            mlserve_jupyter.deploy(wide, name="wide", sample=values[:50])
        plain = post(server, stream(frame), ARROW, "wide")
        assert plain.json()["predictions"] == wide.predict(values).tolist()
        assert decoder_pids(server) == set()
        packed = post(server, stream(frame, compression="zstd"), ARROW, "wide")
        assert packed.json()["predictions"] == plain.json()["predictions"]
        assert len(decoder_pids(server)) == 1


def test_the_server_itself_never_loads_arrow(live_server: LiveServer, model: Any) -> None:
    assert post(live_server, stream(FRAME.head(2)), ARROW).status_code == 200
    assert "libarrow" not in Path(f"/proc/{live_server.process.pid}/maps").read_text()


def test_the_log_keeps_small_bodies_of_columns_and_leaves_out_large_ones(
    live_server: LiveServer, model: Any
) -> None:
    small = stream(FRAME.head(2))
    for body in (small, stream(FRAME)):
        assert post(live_server, body, ARROW).status_code == 200
    path = "api/v1/analytics/models/bodies/predictions?limit=2"
    large, kept = live_server.request("GET", path).json()["items"]
    assert (large["inputs"], large["n_rows"]) == (None, N_ROWS)
    assert kept["inputs"]["content_type"] == ARROW
    assert kept["n_rows"] == 2


def test_a_notebook_sends_large_input_as_columns_and_gets_what_the_model_gives(
    live_server: LiveServer, model: Any, notebook: Any
) -> None:
    array = RNG.normal(size=(2000, 30))
    for name, fitted, data in (
        ("bodies", model[0], FRAME),
        ("wide", model[1], array),
    ):
        np.testing.assert_array_equal(notebook.predict(name, data), fitted.predict(data))
        path = f"api/v1/analytics/models/{name}/predictions?limit=1"
        [logged] = live_server.request("GET", path).json()["items"]
        assert (logged["inputs"], logged["n_rows"]) == (None, len(data))


def test_a_notebook_falls_back_to_json_where_the_server_has_no_pyarrow(
    live_server: LiveServer, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(Connection(live_server.url, live_server.key))
    call, sent = client.call, []

    def refusing(name: str, body: bytes, **options: Any) -> Any:
        sent.append(options.get("content_type", "application/json"))
        if sent[-1] == ARROW:
            raise RequestFailed("no", status=415, server_code="unsupported_media_type")
        return call(name, body, **options)

    monkeypatch.setattr(client, "call", refusing)
    array = RNG.normal(size=(2000, 30))
    for _ in range(2):
        np.testing.assert_array_equal(client.predict("wide", array), model[1].predict(array))
    assert sent == [ARROW, "application/json", "application/json"]
    client.close()
