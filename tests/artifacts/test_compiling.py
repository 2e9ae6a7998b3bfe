"""Graphs held against their models: bits, refusals, and rows that were not probed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier

from mlserve_jupyter.api.signature import InputBatch
from mlserve_jupyter.artifacts.infer import infer_inputs
from mlserve_jupyter.artifacts.outputs import encode_output
from mlserve_jupyter.serving.compiling import compile_for_server
from mlserve_jupyter.serving.runtimes.session import CompiledModel
from mlserve_jupyter.serving.runtimes.verification import (
    CompileReply,
    MethodReply,
    VerifiedGraph,
    verify_graph,
)

CANCER, IRIS = load_breast_cancer(return_X_y=True), load_iris(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)
COLUMNS = ColumnTransformer(
    [("a", StandardScaler(), [3, 1]), ("b", MinMaxScaler(), [0])], remainder="passthrough"
)


def compiled(model: Any, sample: Any, *, within_tolerance: bool = False) -> VerifiedGraph:
    methods = [m for m in ("predict", "predict_proba", "decision_function") if hasattr(model, m)]
    inputs = infer_inputs(sample)
    if isinstance(sample, pd.DataFrame):
        batch = InputBatch(len(sample), columns=[sample[c].tolist() for c in sample.columns])
    else:
        batch = InputBatch(len(sample), rows=sample.tolist())
    header, body = compile_for_server(model, methods, inputs, batch)
    described = [MethodReply(**method) for method in header.pop("methods", [])]
    reply = CompileReply(methods=described, **header)
    return verify_graph(reply, body, inputs, within_tolerance=within_tolerance)


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (RandomForestClassifier(20, random_state=0), CANCER),
        (RandomForestClassifier(20, random_state=0), IRIS),
        (make_pipeline(COLUMNS, ExtraTreesClassifier(10, random_state=0)), IRIS),
        (make_pipeline(RobustScaler(), RandomForestRegressor(10, random_state=0)), DIABETES),
        (DecisionTreeClassifier(max_depth=1, random_state=0), CANCER),
        (DecisionTreeRegressor(random_state=0), DIABETES),
        (GradientBoostingClassifier(n_estimators=20, random_state=0), IRIS),
        (GradientBoostingRegressor(n_estimators=20, random_state=0), DIABETES),
        (HistGradientBoostingClassifier(max_iter=10, random_state=0), IRIS),
        (HistGradientBoostingRegressor(max_iter=10, random_state=0), DIABETES),
    ],
    ids=lambda value: type(value).__name__,
)
def test_trees_are_equal_in_every_bit_also_on_rows_that_were_not_probed(
    model: Any, data: Any
) -> None:
    X, y = data
    model.fit(X, y)
    found = compiled(model, X)
    assert set(found.record.methods) >= {"predict"}
    assert not found.record.native
    graph = CompiledModel(found.graph, found.record, infer_inputs(X))
    rng = np.random.default_rng(1)
    rows = X[rng.integers(0, len(X), 300)] + rng.normal(size=(300, X.shape[1])) * X.std(axis=0)
    for method in found.record.methods:
        table = graph.table(InputBatch(300, rows=rows.tolist()))
        assert table is not None
        assert graph.answer(method, table) == encode_output(getattr(model, method)(rows))


@pytest.mark.parametrize(
    ("model", "data", "exact"),
    [
        (LGBMClassifier(n_estimators=30, verbose=-1), CANCER, {"predict", "predict_proba"}),
        (LGBMClassifier(n_estimators=30, verbose=-1), IRIS, {"predict"}),
        (LGBMRegressor(n_estimators=30, verbose=-1), DIABETES, {"predict"}),
        (LGBMRegressor(boosting_type="dart", verbose=-1), DIABETES, {"predict"}),
        (XGBClassifier(n_estimators=30), CANCER, {"predict"}),
        (XGBClassifier(n_estimators=30), IRIS, {"predict"}),
        (XGBRFClassifier(n_estimators=30), CANCER, {"predict"}),
        (XGBRegressor(n_estimators=30), DIABETES, {"predict"}),
        (XGBRegressor(objective="reg:quantileerror", quantile_alpha=0.3), DIABETES, {"predict"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_boosted_trees_of_other_libraries_answer_bit_for_bit_also_around_missing_values(
    model: Any, data: Any, exact: set[str]
) -> None:
    X, y = data[0].copy(), data[1]
    X[::7, 1] = np.nan
    model.set_params(n_jobs=1).fit(X, y)
    found = compiled(model, X)
    assert set(found.record.methods) == exact, found.record.native
    graph = CompiledModel(found.graph, found.record, infer_inputs(X))
    rng = np.random.default_rng(1)
    spread = np.nanstd(X, axis=0)
    rows = X[rng.integers(0, len(X), 500)] + rng.normal(size=(500, X.shape[1])) * spread
    rows[rng.random(rows.shape) < 0.1] = np.nan
    rows[rng.random(rows.shape) < 0.1] = 0.0
    for method in exact:
        for i in range(500):
            table = graph.table(InputBatch(1, rows=rows[i : i + 1].tolist()))
            assert table is not None
            answer = graph.answer(method, table)
            # Where two classes are nearly as likely, the model itself is asked.
            assert answer in (None, encode_output(getattr(model, method)(rows[i : i + 1])))
    table = graph.table(InputBatch(len(X), rows=X.tolist()))
    assert table is not None
    for method in exact:
        assert graph.answer(method, table) == encode_output(getattr(model, method)(X))


def test_boosted_trees_stopped_early_answer_with_their_best_rounds() -> None:
    X, y = CANCER
    boosted = XGBClassifier(n_estimators=200, early_stopping_rounds=3, learning_rate=0.9, n_jobs=1)
    boosted.fit(X[:300], y[:300], eval_set=[(X[300:], y[300:])], verbose=False)
    assert boosted.best_iteration + 1 < boosted.get_booster().num_boosted_rounds()
    found = compiled(boosted, X, within_tolerance=True)
    assert set(found.record.methods) == {"predict", "predict_proba"}


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (LGBMRegressor(objective="poisson", verbose=-1), "objective 'poisson'"),
        (LGBMRegressor(linear_tree=True, verbose=-1), "linear models"),
        (LGBMRegressor(zero_as_missing=True, verbose=-1), "zeros for missing"),
        (
            LGBMRegressor(boosting_type="rf", bagging_freq=1, bagging_fraction=0.5, verbose=-1),
            "are averaged",
        ),
        (XGBRegressor(objective="count:poisson"), "objective 'count:poisson'"),
        (XGBRegressor(booster="gblinear"), "booster is 'gblinear'"),
        (XGBRegressor(missing=0.0), "0.0 for a missing value"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_boosted_trees_do_that_a_graph_does_not_is_said(model: Any, why: str) -> None:
    X, y = DIABETES
    X = np.round(X * 100)
    model.set_params(n_estimators=3, n_jobs=1).fit(X, y)
    found = compiled(model, X)
    assert not found.record.methods
    assert why in found.record.native["predict"]


def test_splits_by_category_are_left_to_the_model() -> None:
    X = np.random.default_rng(0).integers(0, 8, (400, 2)).astype(np.float64)
    y = np.isin(X[:, 0], (1, 4, 6)).astype(np.float64)
    model = LGBMRegressor(n_estimators=3, verbose=-1, n_jobs=1)
    found = compiled(model.fit(X, y, categorical_feature=[0]), X)
    assert found.record.native == {"predict": "its trees split by categories"}


def test_rows_that_a_model_refuses_are_left_to_it() -> None:
    X, y = CANCER
    scaled = make_pipeline(StandardScaler(), RandomForestClassifier(3, random_state=0)).fit(X, y)
    found = compiled(scaled, X)
    graph = CompiledModel(found.graph, found.record, infer_inputs(X))
    for value in (float("nan"), float("inf"), 1e39):
        row = X[:1].copy()
        row[0, 4] = value
        assert graph.table(InputBatch(1, rows=row.tolist())) is None
    row = X[:1].copy()
    # Within float32 as it comes, beyond it once it is divided by a scale under 1.
    row[0, np.argmin(X.std(axis=0))] = 3e38
    table = graph.table(InputBatch(1, rows=row.tolist()))
    assert table is not None
    assert graph.answer("predict", table) is None


def test_a_label_that_hangs_on_the_last_bit_is_left_to_the_model() -> None:
    X, y = CANCER
    model = make_pipeline(StandardScaler(), SGDClassifier(random_state=0)).fit(X, y)
    found = compiled(model, X)
    graph = CompiledModel(found.graph, found.record, infer_inputs(X))
    last = model[-1]
    point = -last.intercept_[0] * last.coef_[0] / (last.coef_[0] @ last.coef_[0])
    edge = (point * model[0].scale_ + model[0].mean_).reshape(1, -1)
    assert abs(model.decision_function(edge)[0]) < 1e-9
    scores = model.decision_function(X)
    table = graph.table(InputBatch(len(X), rows=X.tolist()))
    assert table is not None
    assert graph.answer("predict", table) == encode_output(model.predict(X))
    low, high = X[scores.argmin()], X[scores.argmax()]
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if model.decision_function([middle])[0] < 0 else (low, middle)
    table = graph.table(InputBatch(1, rows=[high.tolist()]))
    assert table is not None
    assert graph.answer("predict", table) is None


def test_missing_values_are_answered_where_the_model_takes_them() -> None:
    X, y = CANCER
    holes = X.copy()
    holes[::5, 2] = np.nan
    for model in (
        HistGradientBoostingClassifier(max_iter=5),
        make_pipeline(SimpleImputer(), RandomForestClassifier(5, random_state=0)),
    ):
        found = compiled(model.fit(holes, y), holes)
        assert found.record.takes_nan
        graph = CompiledModel(found.graph, found.record, infer_inputs(holes))
        table = graph.table(InputBatch(20, rows=holes[:20].tolist()))
        assert table is not None
        assert graph.answer("predict", table) == encode_output(model.predict(holes[:20]))


def test_integers_and_single_precision_are_held_as_the_notebook_holds_them() -> None:
    X, y = IRIS
    frame = pd.DataFrame(X, columns=list("abcd")).astype({"b": "float32"})
    frame["n"] = np.arange(len(frame))
    model = RandomForestClassifier(5, random_state=0).fit(frame, y)
    found = compiled(model, frame)
    assert set(found.record.methods) == {"predict", "predict_proba"}
    single = LogisticRegression().fit(X.astype(np.float32), y)
    assert "single precision" in compiled(single, X.astype(np.float32)).record.native["predict"]


def test_a_class_of_ones_own_is_not_taken_for_the_one_that_it_extends() -> None:
    class Contrary(RandomForestClassifier):
        def predict(self, X: Any) -> Any:
            return super().predict(X)[::-1]

    found = compiled(Contrary(3, random_state=0).fit(*IRIS), IRIS[0])
    assert found.graph == b""
    assert found.record.native["predict"] == "Contrary has no exact graph"


def test_a_graph_that_answers_otherwise_is_found_out() -> None:
    X, y = IRIS
    model = RandomForestClassifier(5, random_state=0).fit(X, y)
    # The model that is asked is another than the one that is compiled.
    other = RandomForestClassifier(5, random_state=1).fit(X, y)
    model.predict_proba = other.predict_proba
    found = compiled(model, X)
    assert "predict_proba answers otherwise" in found.record.native["predict_proba"]
