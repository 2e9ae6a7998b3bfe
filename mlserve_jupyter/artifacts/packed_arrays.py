"""In a worker: arrays from packed values, which are mapped where they lie as far as that goes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from mlserve_jupyter.api.iso8601 import unit_of
from mlserve_jupyter.api.signature import Column, Packed
from mlserve_jupyter.artifacts.arrays import (
    NAT,
    build_categories,
    datetimes_of,
    timedeltas_of,
)

_EXTENSION = re.compile(r"(U?Int|Float)(8|16|32|64)|boolean")


def array_of(values: Packed, column: Column) -> Any:
    """Build the array of a column, as :func:`.arrays.build_array` does of a list.

    Returns
    -------
    numpy.ndarray or pandas.api.extensions.ExtensionArray
        Of shape ``(n,)``.
    """
    data = np.frombuffer(values.data, dtype=values.code)
    missing = None if values.missing is None else np.frombuffer(values.missing, dtype=bool)
    if column.dtype == "category":
        import pandas

        dtype = pandas.CategoricalDtype(build_categories(column), ordered=column.ordered)
        return pandas.Categorical.from_codes(data, dtype=dtype)
    if _EXTENSION.fullmatch(column.dtype):
        return _masked_array(data, missing, column)
    if column.kind in ("datetime", "timedelta"):
        counts = np.array(data, dtype=np.int64)
        if missing is not None:
            counts[missing] = NAT
        build = datetimes_of if column.kind == "datetime" else timedeltas_of
        return build(counts, column.dtype, unit_of(column.dtype))
    return elements_of(values, data.shape, column)


def elements_of(values: Packed, shape: tuple[int, ...], column: Column) -> np.ndarray[Any, Any]:
    """Build an ndarray of any shape whose elements one column describes."""
    data = np.frombuffer(values.data, dtype=values.code)
    return data.astype(column.dtype, copy=False).reshape(shape, order=values.order)


def _masked_array(
    data: np.ndarray[Any, Any], missing: np.ndarray[Any, Any] | None, column: Column
) -> Any:
    import pandas

    mask = np.zeros(len(data), dtype=bool) if missing is None else missing
    held = data.astype(column.dtype.lower().replace("boolean", "bool"), copy=False)
    if missing is not None:
        held = np.where(missing, np.zeros(1, held.dtype), held)
    if column.dtype == "boolean":
        return pandas.arrays.BooleanArray(held, mask)
    if column.kind == "float":
        return pandas.arrays.FloatingArray(held, mask)
    return pandas.arrays.IntegerArray(held, mask)
