"""A compiled graph in the server's process, and the JSON that it answers with.

numpy and ONNX Runtime are imported here and nowhere above, when the first graph is opened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mlserve_jupyter.api.compiled import CompiledMethod, CompiledRecord
from mlserve_jupyter.api.signature import InputBatch, InputSpec, Packed

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

CHUNK_ROWS = 1024
"""Rows that go through the graph at once, so that what lies between its operators stays small."""

EXACT_INTEGERS = 2.0**53


def missing_libraries() -> list[str]:
    """Return what must be installed beside the server before it can run compiled graphs."""
    return [name for name in ("numpy", "onnxruntime") if find_spec(name) is None]


def versions() -> dict[str, str]:
    """Return the versions of the libraries that run a graph."""
    import numpy as np
    import onnxruntime

    return {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__}


class CompiledModel:
    """An open graph.

    Parameters
    ----------
    graph
        The ONNX file's content, which has been checked.
    record
        What the graph's outputs stand for.
    inputs
        The version's input.

    Attributes
    ----------
    n_bytes
        About what it takes in memory.
    """

    def __init__(self, graph: bytes, record: CompiledRecord, inputs: InputSpec) -> None:
        import numpy as np
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        self.n_bytes = 3 * len(graph) + 2**20
        self._np = np
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        self._record = record
        self._dtypes = (
            [inputs.dtype or "float64"]
            if inputs.container == "ndarray"
            else [column.dtype for column in inputs.columns]
        )
        self._plain = set(self._dtypes) == {"float64"}
        self._max_abs = record.max_abs
        if not all(dtype.startswith("float") for dtype in self._dtypes):
            self._max_abs = min(self._max_abs, EXACT_INTEGERS)
        self._labels = {
            name: _label_texts(method.classes)
            for name, method in record.methods.items()
            if method.classes is not None
        }

    def table(self, batch: InputBatch) -> Array | None:
        """Return checked input as the graph takes it; None where the model itself must answer."""
        np = self._np
        if isinstance(batch.rows, Packed):
            table = self._floats(batch.rows).reshape(batch.n_rows, -1, order=batch.rows.order)
        elif batch.rows is not None:
            table = np.array(batch.rows, dtype=np.float64)
        elif any(isinstance(column, Packed) for column in batch.columns or ()):
            table = np.empty((batch.n_rows, len(batch.columns or ())))
            for j, column in enumerate(batch.columns or ()):
                table[:, j] = self._floats(column) if isinstance(column, Packed) else column
        else:
            table = np.array(batch.columns, dtype=np.float64).T
        if not self._plain:
            table = self._as_held(table)
        # A comparison with NaN is false, so that one look suffices for most rows.
        if not np.abs(table).max() <= self._max_abs:
            usual = np.abs(table) <= self._max_abs
            if self._record.takes_nan:
                usual |= np.isnan(table)
            if not usual.all():
                return None
        rows: Array = np.ascontiguousarray(table)
        return rows

    def is_exact(self, method: str) -> bool:
        """Whether a method's answers are the model's own bits, in whatever company a row comes."""
        found = self._record.methods.get(method)
        return found is not None and found.is_exact and found.max_difference == 0

    def answer(self, method: str, table: Array) -> bytes | None:
        """Return the JSON of ``predictions``; None where the model itself must answer."""
        return self.answers(method, table, [len(table)])[0]

    def answers(self, method: str, table: Array, sizes: Sequence[int]) -> list[bytes | None]:
        """Return what :meth:`answer` does for each of the calls whose rows lie in a table.

        Parameters
        ----------
        table
            Of shape ``(n_rows, n_features)``.
        sizes
            How many of its rows each call has, in order.
        """
        plan = self._record.methods[method]
        values, certain = self.run(method, table)
        all_certain = certain is None or bool(certain.all())
        found: list[bytes | None] = []
        texts: list[bytes] = []
        if plan.finish == "labels":
            labels = self._labels[method]
            texts = [labels[i] for i in values.tolist()]
        start = 0
        for size in sizes:
            part = slice(start, start + size)
            start += size
            if not all_certain and certain is not None and not certain[part].all():
                found.append(None)
            elif plan.finish == "labels":
                found.append(b"[" + b",".join(texts[part]) + b"]")
            else:
                found.append(self._encoded(plan, values[part]))
        return found

    def _encoded(self, plan: CompiledMethod, values: Array) -> bytes:
        from mlserve_jupyter.artifacts.outputs import encode_output

        return encode_output(self.finished(plan, values))

    def run(self, method: str, table: Array) -> tuple[Array, Array | None]:
        """Return the graph's output for a method, and which rows it is sure of (None: of all)."""
        has_certain = self._record.methods[method].has_certain
        names = [method, f"{method}_certain"] if has_certain else [method]
        if len(table) <= CHUNK_ROWS:
            found = self._session.run(names, {"x": table})
        else:
            parts = [
                self._session.run(names, {"x": table[start : start + CHUNK_ROWS]})
                for start in range(0, len(table), CHUNK_ROWS)
            ]
            found = [self._np.concatenate(part) for part in zip(*parts, strict=True)]
        return found[0], found[1] if has_certain else None

    def finished(self, plan: CompiledMethod, values: Array) -> Array:
        """Apply what the graph leaves to the server, by the functions that scikit-learn uses."""
        np = self._np
        if plan.finish == "sigmoid":
            positive = np.array([_sigmoid(value) for value in values.tolist()])
            values = np.column_stack([1 - positive, positive])
        if plan.finish == "softmax" or plan.finish == "softmax_by_column":
            order = "C" if plan.finish == "softmax" else "F"
            values = np.array(values, order=order)
            values -= np.max(values, axis=1).reshape(-1, 1)
            np.exp(values, values)
            values /= np.sum(values, axis=1).reshape(-1, 1)
        return values

    def _floats(self, values: Packed) -> Array:
        """Return packed values in double precision, and NaN where one is missing."""
        np = self._np
        numbers: Array = np.frombuffer(values.data, dtype=values.code).astype(np.float64)
        if values.missing is not None:
            numbers[np.frombuffer(values.missing, dtype=bool)] = np.nan
        return numbers

    def _as_held(self, table: Array) -> Array:
        """Round to what the columns' dtypes hold."""
        np = self._np
        with np.errstate(over="ignore"):
            if len(self._dtypes) == 1:
                dtype = self._dtypes[0]
                return table.astype(dtype).astype(np.float64) if dtype == "float32" else table
            for j, dtype in enumerate(self._dtypes):
                if dtype == "float32":
                    table[:, j] = table[:, j].astype(dtype)
        return table


def _sigmoid(value: float) -> float:
    """Apply the logistic function by the C library's ``exp``, as scikit-learn does."""
    try:
        return 1 / (1 + math.exp(-value))
    except OverflowError:
        return 0.0


def _label_texts(classes: list[Any]) -> list[bytes]:
    from mlserve_jupyter.artifacts.wire import dump_json

    return [dump_json(value) for value in classes]
