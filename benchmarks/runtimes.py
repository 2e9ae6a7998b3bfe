"""Models of scikit-learn through their compiled graphs: do they verify, and what is gained.

Each model is fitted, compiled and verified as a deploy does: what the graph answers bit for bit,
what within the tolerance of ``--runtime onnx``, what not at all; and the microseconds of
``predict`` for 1 and 64 rows through the model and through the graph, the making of the input from
Python lists and of the answer's JSON included in both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
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
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from benchmarks.report import Options, Report
from mlserve_jupyter.api.signature import InputBatch, InputSpec
from mlserve_jupyter.artifacts.infer import infer_inputs
from mlserve_jupyter.artifacts.inputs import build_input
from mlserve_jupyter.artifacts.methods import servable_methods
from mlserve_jupyter.artifacts.outputs import encode_output
from mlserve_jupyter.serving.compiling import compile_for_server
from mlserve_jupyter.serving.runtimes.session import CompiledModel
from mlserve_jupyter.serving.runtimes.verification import CompileReply, verify_graph

COLUMNS = (
    "bit_for_bit", "more_with_onnx", "largest_difference", "rows_compared", "compile_and_verify_s",
    "native_us_1_row", "onnx_us_1_row", "native_us_64_rows", "onnx_us_64_rows",
)  # fmt: skip
SHOWN = ("predict", "predict_proba", "decision_function")


def models() -> Iterator[tuple[str, Any, Any]]:
    """Yield names, fitted models and their data."""
    cancer, iris = load_breast_cancer(return_X_y=True), load_iris(return_X_y=True)
    diabetes = load_diabetes(return_X_y=True)
    numeric = ColumnTransformer(
        [("standard", StandardScaler(), [0, 1, 2]), ("range", MinMaxScaler(), [3, 4, 5])],
        remainder="passthrough",
    )
    for model, (X, y) in (
        (make_pipeline(StandardScaler(), LogisticRegression()), cancer),
        (make_pipeline(StandardScaler(), LogisticRegression()), iris),
        (make_pipeline(numeric, RandomForestClassifier(random_state=0)), cancer),
        (RandomForestClassifier(random_state=0), cancer),
        (RandomForestClassifier(random_state=0), iris),
        (RandomForestRegressor(random_state=0), diabetes),
        (ExtraTreesClassifier(random_state=0), cancer),
        (DecisionTreeClassifier(random_state=0), cancer),
        (GradientBoostingClassifier(random_state=0), cancer),
        (GradientBoostingRegressor(random_state=0), diabetes),
        (HistGradientBoostingClassifier(random_state=0), cancer),
        (HistGradientBoostingClassifier(random_state=0), iris),
        (HistGradientBoostingRegressor(random_state=0), diabetes),
        (LinearRegression(), diabetes),
        (Ridge(), diabetes),
        (SVC(), cancer),
        (KNeighborsClassifier(), cancer),
        (make_pipeline(StandardScaler(), MLPClassifier(max_iter=500, random_state=0)), cancer),
        (GaussianNB(), cancer),
    ):
        yield _name(model, y), model.fit(X, y), X


def row(name: str, model: Any, X: Any) -> tuple[str, ...]:
    """Compile, verify and measure one model."""
    inputs, batch = infer_inputs(X), InputBatch(n_rows=len(X), rows=X.tolist())
    methods = [method for method in servable_methods(model) if method in SHOWN]
    started = time.perf_counter()
    header, body = compile_for_server(model, methods, inputs, batch)
    reply = CompileReply(**{**header, "methods": _methods(header)})
    exact = verify_graph(reply, body, inputs, within_tolerance=False).record
    took_s = time.perf_counter() - started
    near = verify_graph(reply, body, inputs, within_tolerance=True)
    largest = max((m.max_difference for m in near.record.methods.values()), default=0.0)
    only_near = [method for method in near.record.methods if method not in exact.methods]
    cells = [_words(methods, exact.methods), ", ".join(only_near) or "–"]
    cells += [f"{largest:.1g}" if largest else "0" if near.graph else "–"]
    cells += [str(near.record.n_rows or "–"), f"{took_s:.2f}"]
    compiled = CompiledModel(near.graph, near.record, inputs) if near.graph else None
    for n_rows in (1, 64):
        batches = [_batch(X, i, n_rows) for i in range(50)]
        native = _microseconds(lambda b: _native(model, inputs, b), batches)
        cells.append(f"{native:,.0f}")
        if compiled is None or "predict" not in near.record.methods:
            cells.append("–")
            continue
        cells.append(f"{_microseconds(lambda b: _graph(compiled, b), batches):,.0f}")
    return tuple(cells)


def _methods(header: dict[str, Any]) -> list[Any]:
    from mlserve_jupyter.serving.runtimes.verification import MethodReply

    return [MethodReply(**method) for method in header.get("methods", [])]


def _words(methods: list[str], compiled: Any) -> str:
    return ", ".join(method for method in methods if method in compiled) or "–"


def _batch(X: Any, i: int, n_rows: int) -> InputBatch:
    rows = X[np.arange(i * 7, i * 7 + n_rows) % len(X)] * (1 + i * 1e-4)
    return InputBatch(n_rows=n_rows, rows=rows.tolist())


def _native(model: Any, inputs: InputSpec, batch: InputBatch) -> bytes:
    return encode_output(model.predict(build_input(inputs, batch)))


def _graph(compiled: CompiledModel, batch: InputBatch) -> bytes:
    table = compiled.table(batch)
    assert table is not None
    return compiled.answer("predict", table) or b""


def _microseconds(call: Callable[[InputBatch], object], batches: list[InputBatch]) -> float:
    """Return the median of a call, after a round that is not measured."""
    costs: list[float] = []
    for _ in range(2):
        costs = []
        for batch in batches:
            started = time.perf_counter()
            call(batch)
            costs.append(time.perf_counter() - started)
    return float(np.median(costs)) * 1e6


def _name(model: Any, y: Any) -> str:
    steps = [type(step).__name__ for _, step in getattr(model, "steps", [("", model)])]
    n_classes = len(np.unique(y))
    return " + ".join(steps) + (f", {n_classes} classes" if n_classes < 10 else "")


def measure(report: Report, options: Options) -> None:
    """Measure each model; only the first two if it is to be quick."""
    for name, model, X in islice(models(), 2 if options.is_quick else None):
        cells = row(name, model, X)
        report.measured(name, **dict(zip(COLUMNS, cells, strict=True)))
