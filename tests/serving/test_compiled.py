"""Compiled graphs of real models, deployed to a real server."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from tests.columnar import ARROW, stream
from tests.live import LiveServer

X, Y = load_breast_cancer(return_X_y=True)
IRIS, SPECIES = load_iris(return_X_y=True)
SPECIES = np.array(["setosa", "versicolor", "virginica"])[SPECIES]


@pytest.fixture
def notebook(live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    import mlserve_jupyter

    monkeypatch.setenv("MLSERVE_URL", live_server.url)
    monkeypatch.setenv("MLSERVE_KEY", live_server.key)
    return mlserve_jupyter


def compiled_version(server: LiveServer, name: str, n: int = 1) -> dict[str, Any]:
    """Wait until it is known what could be compiled."""
    for _ in range(1200):
        version: dict[str, Any] = server.request("GET", f"api/v1/models/{name}/versions/{n}").json()
        if version["verification"]["compiled"] is not None:
            return version
        time.sleep(0.05)
    raise AssertionError(f"{name} was not compiled: {version}")


def predict(server: LiveServer, name: str, rows: Any, method: str) -> Any:
    answer = server.request(
        "POST", f"api/v1/predict/{name}?method={method}", json={"instances": rows}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def test_a_forest_is_switched_to_its_graph_and_answers_bit_for_bit(
    live_server: LiveServer, notebook: Any
) -> None:
    model = RandomForestClassifier(30, random_state=0).fit(X, Y)
    notebook.deploy(model, name="forest-onnx", sample=X)
    version = compiled_version(live_server, "forest-onnx")
    compiled = version["verification"]["compiled"]
    assert version["runtime"] == "onnx"
    assert set(compiled["methods"]) >= {"predict", "predict_proba"}
    assert compiled["n_rows"] > compiled["n_thresholds"] > 100
    assert "predict_log_proba" in compiled["native"]
    rows = np.random.default_rng(0).normal(size=(300, 30)) * X.std(axis=0) + X.mean(axis=0)
    for method in ("predict", "predict_proba"):
        expected = getattr(model, method)(rows).tolist()
        assert predict(live_server, "forest-onnx", rows.tolist(), method) == expected
        assert predict(live_server, "forest-onnx", rows[:1].tolist(), method) == expected[:1]


def test_what_the_model_refuses_is_refused_by_the_model_itself(
    live_server: LiveServer, notebook: Any
) -> None:
    model = RandomForestClassifier(5, random_state=0).fit(X, Y)
    notebook.deploy(model, name="forest-refuses", sample=X)
    assert compiled_version(live_server, "forest-refuses")["runtime"] == "onnx"
    row = X[0].tolist()
    row[3] = 1e39
    answer = live_server.request("POST", "api/v1/predict/forest-refuses", json={"instances": [row]})
    assert answer.status_code == 422
    assert "too large for dtype('float32')" in answer.text


@pytest.mark.parametrize("form", ["arrow", "json"])
def test_what_the_graph_leaves_to_the_model_reaches_it_from_large_bodies_too(
    live_server: LiveServer, notebook: Any, form: str
) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(1000, 30))).add_prefix("x")
    values = np.ascontiguousarray(frame)
    model = RandomForestClassifier(5, random_state=0).fit(values, (values[:, 0] > 0).astype(int))
    name = f"large-{form}"
    notebook.deploy(model, name=name, sample=values)
    assert compiled_version(live_server, name)["runtime"] == "onnx"

    def post(rows: pd.DataFrame) -> httpx.Response:
        in_json = json.dumps({"instances": rows.to_numpy().tolist()}).encode()
        return live_server.request(
            "POST",
            f"api/v1/predict/{name}",
            content=stream(rows) if form == "arrow" else in_json,
            headers={"Content-Type": ARROW if form == "arrow" else "application/json"},
        )

    assert post(frame).json()["predictions"] == model.predict(values).tolist()
    strange = frame.copy()
    strange.loc[7, "x3"] = 1e39
    refused = post(strange)
    assert refused.status_code == 422
    assert "too large for dtype('float32')" in refused.text


def test_frames_with_missing_values_go_through_histogram_boosting(
    live_server: LiveServer, notebook: Any
) -> None:
    frame = pd.DataFrame(IRIS, columns=["a", "b", "c", "d"])
    frame.iloc[::7, 1] = np.nan
    frame["n"] = np.arange(len(frame)) % 5
    model = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(frame, SPECIES)
    notebook.deploy(model, name="boosted-onnx", sample=frame)
    version = compiled_version(live_server, "boosted-onnx")
    assert version["runtime"] == "onnx", version["verification"]["compiled"]
    assert version["verification"]["compiled"]["takes_nan"]
    rows = [
        {"a": 5.0, "b": None, "c": 1.5, "d": 0.2, "n": 3},
        {"a": 6.0, "b": 3.0, "c": 4.5, "d": 1.5, "n": 0},
    ]
    answer = live_server.request(
        "POST",
        "api/v1/predict/boosted-onnx?method=predict_proba",
        json={"dataframe_records": rows},
    ).json()["predictions"]
    assert answer == model.predict_proba(pd.DataFrame(rows).astype({"b": float})).tolist()
    assert predict(live_server, "boosted-onnx", [list(r.values()) for r in rows], "predict") == (
        model.predict(pd.DataFrame(rows).astype({"b": float})).tolist()
    )


def test_a_linear_models_labels_are_compiled_and_its_numbers_are_not(
    live_server: LiveServer, notebook: Any
) -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    notebook.deploy(model, name="linear-onnx", sample=X)
    compiled = compiled_version(live_server, "linear-onnx")["verification"]["compiled"]
    assert list(compiled["methods"]) == ["predict"]
    assert "--runtime onnx" in compiled["native"]["predict_proba"]
    assert predict(live_server, "linear-onnx", X.tolist(), "predict") == model.predict(X).tolist()
    found = predict(live_server, "linear-onnx", X[:1].tolist(), "predict_proba")
    assert found == model.predict_proba(X[:1]).tolist()


def test_numbers_within_the_tolerance_are_taken_where_the_deploy_asks_for_onnx(
    live_server: LiveServer, notebook: Any
) -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    notebook.deploy(model, name="linear-asked", sample=X, runtime="onnx")
    version = compiled_version(live_server, "linear-asked")
    assert version["runtime"] == "onnx"
    method = version["verification"]["compiled"]["methods"]["predict_proba"]
    assert 0 <= method["max_difference"] <= 1e-6
    found = np.array(predict(live_server, "linear-asked", X.tolist(), "predict_proba"))
    assert np.allclose(found, model.predict_proba(X), rtol=0, atol=1e-9)


def test_onnx_is_refused_where_it_cannot_be_had_and_native_stays_native(
    live_server: LiveServer, notebook: Any
) -> None:
    model = KNeighborsClassifier().fit(IRIS, SPECIES)
    with pytest.raises(Exception, match="KNeighborsClassifier has no exact graph"):
        notebook.deploy(model, name="neighbours-onnx", sample=IRIS, runtime="onnx")
    listed = live_server.request("GET", "api/v1/models/neighbours-onnx")
    assert listed.status_code == 404
    forest = RandomForestClassifier(3, random_state=0).fit(IRIS, SPECIES)
    notebook.deploy(forest, name="forest-native", sample=IRIS, runtime="native")
    version = compiled_version(live_server, "forest-native")
    assert version["runtime"] == "native"
    assert version["verification"]["compiled"]["methods"] == {}
    assert "native for predict, predict_proba" in str(notebook.show("forest-native"))
    assert "the deploy asked for that" in str(notebook.show("forest-native"))


def test_why_a_model_runs_natively_is_in_its_record(live_server: LiveServer, notebook: Any) -> None:
    model = KNeighborsClassifier().fit(IRIS, SPECIES)
    notebook.deploy(model, name="neighbours", sample=IRIS)
    version = compiled_version(live_server, "neighbours")
    assert version["runtime"] == "native"
    assert "no exact graph" in version["verification"]["compiled"]["native"]["predict"]
    assert "KNeighborsClassifier has no exact graph" in str(notebook.show("neighbours"))


@pytest.mark.slow
def test_boosted_trees_of_other_libraries_are_deployed_and_compiled(
    live_server: LiveServer, notebook: Any
) -> None:
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(X.shape[1])]).iloc[:, :6]
    frame["c6"] = np.arange(len(frame))
    frame.iloc[::5, 2] = np.nan
    for name, model in (
        ("by-lightgbm", LGBMClassifier(n_estimators=10, verbose=-1, n_jobs=1)),
        ("by-xgboost", XGBClassifier(n_estimators=10, n_jobs=1)),
    ):
        model.fit(frame, Y)
        notebook.deploy(model, name=name, sample=frame)
        version = compiled_version(live_server, name)
        assert version["runtime"] == "onnx", version["verification"]["compiled"]["native"]
        split = {
            "columns": list(frame.columns),
            "data": [[None if v != v else v for v in row] for row in frame.to_numpy().tolist()],
        }
        answer = live_server.request(
            "POST", f"api/v1/predict/{name}?method=predict", json={"dataframe_split": split}
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == model.predict(frame).tolist()
