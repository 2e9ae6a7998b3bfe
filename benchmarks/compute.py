"""What computing alone takes, without a server: ``predict``, and the compiled graph."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.models import MODELS
from mlserve_jupyter.api.compiled import CompiledRecord
from mlserve_jupyter.api.signature import InputBatch
from mlserve_jupyter.artifacts.infer import infer_inputs
from mlserve_jupyter.serving.compiling import compile_for_server
from mlserve_jupyter.serving.runtimes.session import CompiledModel
from mlserve_jupyter.serving.runtimes.verification import (
    CompileReply,
    MethodReply,
    verify_graph,
)

N_CALLS = 200
SIZES = (1, 64)


@dataclass(frozen=True)
class ComputeCost:
    """Milliseconds of one call, by its number of rows.

    Attributes
    ----------
    onnx_ms
        Not a number where the model has no verified graph.
    """

    model: str
    predict_ms: dict[int, float]
    onnx_ms: dict[int, float]


def compute_cost(name: str) -> ComputeCost:
    """Measure a model on arrays that are there already."""
    model, sample = MODELS[name].fit()
    compiled = compiled_model(model, sample)
    tables = {size: np.ascontiguousarray(sample[:size], dtype=np.float64) for size in SIZES}
    return ComputeCost(
        name,
        {size: _median_ms(partial(model.predict, table)) for size, table in tables.items()},
        {
            size: _median_ms(partial(compiled.run, "predict", table)) if compiled else float("nan")
            for size, table in tables.items()
        },
    )


def compiled_model(model: Any, sample: Any) -> CompiledModel | None:
    """Compile and verify as a deploy does; None where that does not succeed."""
    inputs = infer_inputs(sample)
    batch = InputBatch(n_rows=len(sample), rows=sample.tolist())
    header, body = compile_for_server(model, ["predict"], inputs, batch)
    methods = [MethodReply(**method) for method in header.get("methods", [])]
    reply = CompileReply(**{**header, "methods": methods})
    verified = verify_graph(reply, body, inputs, within_tolerance=False)
    record: CompiledRecord = verified.record
    if verified.graph is None or "predict" not in record.methods:
        return None
    return CompiledModel(verified.graph, record, inputs)


def _median_ms(call: Callable[[], object]) -> float:
    call()
    costs = []
    for _ in range(N_CALLS):
        started = time.perf_counter()
        call()
        costs.append(time.perf_counter() - started)
    return statistics.median(costs) * 1e3
