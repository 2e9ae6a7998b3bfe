"""From a fitted model to an ONNX graph of those of its methods that have an exact one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlserve_jupyter.api.signature import InputSpec
from mlserve_jupyter.artifacts.compiling.estimators import predictor
from mlserve_jupyter.artifacts.compiling.flow import Compiled, Flow, NotCompilable, Output
from mlserve_jupyter.artifacts.compiling.graph import GraphBuilder
from mlserve_jupyter.artifacts.compiling.transformers import full_name, transform

_NUMERIC = re.compile(r"u?int(8|16|32|64)|float(32|64)")
_COMPILED_METHODS = ("predict", "predict_proba", "decision_function", "transform")


@dataclass(frozen=True)
class CompiledModel:
    """A graph and what it stands for.

    Attributes
    ----------
    graph
        The ONNX file's content; each method's output has the method's name.
    compiled
        Outputs by method, of those that were asked for.
    native
        By method, why it has none.
    """

    graph: bytes
    compiled: Compiled
    native: dict[str, str]


def compile_model(model: Any, methods: Sequence[str], inputs: InputSpec) -> CompiledModel:
    """Compile the methods of a fitted model (of any class, hence ``Any``).

    Raises
    ------
    NotCompilable
        If none of them can be; the message says why.
    """
    dtype = _dtype_of(inputs)
    graph = GraphBuilder(_n_features(inputs))
    compiled = _last_step(model, Flow.start(graph))
    if dtype == np.float32 and not (compiled.trees and compiled.flow.is_input):
        raise NotCompilable("its input is in single precision, and so is its arithmetic")
    outputs: dict[str, Output] = {}
    native = {}
    within = None if compiled.flow.is_input else _within(compiled)
    for method in methods:
        found = compiled.outputs.get(method)
        if found is not None:
            outputs[method] = found = _and_within(graph, found, within)
            _add_output(graph, method, found)
        elif method in _COMPILED_METHODS:
            native[method] = f"{method} of {type(_last(model)).__name__} has no exact graph"
        else:
            native[method] = f"only {', '.join(_COMPILED_METHODS)} are compiled"
    if not outputs:
        raise NotCompilable("; ".join(sorted(set(native.values()))) or "it has no methods")
    return CompiledModel(graph.finish(), replace(compiled, outputs=outputs), native)


def _last_step(model: Any, flow: Flow) -> Compiled:
    if full_name(model) == "sklearn.pipeline.Pipeline":
        for _, step in model.steps[:-1]:
            flow = transform(step, flow)
        return _last_step(model.steps[-1][1], flow)
    if model is None or isinstance(model, str) or not hasattr(model, "predict"):
        flow = transform(model, flow)
        return Compiled({"transform": Output(flow.value, flow.n_columns)}, flow)
    return predictor(model, flow)


def _last(model: Any) -> Any:
    return _last(model.steps[-1][1]) if full_name(model) == "sklearn.pipeline.Pipeline" else model


def _within(compiled: Compiled) -> str:
    """Tell for each row whether no feature of the last step is beyond what that step takes."""
    flow, graph = compiled.flow, compiled.flow.graph
    bound = graph.constant(np.float64(compiled.max_abs))
    over = graph.node("Cast", graph.node("Greater", graph.node("Abs", flow.value), bound), to=7)
    count = graph.node("ReduceSum", over, graph.constant(np.array([1])), keepdims=0)
    return graph.node("Equal", count, graph.constant(np.int64(0)))


def _and_within(graph: GraphBuilder, output: Output, within: str | None) -> Output:
    if within is None:
        return output
    both = within if output.certain is None else graph.node("And", output.certain, within)
    return replace(output, certain=both)


def _add_output(graph: GraphBuilder, method: str, output: Output) -> None:
    graph.output(output.value, method, output.dtype, output.n_columns)
    if output.certain is not None:
        graph.output(output.certain, f"{method}_certain", "bool", None)


def _dtype_of(inputs: InputSpec) -> np.dtype[Any]:
    """Return the dtype that scikit-learn sees.

    Raises
    ------
    NotCompilable
        If the input is not a table of plain numbers.
    """
    dtypes = {column.dtype for column in inputs.columns}
    if inputs.container == "ndarray" and len(inputs.shape) == 2:
        dtypes = {inputs.dtype or "object"}
    elif inputs.container != "dataframe":
        raise NotCompilable(f"its input is a {inputs.container}, not a table")
    odd = sorted(dtype for dtype in dtypes if not _NUMERIC.fullmatch(dtype))
    if odd:
        raise NotCompilable(f"its input has columns of the dtype {odd[0]}")
    return np.result_type(*dtypes)


def _n_features(inputs: InputSpec) -> int:
    size = inputs.shape[1]
    if not size:
        raise NotCompilable("its input has no fixed number of columns")
    return size
