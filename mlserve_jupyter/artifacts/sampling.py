"""In a kernel: the rows by which a deploy is verified, and the request that would carry them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mlserve_jupyter.api.signature import Column, InputSpec
from mlserve_jupyter.artifacts.columns import (
    bare_array,
    describe_column,
    json_column,
    missing_mask,
    null_for_nan,
)
from mlserve_jupyter.artifacts.wire import (
    NotRepresentable,
    array_values,
    dump_json,
    sparse_values,
)
from mlserve_jupyter.errors import SampleUnusable

_CATEGORY_ROWS = 8


def choose_rows(sample: Any, spec: InputSpec, max_rows: int = 64) -> Any:
    """Choose rows that show the range of the sample.

    For each column, as far as ``max_rows`` goes: a row with a missing value, those with the
    smallest and the largest (or the shortest and the longest) value, and rows of the first
    categories; then rows spread evenly over the rest.

    Parameters
    ----------
    sample
        As :func:`infer_inputs` took it, with one row a record.
    spec
        Its signature.
    max_rows
        At most so many rows.

    Returns
    -------
    same type as ``sample``
        Its rows in their own order, lying in memory as a worker will rebuild them.
    """
    n_rows = sample.shape[0] if hasattr(sample, "shape") else len(sample)
    chosen = list(range(n_rows))
    if n_rows > max_rows:
        chosen = _choose(sample, spec, n_rows, max_rows)
    if isinstance(sample, (list, tuple)):
        return [sample[i] for i in chosen]
    if hasattr(sample, "iloc"):
        return sample.iloc[chosen]
    if spec.container == "sparse":
        return sample.tocsr()[chosen].asformat(sample.format)
    return np.asarray(sample[chosen], order=spec.order)


def encode_body(sample: Any, spec: InputSpec | None = None) -> bytes:
    """Write a sample as the JSON predict body that decodes to the same object, bit for bit.

    Parameters
    ----------
    sample
        As :func:`infer_inputs` took it.
    spec
        Its signature; by default the sample's own.

    Raises
    ------
    SampleUnusable
        When JSON has no form for it.
    """
    if spec is None:
        from mlserve_jupyter.artifacts.infer import infer_inputs

        spec = infer_inputs(sample)
    try:
        if spec.container == "dataframe":
            return _dump({"dataframe_split": _split(sample, spec)})
        return _dump({"instances": _instances(sample, spec)})
    except NotRepresentable as error:
        raise SampleUnusable(f"The sample holds {error}; a JSON request cannot carry it.") from None


def as_array(items: Sequence[Any]) -> np.ndarray[Any, Any] | None:
    """Read a list of equally long rows of numbers as estimators do; None for any other list."""
    if not items or not all(isinstance(item, (list, tuple, np.ndarray)) for item in items):
        return None
    try:
        array = np.asarray(items)
    except ValueError:
        return None
    return array if array.ndim >= 2 and array.dtype.kind in "fiub" else None


def _split(frame: Any, spec: InputSpec) -> dict[str, Any]:
    known = {column.name: column for column in spec.columns}
    names = [str(label) for label in frame.columns]
    columns = []
    for j, name in enumerate(names):
        values = frame.iloc[:, j]
        columns.append(json_column(values, known.get(name) or describe_column(values, name)))
    return {"columns": names, "data": list(zip(*columns, strict=True))}


def _instances(sample: Any, spec: InputSpec) -> list[Any]:
    if spec.container == "sparse":
        rows = sparse_values(sample)
        for row in rows:
            row["values"] = null_for_nan(row["values"])
        return list(rows)
    if spec.container == "list":
        objects = np.empty(len(sample), dtype=object)
        for i, item in enumerate(sample):
            objects[i] = item
        return json_column(objects, spec.columns[0])
    array = np.asarray(sample) if spec.container == "ndarray" else sample
    if len(spec.shape) == 1:
        return json_column(array, spec.columns[0])
    if array.dtype != object:
        listed = array_values(array)
        return null_for_nan(listed) if array.dtype.kind == "f" else listed
    if len(spec.columns) == array.shape[1] and array.ndim == 2:
        columns = [json_column(array[:, j], column) for j, column in enumerate(spec.columns)]
        return [list(row) for row in zip(*columns, strict=True)]
    return _nest(json_column(array.ravel(), spec.columns[0]), array.shape)


def _nest(values: list[Any], shape: tuple[int, ...]) -> list[Any]:
    nested = values
    for size in reversed(shape[1:]):
        nested = [nested[start : start + size] for start in range(0, len(nested), size)]
    return nested


def _dump(body: dict[str, Any]) -> bytes:
    import msgspec

    try:
        return msgspec.json.encode(body)
    except (OverflowError, UnicodeEncodeError):
        # Integers beyond 64 bits, which JSON has and msgspec's encoder has not.
        return dump_json(body)


def _choose(sample: Any, spec: InputSpec, n_rows: int, max_rows: int) -> list[int]:
    chosen: dict[int, None] = {}
    spread = max(max_rows // 4, 1)
    for row in _telling_rows(sample, spec):
        if len(chosen) >= max_rows - spread:
            break
        chosen[row] = None
    for row in np.linspace(0, n_rows - 1, max_rows).astype(int).tolist():
        if len(chosen) >= max_rows:
            break
        chosen[row] = None
    return sorted(chosen)


def _telling_rows(sample: Any, spec: InputSpec) -> Iterator[int]:
    """Give rows with missing values first, then those at the ends of each column's range."""
    if spec.container == "sparse":
        yield from _sparse_ends(sample)
        return
    for values, column in _columns(sample, spec):
        if column.nullable:
            missing = missing_mask(values)
            yield int(missing.argmax())
            yield int(missing.argmin())
    for values, column in _columns(sample, spec):
        key = _sort_key(values, column)
        yield int(key.argmin())
        yield int(key.argmax())
        if column.kind in ("category", "boolean"):
            yield from np.unique(key, return_index=True)[1][:_CATEGORY_ROWS].tolist()


def _columns(sample: Any, spec: InputSpec) -> Iterator[tuple[Any, Column]]:
    if spec.container == "dataframe":
        for j, column in enumerate(spec.columns):
            yield sample.iloc[:, j], column
    elif spec.container == "list":
        yield np.array([*map(_length, sample), None], dtype=object)[:-1], spec.columns[0]
    elif spec.container == "series" or len(spec.shape) == 1:
        yield sample, spec.columns[0]
    else:
        flat = np.asarray(sample).reshape(len(sample), -1)
        columns = spec.columns if len(spec.columns) == flat.shape[1] else spec.columns[:1]
        for j, column in enumerate(columns):
            yield flat[:, j], column


def _sort_key(values: Any, column: Column) -> np.ndarray[Any, Any]:
    """Give numbers of shape ``(n,)`` by whose order the ends of a column's range are found."""
    array = bare_array(values)
    if hasattr(array, "codes"):
        return np.asarray(array.codes, dtype=float)
    if column.kind in ("string", "any", "category") or array.dtype == object:
        return np.array([_length(value) for value in array], dtype=float)
    missing = missing_mask(array)
    present = np.zeros(len(array))
    kept = array[~missing]
    if column.kind in ("datetime", "timedelta"):
        kept = np.asarray(kept).astype("M8[ns]" if column.kind == "datetime" else "m8[ns]")
        kept = kept.view(np.int64)
    present[~missing] = np.asarray(kept, dtype=float)
    if missing.any() and not missing.all():
        present[missing] = present[~missing][0]
    return present


def _length(value: Any) -> float:
    if isinstance(value, (int, float)):
        return float(value) if value == value else 0.0
    return float(len(value)) if hasattr(value, "__len__") else 0.0


def _sparse_ends(matrix: Any) -> Iterator[int]:
    rows = matrix.tocsr()
    filled = np.diff(rows.indptr)
    yield int(filled.argmin())
    yield int(filled.argmax())
    if rows.nnz:
        owners = np.repeat(np.arange(rows.shape[0]), filled)
        if rows.dtype.kind == "f" and np.isnan(rows.data).any():
            yield int(owners[np.isnan(rows.data).argmax()])
        yield int(owners[rows.data.argmin()])
        yield int(owners[rows.data.argmax()])
