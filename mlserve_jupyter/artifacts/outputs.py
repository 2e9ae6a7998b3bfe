"""In a worker: from what a method gave to the JSON of ``predictions``, and what shape it has.

The walk of a prediction ends here; in a notebook, :func:`decode_predictions` walks it back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlserve_jupyter.api.signature import Column, OutputSpec
from mlserve_jupyter.artifacts.arrays import NON_FINITE, build_array, build_elements
from mlserve_jupyter.artifacts.dtypes import dtype_name, kind_of
from mlserve_jupyter.artifacts.wire import (
    NotRepresentable,
    container_value,
    dump_json,
    is_sparse,
    scalar_value,
)
from mlserve_jupyter.errors import ModelFailed, SampleUnusable


def encode_output(result: Any) -> bytes:
    """Encode what a method gave (anything, hence ``Any``) as the JSON value of ``predictions``.

    Raises
    ------
    ModelFailed
        When it, or a part of it, has no JSON form; the message names its type.
    """
    try:
        if isinstance(result, np.ndarray) and result.ndim:
            return dump_json(container_value(result))
        return dump_json(scalar_value(result))
    except NotRepresentable as error:
        raise ModelFailed(
            f"The model answered with {error}, which has no form in JSON. Wrap the model so that "
            "it returns arrays, DataFrames, sparse matrices, lists, dicts, numbers or strings.",
            type=str(error),
        ) from None
    except RecursionError:
        raise ModelFailed("The model answered with a value that contains itself.") from None


def describe_output(result: Any, n_rows: int) -> OutputSpec:
    """Describe what a method gave (anything, hence ``Any``) on ``n_rows`` rows."""
    if is_sparse(result):
        return OutputSpec(
            container="sparse",
            dtype=str(result.dtype),
            shape=_free_rows(result.shape, n_rows),
            by_row=result.ndim == 2 and result.shape[0] == n_rows,
            sparse_class=type(result).__name__,
        )
    if isinstance(result, np.ndarray) and result.ndim:
        return OutputSpec(
            container="ndarray",
            dtype=dtype_name(result.dtype),
            shape=_free_rows(result.shape, n_rows),
            by_row=result.shape[0] == n_rows,
        )
    if _is_frame(result):
        return OutputSpec(
            container="dataframe",
            shape=_free_rows(result.shape, n_rows),
            columns=tuple(str(label) for label in result.columns),
            parts=tuple(describe_output(result.iloc[:, j], n_rows) for j in range(result.shape[1])),
            by_row=len(result) == n_rows,
        )
    if hasattr(result, "iloc") and hasattr(result, "dtype"):
        return OutputSpec(
            container="series",
            dtype=dtype_name(result.dtype),
            shape=_free_rows(result.shape, n_rows),
            by_row=len(result) == n_rows,
            label=_label(result.name),
            category=_category(result),
        )
    if isinstance(result, (list, tuple)):
        return _describe_sequence(result, n_rows)
    if isinstance(result, Mapping):
        return OutputSpec(container="dict", by_row=False)
    return OutputSpec(container="scalar", dtype=type(result).__name__, by_row=False)


def split_output(result: Any, sizes: Sequence[int], spec: OutputSpec | None = None) -> list[Any]:
    """Split what a method gave on a joined batch back into its calls.

    Parameters
    ----------
    result
        Of ``sum(sizes)`` rows (any type, hence ``Any``).
    sizes
        Rows of each call, in order.
    spec
        What the method gave on the sample, where it is known.

    Raises
    ------
    ValueError
        When the result has no such rows.
    """
    if len(sizes) == 1:
        return [result]
    n_rows = sum(sizes)
    found = describe_output(result, n_rows)
    parts, by_row = found.parts, found.by_row
    if spec is not None and isinstance(result, (list, tuple)) and spec.by_row:
        parts, by_row = spec.parts, True
    if not by_row or (not parts and _n_rows_of(result) != n_rows):
        raise ValueError(f"a {found.container} without {n_rows} rows of its own")
    if parts and found.container != "dataframe":
        members = [split_output(member, sizes) for member in result]
        return [type(result)(part) for part in zip(*members, strict=True)]
    if found.container == "sparse":
        rows = result.tocsr()
    else:
        rows = result.iloc if found.container in ("dataframe", "series") else result
    ends = np.cumsum(sizes).tolist()
    pieces = [rows[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    if found.container == "sparse":
        return [piece.asformat(_format_of(found)) for piece in pieces]
    return pieces


def decode_predictions(value: Any, spec: OutputSpec) -> Any:
    """Rebuild what the method gives in the notebook from the value of ``predictions``.

    Parameters
    ----------
    value
        Parsed JSON.
    spec
        What the method gave on the sample.

    Returns
    -------
    numpy.ndarray, pandas.DataFrame, pandas.Series, scipy sparse, or Python containers
        With the notebook's dtype (hence ``Any``), and without its index, which no answer carries.
    """
    if spec.container == "ndarray":
        return _decode_array(value, spec)
    if spec.container == "series":
        return _decode_series(value, spec)
    if spec.container == "dataframe":
        return _decode_frame(value, spec)
    if spec.container == "sparse":
        return _decode_sparse(value, spec)
    if spec.parts and len(spec.parts) == len(value):
        members = [decode_predictions(v, part) for v, part in zip(value, spec.parts, strict=True)]
        return tuple(members) if spec.container == "tuple" else members
    if spec.container == "tuple":
        return tuple(value)
    if spec.container == "scalar" and (spec.dtype or "").startswith("float"):
        return NON_FINITE[value] if isinstance(value, str) else value
    return value


def _describe_sequence(result: Sequence[Any], n_rows: int) -> OutputSpec:
    container = "tuple" if isinstance(result, tuple) else "list"
    if result and all(_is_table(member) for member in result):
        parts = tuple(describe_output(member, n_rows) for member in result)
        by_row = all(part.by_row for part in parts)
        if by_row and len(result) == n_rows and container == "list":
            # As many arrays as rows: each might be one row's own, so such calls stay apart.
            return OutputSpec(container=container, parts=parts, by_row=False)
        if by_row or container == "tuple":
            return OutputSpec(container=container, parts=parts, by_row=by_row)
    return OutputSpec(
        container=container,
        shape=_free_rows((len(result),), n_rows),
        by_row=container == "list" and len(result) == n_rows,
    )


def _n_rows_of(result: Any) -> int:
    return int(result.shape[0]) if hasattr(result, "shape") else len(result)


def _is_table(value: Any) -> bool:
    return is_sparse(value) or (
        not isinstance(value, np.generic)
        and hasattr(value, "shape")
        and hasattr(value, "dtype" if not _is_frame(value) else "iloc")
        and len(value.shape) > 0
    )


def _is_frame(value: Any) -> bool:
    return hasattr(value, "iloc") and hasattr(value, "columns")


def _free_rows(shape: Sequence[int], n_rows: int) -> tuple[int | None, ...]:
    if not shape or shape[0] != n_rows:
        return tuple(shape)
    return (None, *shape[1:])


def _label(name: Any) -> str | int | None:
    if isinstance(name, str):
        return str(name)
    is_integer = isinstance(name, (int, np.integer)) and not isinstance(name, bool)
    return int(name) if is_integer else None


def _category(series: Any) -> Column | None:
    """Describe the categories of a Series (hence ``Any``), where it has some that JSON can hold."""
    if str(series.dtype) != "category":
        return None
    from mlserve_jupyter.artifacts.columns import describe_column

    try:
        return describe_column(series, "")
    except SampleUnusable:
        return None


def _format_of(spec: OutputSpec) -> str:
    return (spec.sparse_class or "csr_matrix").partition("_")[0]


def _element(spec: OutputSpec) -> Column:
    dtype = spec.dtype or "object"
    return Column(name="", kind=kind_of(dtype), dtype=dtype, nullable=True)


def _decode_array(value: Any, spec: OutputSpec) -> np.ndarray[Any, Any]:
    shape = (len(value), *spec.shape[1:])
    if spec.dtype == "object" or None in shape or spec.shape[:1] == ():
        flat = np.empty(len(value), dtype=object)
        for i, item in enumerate(value):
            flat[i] = item
        if len(shape) == 1 or not len(value):
            return flat
        return np.array([list(row) for row in value], dtype=object)
    sizes = tuple(size for size in shape if size is not None)
    return build_elements(value, sizes, _element(spec))


def _decode_series(value: Any, spec: OutputSpec) -> Any:
    import pandas

    if spec.dtype == "category":
        known = spec.category
        if known is None or not {each for each in value if each is not None} <= {
            *(known.categories or ())
        }:
            return pandas.Series(value, dtype="category", name=spec.label)
        return pandas.Series(build_array(value, known), name=spec.label)
    array = build_array(value, _element(spec))
    return pandas.Series(array, dtype=array.dtype, name=spec.label)


def _decode_frame(value: Any, spec: OutputSpec) -> Any:
    import pandas

    columns = list(zip(*value, strict=True)) or [() for _ in spec.parts]
    series = {
        j: _decode_series(list(values), part)
        for j, (values, part) in enumerate(zip(columns, spec.parts, strict=True))
    }
    frame = pandas.DataFrame(series, index=pandas.RangeIndex(len(value)))
    names = spec.columns or ()
    labels = [part.label for part in spec.parts]
    frame.columns = pandas.Index(names if len(labels) != len(names) or None in labels else labels)
    return frame


def _decode_sparse(value: Any, spec: OutputSpec) -> Any:
    from scipy import sparse

    family = sparse.csr_array if (spec.sparse_class or "").endswith("_array") else sparse.csr_matrix
    data = [item for row in value for item in row["values"]]
    indices = [index for row in value for index in row["indices"]]
    pointers = np.cumsum([0, *(len(row["indices"]) for row in value)])
    n_columns = value[0]["size"] if value else spec.shape[1]
    matrix = family(
        (
            build_elements(data, (len(data),), _element(spec)),
            np.array(indices, dtype=np.int32),
            pointers.astype(np.int32),
        ),
        shape=(len(value), n_columns),
    )
    return matrix.asformat(_format_of(spec))
