"""From a deploy to drift and quality, with a real server, real models and real calls."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_wine
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import mlserve_jupyter as mlserve
from mlserve_jupyter.api.drift import Drift, FeatureDrift
from mlserve_jupyter.errors import InvalidRequest, InvalidUsage, RequestFailed
from mlserve_jupyter.magics.drift import DriftReport
from mlserve_jupyter.magics.magic import run
from tests.live import LiveServer


@pytest.fixture(autouse=True)
def server(live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> LiveServer:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(live_server.runtime_dir))
    monkeypatch.setenv("JPY_PARENT_PID", str(live_server.process.pid))
    return live_server


def people(n: int, seed: int, *, age: float = 40.0, cities: str = "aab") -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": generator.normal(age, 10, n).round(1),
            "children": generator.integers(0, 4, n),
            "city": generator.choice([*cities], n),
            "member": generator.random(n) < 0.5,
        }
    )
    frame.loc[generator.random(n) < 0.1, "age"] = np.nan
    return frame


def bought(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
    return np.where(frame["age"].fillna(0) + 5 * frame["children"] > 45, "yes", "no")


@pytest.fixture
def model() -> Any:
    frame = people(2000, 0)
    columns = ColumnTransformer(
        [("c", OneHotEncoder(handle_unknown="ignore"), ["city"])],
        remainder="passthrough",
    )
    return make_pipeline(columns, SimpleImputer(), LogisticRegression(max_iter=1000)).fit(
        frame, bought(frame)
    )


def call_with(name: str, frame: pd.DataFrame, rows_a_call: int = 50) -> None:
    for start in range(0, len(frame), rows_a_call):
        mlserve.predict(name, frame.iloc[start : start + rows_a_call])


def test_input_like_the_sample_has_not_drifted(model: Any) -> None:
    run("deploy model --name same --sample people(2000, 0)", {"model": model, "people": people})
    call_with("same", people(800, 1))
    report = mlserve.drift("same")
    assert report.drift.level == "none", repr(report)
    assert report.drift.n_baseline_rows == 2000
    assert report.drift.n_live_rows == 800
    assert {each.name: each.kind for each in report.drift.features} == {
        "age": "number",
        "children": "number",
        "city": "category",
        "member": "category",
    }
    [output] = report.drift.outputs
    assert (output.name, sorted(output.categories)) == ("predict", ["no", "yes"])
    assert "same version 1: no drift in 800 rows" in repr(report)


def test_input_that_has_moved_is_found_and_named(model: Any) -> None:
    mlserve.deploy(model, name="moved", sample=people(2000, 0))
    moved = people(600, 1, age=55, cities="abc")
    moved["member"] = moved["member"].sample(frac=1, random_state=0).to_numpy()
    call_with("moved", moved)
    report = run("drift moved --since 1h", {})
    levels = {each.name: each.level for each in report.rows}
    assert levels["age"] == "significant"
    assert levels["city"] == "significant"
    assert levels["member"] == "none"
    assert levels["predict"] == "significant"
    assert report.drift.level == "significant"
    [city] = [each for each in report.drift.features if each.name == "city"]
    assert 150 < city.live_counts[-1] < 250
    assert "moved version 1: significant drift in 3 columns of 600 rows" in repr(report)
    assert "67% → 3" in report._repr_html_()


def test_a_column_that_only_looks_moved_says_why_it_is_not() -> None:
    column = FeatureDrift(
        name="age", kind="number", level="none", psi=0.3, test="kolmogorov_smirnov",
        statistic=0.1, p_value=0.4, n_baseline=100, n_live=100, missing_baseline=0.0,
        missing_live=0.0, edges=[1.0], categories=[], baseline_counts=[50, 50],
        live_counts=[40, 60],
    )  # fmt: skip
    now = datetime.now(timezone.utc)
    found = Drift(
        model="clf", version=1, since=now, until=now, level="none", n_baseline_rows=100,
        n_live_rows=100, method="predict", features=[column], outputs=[], not_watched=[],
    )  # fmt: skip
    assert "none (p ≥ 0.01)" in repr(DriftReport(found))


def test_values_that_go_missing_are_found(model: Any) -> None:
    mlserve.deploy(model, name="missing", sample=people(2000, 0))
    frame = people(600, 1)
    frame.loc[::2, "age"] = np.nan
    call_with("missing", frame)
    levels = {each.name: each.level for each in mlserve.drift("missing").drift.features}
    assert levels["age"] == "significant"
    assert levels["children"] == "none"


def test_few_calls_are_not_judged_and_no_sample_is_no_baseline(model: Any) -> None:
    mlserve.deploy(model, name="few", sample=people(2000, 0))
    call_with("few", people(40, 1))
    report = mlserve.drift("few")
    assert report.drift.level == "too_few"
    assert "few version 1: 40 rows, too few to judge" in repr(report)
    mlserve.deploy(model, name="few", sample=people(12, 0))
    report = mlserve.drift("few")
    assert (report.drift.version, report.drift.level) == (2, "no_baseline")
    assert "--sample X_train" in repr(report)
    assert mlserve.drift("few", version=1).drift.level == "too_few"


def test_a_range_before_the_calls_has_none(model: Any) -> None:
    mlserve.deploy(model, name="ranged", sample=people(2000, 0))
    call_with("ranged", people(200, 1))
    before = mlserve.drift("ranged", since="3d", until="2d")
    assert before.drift.n_live_rows == 0
    assert "no rows in this range" in repr(before)
    assert "PSI" not in repr(before)
    with pytest.raises(RequestFailed, match="before"):
        mlserve.drift("ranged", since="1d", until="2d")
    with pytest.raises(InvalidUsage, match="no time"):
        mlserve.drift("ranged", since="yesterday")


def test_an_array_of_numbers_is_watched_by_feature() -> None:
    X, y = load_wine(return_X_y=True)
    wine = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    mlserve.deploy(wine, name="wine_drift", sample=X)
    mlserve.predict("wine_drift", X)
    assert mlserve.drift("wine_drift").drift.level == "none"
    mlserve.deploy(wine, name="wine_drift", sample=X)
    X[:, 3] *= 3
    mlserve.predict("wine_drift", X)
    mlserve.predict("wine_drift", X)
    levels = {each.name: each.level for each in mlserve.drift("wine_drift").drift.features}
    assert levels["x3"] == "significant"
    assert levels["x4"] == "none"


def test_labels_give_the_live_accuracy_by_version(model: Any) -> None:
    mlserve.deploy(model, name="scored", sample=people(2000, 0))
    frame = people(60, 3)
    for start in range(0, 60, 6):
        mlserve.predict("scored", frame.iloc[start : start + 6])
    assert "No call of this model has a label" in repr(mlserve.quality("scored"))
    logs = mlserve.logs("scored")
    true = ["yes" if i % 3 else answer for i, answer in enumerate(logs["prediction"])]
    first = logs["request_id"] == logs["request_id"][0]
    namespace = {"first": [label for label, is_first in zip(true, first, strict=True) if is_first]}
    run(f"label scored {logs['request_id'][0]} first", namespace)
    said = repr(run("label scored no-such-call [1,2,3]", {}))
    assert "Labels for 1 call of scored are kept (3 rows)" in said
    assert "the log has no answer of it." in said
    assert "scored` scores" not in said
    kept = mlserve.label("scored", logs["request_id"][~first], pd.Series(true)[~first])
    assert "9 calls of scored labelled (54 rows)" in repr(kept)
    assert mlserve.logs("scored")["label"].tolist() == true
    [found] = mlserve.quality("scored").quality.versions
    assert found.classification is not None
    assert found.classification.accuracy == pytest.approx(accuracy_score(true, logs["prediction"]))
    assert found.classification.f1_macro == pytest.approx(
        f1_score(true, logs["prediction"], average="macro", zero_division=0)
    )
    assert (found.version, found.method, found.n_calls, found.n_rows) == (1, "predict", 10, 60)
    [day] = found.days
    assert day.n_rows == 60
    # What is known better later replaces what was there.
    mlserve.label("scored", logs["request_id"], logs["prediction"])
    [found] = mlserve.quality("scored").quality.versions
    assert found.classification is not None
    assert found.classification.accuracy == 1
    assert "accuracy" in run("quality scored --since 1d", {})._repr_html_()


def test_labels_give_the_live_error_of_numbers_and_the_log_loss_of_probabilities(
    server: LiveServer,
) -> None:
    generator = np.random.default_rng(4)
    X = generator.normal(size=(200, 2))
    y = X @ [1.0, 2.0] + generator.normal(size=200)
    mlserve.deploy(LinearRegression().fit(X, y), name="numbers", sample=X)
    for i in range(20):
        answer = server.request(
            "POST",
            "api/v1/predict/numbers",
            json={"instances": X[i : i + 1].tolist()},
            headers={"X-Request-Id": f"numbers-{i}"},
        )
        assert answer.status_code == 200
        mlserve.label("numbers", f"numbers-{i}", y[i])
    [found] = mlserve.quality("numbers").quality.versions
    predicted = LinearRegression().fit(X, y).predict(X[:20])
    assert found.task == "regression"
    assert found.regression is not None
    assert found.regression.mae == pytest.approx(mean_absolute_error(y[:20], predicted))
    assert found.regression.r2 == pytest.approx(r2_score(y[:20], predicted))
    classifier = LogisticRegression().fit(X, y > 0)
    mlserve.deploy(classifier, name="chances", sample=X, method="predict_proba")
    answer = server.request("POST", "api/v1/predict/chances", json={"instances": X.tolist()}).json()
    mlserve.label("chances", answer["request_id"], pd.Series(y > 0))
    [found] = mlserve.quality("chances").quality.versions
    assert found.classification is not None
    assert found.classification.accuracy == pytest.approx(classifier.score(X, y > 0))
    assert found.classification.log_loss is not None
    assert found.classification.log_loss < 0.6


def test_what_is_no_label_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InvalidRequest, match="2 request ids"):
        mlserve.label("any", ["a", "b"], [1])
    with pytest.raises(InvalidRequest, match="2 request ids"):
        mlserve.label("any", ["a", "b"], 1)
    with pytest.raises(InvalidRequest, match="number, a text"):
        mlserve.label("any", "a", [{"x": 1}])
    with pytest.raises(RequestFailed, match="nothing_here"):
        mlserve.label("nothing_here", "a", 1)
