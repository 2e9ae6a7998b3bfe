"""Transformers whose arithmetic is a few operations a column, the same in a graph bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mlserve_jupyter.artifacts.compiling.flow import Flow, NotCompilable

# Fitted estimators are scikit-learn's, whose attributes have no types, hence ``Any``.


def transform(step: Any, flow: Flow) -> Flow:
    """Add a fitted transformer to a graph.

    Raises
    ------
    NotCompilable
        If it is none of those that are known.
    """
    if step is None or step == "passthrough":
        return flow
    convert = _CONVERTERS.get(full_name(step))
    if convert is None:
        raise NotCompilable(f"the transformer {type(step).__name__} has no exact graph")
    return convert(step, flow)


def full_name(obj: Any) -> str:
    """Return module and name of an object's class, without private modules in between."""
    kind = type(obj)
    module = ".".join(part for part in kind.__module__.split(".") if not part.startswith("_"))
    return f"{module}.{kind.__qualname__}"


def _pipeline(step: Any, flow: Flow) -> Flow:
    for _, part in step.steps:
        flow = transform(part, flow)
    return flow


def _standard_scaler(step: Any, flow: Flow) -> Flow:
    n = flow.n_columns
    mean = step.mean_ if step.with_mean else None
    scale = step.scale_ if step.with_std else None
    value = _subtracted(flow, flow.value, mean)
    value = _divided(flow, value, scale)
    return flow.affine(value, _or(mean, np.zeros(n)), _or(scale, np.ones(n)))


def _robust_scaler(step: Any, flow: Flow) -> Flow:
    n = flow.n_columns
    center = step.center_ if step.with_centering else None
    scale = step.scale_ if step.with_scaling else None
    value = _divided(flow, _subtracted(flow, flow.value, center), scale)
    return flow.affine(value, _or(center, np.zeros(n)), _or(scale, np.ones(n)))


def _min_max_scaler(step: Any, flow: Flow) -> Flow:
    graph = flow.graph
    value = graph.node("Mul", flow.value, graph.constant(_doubles(step.scale_)))
    value = graph.node("Add", value, graph.constant(_doubles(step.min_)))
    if step.clip:
        low, high = (graph.constant(np.float64(bound)) for bound in step.feature_range)
        value = graph.node("Clip", value, low, high)
    return flow.affine(value, -step.min_ / step.scale_, 1 / step.scale_)


def _max_abs_scaler(step: Any, flow: Flow) -> Flow:
    if getattr(step, "clip", False):
        raise NotCompilable("a MaxAbsScaler that clips has no exact graph")
    value = _divided(flow, flow.value, step.scale_)
    return flow.affine(value, np.zeros(flow.n_columns), step.scale_)


def _simple_imputer(step: Any, flow: Flow) -> Flow:
    statistics = np.asarray(step.statistics_)
    is_plain = (
        statistics.dtype.kind == "f"
        and isinstance(step.missing_values, float)
        and np.isnan(step.missing_values)
        and not step.add_indicator
        and np.isfinite(statistics).all()
    )
    if not is_plain:
        raise NotCompilable("only a SimpleImputer of NaN by finite numbers has an exact graph")
    graph = flow.graph
    value = graph.node(
        "Where",
        graph.node("IsNaN", flow.value),
        graph.constant(_doubles(statistics)),
        flow.value,
    )
    return replace(flow, value=value, takes_nan=True)


def _function_transformer(step: Any, flow: Flow) -> Flow:
    # What a ColumnTransformer passes through goes through one of these without a function.
    if step.func is not None:
        raise NotCompilable("a FunctionTransformer has no exact graph")
    return flow


def _selector(step: Any, flow: Flow) -> Flow:
    return flow.columns(np.flatnonzero(step.get_support()))


def _column_transformer(step: Any, flow: Flow) -> Flow:
    parts = []
    for name, part, _ in step.transformers_:
        positions = step._transformer_to_input_indices.get(name, [])
        if isinstance(part, str) and part == "drop" or not len(positions):
            continue
        if step.transformer_weights:
            raise NotCompilable("a ColumnTransformer with weights has no exact graph")
        parts.append(transform(part, flow.columns(np.asarray(positions))))
    if not parts:
        raise NotCompilable("the ColumnTransformer gives no columns")
    return Flow(
        graph=flow.graph,
        value=flow.graph.node("Concat", *(part.value for part in parts), axis=1),
        source=np.concatenate([part.source for part in parts]),
        offset=np.concatenate([part.offset for part in parts]),
        scale=np.concatenate([part.scale for part in parts]),
        # Every column must take a missing value; where one does not, none is let in.
        takes_nan=all(part.takes_nan for part in parts),
    )


def _subtracted(flow: Flow, value: str, shift: Any) -> str:
    return value if shift is None else flow.graph.node("Sub", value, _constant(flow, shift))


def _divided(flow: Flow, value: str, factor: Any) -> str:
    return value if factor is None else flow.graph.node("Div", value, _constant(flow, factor))


def _constant(flow: Flow, values: Any) -> str:
    return flow.graph.constant(_doubles(values))


def _doubles(values: Any) -> Any:
    array = np.asarray(values)
    if array.dtype != np.float64:
        raise NotCompilable("it was fitted in single precision")
    return array


def _or(values: Any, otherwise: Any) -> Any:
    return otherwise if values is None else values


_CONVERTERS: dict[str, Callable[[Any, Flow], Flow]] = {
    "sklearn.pipeline.Pipeline": _pipeline,
    "sklearn.preprocessing.FunctionTransformer": _function_transformer,
    "sklearn.preprocessing.StandardScaler": _standard_scaler,
    "sklearn.preprocessing.RobustScaler": _robust_scaler,
    "sklearn.preprocessing.MinMaxScaler": _min_max_scaler,
    "sklearn.preprocessing.MaxAbsScaler": _max_abs_scaler,
    "sklearn.impute.SimpleImputer": _simple_imputer,
    "sklearn.compose.ColumnTransformer": _column_transformer,
    "sklearn.feature_selection.SelectKBest": _selector,
    "sklearn.feature_selection.SelectPercentile": _selector,
    "sklearn.feature_selection.SelectFromModel": _selector,
    "sklearn.feature_selection.VarianceThreshold": _selector,
}
