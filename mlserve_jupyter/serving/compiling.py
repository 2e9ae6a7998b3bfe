"""In a worker: the graph of a model, and what the server needs to judge it.

Like the worker itself, this imports the standard library, numpy and ``artifacts`` only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlserve_jupyter.api.signature import InputBatch, InputSpec
from mlserve_jupyter.artifacts.compiling.answers import native_answers
from mlserve_jupyter.artifacts.compiling.compile import CompiledModel, compile_model
from mlserve_jupyter.artifacts.compiling.flow import NotCompilable
from mlserve_jupyter.artifacts.compiling.probes import probe_rows
from mlserve_jupyter.artifacts.outputs import encode_output


def compile_for_server(
    model: Any, methods: Sequence[str], inputs: InputSpec, sample: InputBatch
) -> tuple[dict[str, Any], bytes]:
    """Compile a model (of any class, hence ``Any``) and answer the probe rows with it.

    Returns
    -------
    dict and bytes
        The header, as ``verification.CompileReply`` reads it; and the graph, the rows, and for each
        method which rows it took and its answers to those, one after the other.
    """
    try:
        found = compile_model(model, methods, inputs)
        rows = probe_rows(inputs, sample, found.compiled)
    except NotCompilable as reason:
        return {"native": dict.fromkeys(methods, str(reason))}, b""
    except Exception as error:
        # A model's attributes may be anything; what cannot be read is not compiled.
        reason_text = f"it could not be compiled: {type(error).__name__}: {error}"
        return {"native": dict.fromkeys(methods, reason_text)}, b""
    return _with_answers(model, inputs, found, rows)


def _with_answers(
    model: Any, inputs: InputSpec, found: CompiledModel, rows: np.ndarray[Any, Any]
) -> tuple[dict[str, Any], bytes]:
    native = dict(found.native)
    described: list[dict[str, Any]] = []
    sections = [found.graph, np.ascontiguousarray(rows, dtype="<f8").tobytes()]
    for name, output in found.compiled.outputs.items():
        try:
            answers, taken = native_answers(getattr(model, name), inputs, rows)
            encoded = encode_output(answers)
            classes = None if output.classes is None else json.loads(encode_output(output.classes))
        except Exception as error:
            # The model raises what it likes.
            native[name] = f"its answers could not be had: {type(error).__name__}: {error}"
            continue
        sections += [taken.tobytes(), encoded]
        described.append(
            {
                "name": name,
                "finish": output.finish,
                "classes": classes,
                "has_certain": output.certain is not None,
                "is_exact": output.is_exact,
                "n_asked": len(taken),
                "n_bytes": len(encoded),
            }
        )
    header = {
        "native": native,
        "methods": described,
        "graph_bytes": len(found.graph),
        "n_rows": len(rows),
        "n_features": int(rows.shape[1]),
        "n_thresholds": sum(int((~tree.is_leaf).sum()) for tree in found.compiled.trees),
        "takes_nan": found.compiled.flow.takes_nan,
        "max_abs": found.compiled.max_abs,
        "numpy": np.__version__,
    }
    return header, b"".join(sections)
