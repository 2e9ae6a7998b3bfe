"""In a worker: from checked values to the very object that the notebook would have passed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from mlserve_jupyter.api.signature import Column, InputBatch, InputSpec, Packed
from mlserve_jupyter.artifacts.arrays import (
    build_array,
    build_elements,
    from_tagged,
)
from mlserve_jupyter.artifacts.packed_arrays import array_of, elements_of

_NUMERIC = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")


def build_input(spec: InputSpec, batch: InputBatch) -> Any:
    """Rebuild the object that the model's method is called with.

    Parameters
    ----------
    spec
        What the version takes.
    batch
        Checked values.

    Returns
    -------
    pandas.DataFrame, pandas.Series, numpy.ndarray, scipy sparse or list
        Of the dtypes, labels, categories and memory order of ``spec`` (hence ``Any``).
    """
    if spec.container == "dataframe":
        return _block_frame(spec, batch) if batch.columns is None else _frame(spec, batch.columns)
    if spec.container == "series":
        return _series(spec.columns[0], (batch.columns or [[]])[0])
    if spec.container == "list":
        return _items(spec.columns[0], batch.rows or [])
    if spec.container == "sparse":
        return _sparse(spec, batch.rows or [])
    if len(spec.shape) == 1:
        return np.asarray(_column((batch.columns or [[]])[0], spec.columns[0]))
    return _array(spec, batch)


def concat_batches(batches: Sequence[InputBatch]) -> InputBatch:
    """Join batches of one signature, in order, into one."""
    if len(batches) == 1:
        return batches[0]
    n_rows = sum(batch.n_rows for batch in batches)
    if batches[0].columns is not None:
        parts = zip(*(batch.columns or [] for batch in batches), strict=True)
        return InputBatch(n_rows=n_rows, columns=[list(chain(*part)) for part in parts])
    return InputBatch(n_rows=n_rows, rows=list(chain(*(batch.rows or [] for batch in batches))))


def _frame(spec: InputSpec, columns: list[Any]) -> Any:
    import pandas

    arrays = [_column(v, column) for v, column in zip(columns, spec.columns, strict=True)]
    block = main_block(spec.columns) if spec.order == "C" else []
    frame = (
        _around_block(arrays, block)
        if block
        else pandas.DataFrame(_by_position(arrays), copy=False)
    )
    frame.columns = _labels(spec)
    return frame


def _block_frame(spec: InputSpec, batch: InputBatch) -> Any:
    """Build a frame whose columns share one dtype around the one block that they came in."""
    import pandas

    return pandas.DataFrame(_array(spec, batch), columns=_labels(spec), copy=False)


def _labels(spec: InputSpec) -> Any:
    import pandas

    labels = [column_label(column) for column in spec.columns]
    if labels == list(range(len(labels))):
        return pandas.RangeIndex(len(labels))
    return pandas.Index(labels)


def main_block(columns: Sequence[Column]) -> list[int]:
    """Give the positions of the columns of a frame that lie together in its largest block.

    pandas keeps columns of one numpy dtype in one block, whose order in memory is that of
    ``InputSpec.order``. Empty where no two columns share a numeric dtype.
    """
    groups: dict[str, list[int]] = {}
    for position, column in enumerate(columns):
        if _NUMERIC.fullmatch(column.dtype):
            groups.setdefault(column.dtype, []).append(position)
    largest = max(groups.values(), key=len, default=[])
    return largest if len(largest) > 1 else []


def _around_block(arrays: list[Any], block: list[int]) -> Any:
    """Build a frame whose main block lies row by row, as one has that was made of an array."""
    import pandas

    rows = np.ascontiguousarray(np.column_stack([arrays[position] for position in block]))
    frame = pandas.DataFrame(rows, columns=block, copy=False)
    others = _by_position(arrays)
    for position in sorted(set(others) - set(block)):
        frame.insert(position, position, others[position])
    return frame


def _by_position(arrays: list[Any]) -> dict[int, Any]:
    import pandas

    # Without a dtype, pandas would make strings of objects.
    return {
        i: pandas.Series(array, dtype=object, copy=False) if array.dtype == object else array
        for i, array in enumerate(arrays)
    }


def _series(column: Column, values: Any) -> Any:
    import pandas

    array = _column(values, column)
    name = None if column.label == 0 else column_label(column)
    return pandas.Series(array, dtype=array.dtype, name=name, copy=False)


def column_label(column: Column) -> str | int:
    """Return the column's own label."""
    return column.name if column.label is None else column.label


def _column(values: Any, column: Column) -> Any:
    """Build a column of a list or of packed values (hence ``Any``)."""
    return array_of(values, column) if isinstance(values, Packed) else build_array(values, column)


def _items(column: Column, rows: list[Any]) -> list[Any]:
    if column.kind == "any":
        return [from_tagged(row) for row in rows]
    built: list[Any] = build_array(rows, column).tolist()
    return built


def _array(spec: InputSpec, batch: InputBatch) -> np.ndarray[Any, Any]:
    shape = (batch.n_rows, *(size for size in spec.shape[1:] if size is not None))
    rows = batch.rows or []
    columns = spec.columns
    if isinstance(rows, Packed):
        array = elements_of(rows, shape, columns[0])
    elif len(columns) == 1 and (len(shape) > 2 or shape[1] != 1):
        array = build_elements(rows, shape, columns[0])
    elif spec.dtype == "object":
        array = np.empty(shape, dtype=object)
        for j, column in enumerate(columns):
            array[:, j] = build_array([row[j] for row in rows], column)
    else:
        array = build_elements(rows, shape, columns[0])
    return np.asarray(array, order=spec.order)


def _sparse(spec: InputSpec, rows: list[Any]) -> Any:
    from scipy import sparse

    name = spec.sparse_class or "csr_matrix"
    family = sparse.csr_array if name.endswith("_array") else sparse.csr_matrix
    n_columns = spec.shape[1] or 0
    data: list[Any] = []
    indices: list[int] = []
    pointers = [0]
    for row in rows:
        if isinstance(row, dict):
            indices.extend(row["indices"])
            data.extend(row["values"])
        else:
            stored = [(j, value) for j, value in enumerate(row) if value is None or value != 0]
            indices.extend(j for j, _ in stored)
            data.extend(value for _, value in stored)
        pointers.append(len(indices))
    matrix = family(
        (
            build_elements(data, (len(data),), spec.columns[0]),
            np.array(indices, dtype=np.int32),
            np.array(pointers, dtype=np.int32),
        ),
        shape=(len(rows), n_columns),
    )
    return matrix.asformat(name.partition("_")[0])
