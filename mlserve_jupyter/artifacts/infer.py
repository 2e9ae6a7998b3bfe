"""In a kernel: the input signature, from the whole sample.

:mod:`.sampling` then picks rows of the same sample and writes them as a request would.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from mlserve_jupyter.api.signature import MAX_NAMED_FEATURES, Column, InputSpec
from mlserve_jupyter.artifacts.columns import describe_column
from mlserve_jupyter.artifacts.inputs import main_block
from mlserve_jupyter.artifacts.sampling import as_array, choose_rows, encode_body
from mlserve_jupyter.artifacts.wire import is_sparse
from mlserve_jupyter.errors import SampleUnusable

__all__ = ["choose_rows", "encode_body", "infer_inputs"]

_MAX_AROUND_BLOCK = 64
"""Frames with more columns beside their main block cost too much to rebuild around it."""


def infer_inputs(sample: Any, feature_names: Sequence[str] | None = None) -> InputSpec:
    """Infer what the model takes.

    Parameters
    ----------
    sample
        What its method is called with in the notebook: a DataFrame, a Series, a numpy array, a
        scipy sparse matrix, or a list (hence ``Any``). Every value is looked at.
    feature_names
        Names for the columns of an array or a sparse matrix, such as the estimator's
        ``feature_names_in_``.

    Raises
    ------
    SampleUnusable
        When it is empty, or holds what no JSON request could carry.
    """
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(sample, pandas.DataFrame):
        return _infer_frame(sample)
    if pandas is not None and isinstance(sample, pandas.Series):
        return _infer_series(sample)
    if is_sparse(sample):
        return _infer_sparse(sample, feature_names)
    if isinstance(sample, np.ma.MaskedArray):
        raise SampleUnusable(
            "The sample is a masked array; fill the masked values first, such as with NaN."
        )
    if isinstance(sample, (list, tuple)):
        array = as_array(sample)
        return _infer_items(sample) if array is None else _infer_array(array, feature_names)
    if isinstance(sample, np.ndarray):
        return _infer_array(sample, feature_names)
    kind = type(sample)
    advice = "wrap it in a list" if isinstance(sample, (str, bytes, dict)) else "convert it to one"
    raise SampleUnusable(
        f"A sample of the type {kind.__module__}.{kind.__qualname__} cannot stand for a request: "
        f"pass a DataFrame, a Series, a numpy array, a scipy sparse matrix or a list, or {advice}."
    )


def _infer_frame(frame: Any) -> InputSpec:
    n_rows, n_columns = frame.shape
    _require_size(n_rows, n_columns)
    names = [_label(label) for label in frame.columns]
    seen: set[str] = set()
    for name, _ in names:
        if name in seen:
            raise SampleUnusable(
                f"The sample has more than one column {name!r}: requests carry columns by name, so "
                "give each its own.",
                column=name,
            )
        seen.add(name)
    columns = tuple(
        describe_column(frame.iloc[:, j], name, label) for j, (name, label) in enumerate(names)
    )
    return InputSpec(
        container="dataframe",
        shape=(None, n_columns),
        columns=columns,
        n_sample_rows=n_rows,
        order=_frame_order(frame, columns),
    )


def _infer_series(series: Any) -> InputSpec:
    _require_size(len(series), 1)
    name, label = _label(0 if series.name is None else series.name)
    return InputSpec(
        container="series",
        shape=(None,),
        columns=(describe_column(series, name, label),),
        n_sample_rows=len(series),
    )


def _infer_sparse(matrix: Any, feature_names: Sequence[str] | None) -> InputSpec:
    if matrix.ndim != 2:
        raise SampleUnusable("A sparse sample must have two dimensions.")
    n_rows, n_columns = matrix.shape
    _require_size(n_rows, n_columns)
    if matrix.dtype.kind not in "fiub":
        raise SampleUnusable(
            f"The sparse sample has the dtype {matrix.dtype}; convert it to numbers."
        )
    stored = matrix.tocsr()
    whole = describe_column(stored.data, "x")
    if n_columns > MAX_NAMED_FEATURES:
        columns: tuple[Column, ...] = (whole,)
    else:
        unknown = np.isnan(stored.data) if stored.dtype.kind == "f" else np.zeros(0, dtype=int)
        nullable = set(stored.indices[unknown].tolist()) if unknown.any() else set()
        columns = tuple(
            Column(name=name, kind=whole.kind, dtype=whole.dtype, nullable=j in nullable)
            for j, name in enumerate(_feature_names(n_columns, feature_names))
        )
    return InputSpec(
        container="sparse",
        shape=(None, n_columns),
        columns=columns,
        dtype=whole.dtype,
        sparse_class=type(matrix).__name__,
        n_sample_rows=n_rows,
    )


def _infer_array(array: np.ndarray[Any, Any], feature_names: Sequence[str] | None) -> InputSpec:
    if array.ndim == 0:
        raise SampleUnusable("The sample is a single value; pass an array with one row a record.")
    if array.dtype.names is not None:
        raise SampleUnusable(
            "The sample is a structured array; pass pandas.DataFrame(sample) instead."
        )
    _require_size(len(array), int(np.prod(array.shape[1:])))
    if array.ndim == 2 and array.shape[1] <= MAX_NAMED_FEATURES:
        names = _feature_names(array.shape[1], feature_names)
        columns = tuple(describe_column(array[:, j], name) for j, name in enumerate(names))
    else:
        columns = (describe_column(array.ravel(), "x0" if array.ndim == 1 else "x"),)
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    return InputSpec(
        container="ndarray",
        shape=(None, *array.shape[1:]),
        columns=columns,
        dtype=columns[0].dtype,
        n_sample_rows=len(array),
        order="F" if fortran else "C",
    )


def _infer_items(items: Sequence[Any]) -> InputSpec:
    _require_size(len(items), 1)
    objects = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        objects[i] = item
    return InputSpec(
        container="list",
        shape=(None,),
        columns=(describe_column(objects, "x0"),),
        n_sample_rows=len(items),
    )


def _require_size(n_rows: int, n_values: int) -> None:
    if n_rows == 0:
        raise SampleUnusable("The sample has no rows; pass at least one.")
    if n_values == 0:
        raise SampleUnusable("The sample has no columns; pass at least one.")


def _label(label: Any) -> tuple[str, int | None]:
    if isinstance(label, str):
        return str(label), None
    if isinstance(label, (int, np.integer)) and not isinstance(label, bool):
        return str(label), int(label)
    raise SampleUnusable(
        f"The column label {label!r} is no string and no integer: requests carry columns by name, "
        "so rename it, such as with sample.columns = [str(c) for c in sample.columns].",
        column=str(label),
    )


def _feature_names(n_columns: int, feature_names: Sequence[str] | None) -> list[str]:
    if feature_names is None:
        return [f"x{j}" for j in range(n_columns)]
    names = [str(name) for name in feature_names]
    if len(names) != n_columns:
        raise SampleUnusable(
            f"The model was fitted on {len(names)} features and the sample has {n_columns}; pass a "
            "sample as the model's method takes it.",
            expected=len(names),
            got=n_columns,
        )
    if len(set(names)) != len(names):
        return [f"x{j}" for j in range(n_columns)]
    return names


def _frame_order(frame: Any, columns: Sequence[Column]) -> Literal["C", "F"]:
    block = main_block(columns)
    if not block or frame.shape[1] - len(block) > _MAX_AROUND_BLOCK:
        return "F"
    flags = frame.iloc[:, block].to_numpy().flags
    return "C" if flags.c_contiguous and not flags.f_contiguous else "F"
