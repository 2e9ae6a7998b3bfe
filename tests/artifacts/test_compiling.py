"""Graphs held against their models: bits, refusals, and rows that were not probed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
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
