"""In a kernel: what one column of the sample holds, and its values in the JSON form of an input."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from mlserve_jupyter.api.iso8601 import NS_PER_UNIT
from mlserve_jupyter.api.signature import Column, Kind
from mlserve_jupyter.artifacts.arrays import string_dtype
from mlserve_jupyter.artifacts.dtypes import dtype_name, kind_of
from mlserve_jupyter.artifacts.wire import (
    NotRepresentable,
    array_values,
    scalar_value,
    to_tagged,
)
from mlserve_jupyter.errors import SampleUnusable

_JSON_KINDS: dict[str, Kind] = {
    "str": "string",
    "bool": "boolean",
    "int": "integer",
    "float": "float",
}
_ITEM_KINDS: dict[str, Kind] = {
    "Decimal": "string",
    "date": "string",
    "time": "string",
    "datetime": "datetime",
    "Timestamp": "datetime",
    "timedelta": "timedelta",
    "Timedelta": "timedelta",
    "bytes": "any",
}


def describe_column(values: Any, name: str, label: int | None = None) -> Column:
    """Describe a column from all its values.

    Parameters
    ----------
    values
        A numpy array, a pandas Series or a pandas extension array of shape ``(n,)`` (hence
        ``Any``).
    name, label
        See :class:`Column`.

    Raises
    ------
    SampleUnusable
        When JSON has no form for its values.
    """
    column = Column(name=name, kind="any", dtype="object", label=label)
    array = bare_array(values)
    dtype = array.dtype
    if array.dtype != values.dtype:
        # Sparse columns are described by what they are filled up to.
        name = dtype_name(values.dtype)
        _require_rebuildable(values.dtype, replace(column, dtype=name))
        return replace(describe_column(array, column.name, label), dtype=name)
    if not isinstance(dtype, np.dtype):
        return _describe_extension(array, column)
    if dtype.kind == "O":
        return _describe_objects(array, column)
    column = replace(column, dtype=dtype_name(dtype), kind=kind_of(dtype_name(dtype)))
    if dtype.kind in "mM":
        unit, step = np.datetime_data(dtype)
        if unit not in NS_PER_UNIT or step != 1:
            refuse(column, "convert it to datetime64[ns] or timedelta64[ns]")
        if dtype.kind == "M":
            _require_four_digit_years(array, column)
    elif dtype.kind == "f" and dtype.itemsize > 8:
        refuse(column, "convert it to float64")
    elif dtype.kind == "T" and getattr(dtype, "na_object", None) is not None:
        refuse(column, "convert it to object")
    elif dtype.kind not in "fiubUSTM":
        refuse(column, "pass its fields or its parts as columns of their own")
    return _with_range(array, column)


def json_column(values: Any, column: Column) -> list[Any]:
    """Turn a column into the values that a predict body carries; None is a missing one.

    Raises
    ------
    SampleUnusable
        When JSON has no form for one of them.
    """
    array = bare_array(values)
    try:
        if array.dtype == object:
            return [_json_object(value, column) for value in array]
        listed = array_values(array)
    except NotRepresentable as error:
        raise SampleUnusable(f"Column {column.name!r} holds {error}.", column=column.name) from None
    if isinstance(array.dtype, np.dtype) and array.dtype.kind == "f":
        return null_for_nan(listed)
    return listed


def null_for_nan(values: list[Any]) -> list[Any]:
    """Write NaN as null, which decoders read fastest, in nested lists of floats."""
    if values and isinstance(values[0], list):
        return [null_for_nan(row) for row in values]
    return [None if value == "NaN" else value for value in values]


def bare_array(values: Any) -> Any:
    """Take the array out of a Series: numpy's where it is one, else pandas' own."""
    if isinstance(values.dtype, np.dtype):
        return np.asarray(values)
    array = values.array if hasattr(values, "iloc") else values
    if hasattr(array.dtype, "subtype") and hasattr(array.dtype, "fill_value"):
        return np.asarray(array)
    return array


def missing_mask(values: Any) -> np.ndarray[Any, Any]:
    """Tell which values of a column are missing; of shape ``(n,)``."""
    array = bare_array(values)
    if not isinstance(array.dtype, np.dtype):
        return np.asarray(array.isna())
    if array.dtype.kind == "f":
        return np.asarray(np.isnan(array))
    if array.dtype.kind in "mM":
        return np.asarray(np.isnat(array))
    if array.dtype.kind == "O":
        return np.array([_marker(value) is not None for value in array], dtype=bool)
    return np.zeros(len(array), dtype=bool)


def refuse(column: Column, advice: str) -> NoReturn:
    """Refuse a column by its dtype.

    Raises
    ------
    SampleUnusable
        Always.
    """
    raise SampleUnusable(
        f"Column {column.name!r} has the dtype {column.dtype}, which a JSON request cannot carry: "
        f"{advice}.",
        column=column.name,
        dtype=column.dtype,
    )


def _describe_extension(array: Any, column: Column) -> Column:
    pandas = sys.modules["pandas"]
    dtype = array.dtype
    name = dtype_name(dtype)
    column = replace(column, dtype=name, kind=kind_of(name), nullable=bool(array.isna().any()))
    if isinstance(dtype, pandas.CategoricalDtype):
        return _describe_categories(array, column)
    _require_rebuildable(dtype, column)
    return _with_range(array, column)


def _require_rebuildable(dtype: Any, column: Column) -> None:
    pandas = sys.modules["pandas"]
    rebuilt = None
    if isinstance(dtype, pandas.StringDtype):
        rebuilt = string_dtype(column.dtype)
    elif kind_of(column.dtype) != "any":
        with contextlib.suppress(TypeError, ValueError):
            rebuilt = pandas.api.types.pandas_dtype(column.dtype)
    if rebuilt != dtype:
        refuse(column, "convert it to numbers, strings or datetimes")


def _describe_categories(array: Any, column: Column) -> Column:
    pandas = sys.modules["pandas"]
    categories = array.categories
    inner = describe_column(pandas.Series(categories), column.name)
    plain = inner.item is None and (inner.kind != "any" or not _has_containers(categories))
    if not plain or isinstance(categories.dtype, pandas.CategoricalDtype):
        refuse(replace(column, dtype=f"category of {inner.item}"), "make its categories strings")
    return replace(
        column,
        kind="category",
        dtype="category",
        categories=tuple(json_column(categories.array, inner)),
        categories_dtype=dtype_name(categories.dtype),
        ordered=bool(array.ordered),
    )


def _has_containers(categories: Any) -> bool:
    return any(not isinstance(value, (str, int, float, bool)) for value in categories)


def _describe_objects(array: np.ndarray[Any, Any], column: Column) -> Column:
    markers: set[str] = set()
    families: set[str] = set()
    for value in array:
        marker = _marker(value)
        if marker is None:
            families.add(_family(value))
        else:
            markers.add(marker)
    missing = markers.pop() if len(markers) == 1 else None
    column = replace(column, nullable=missing is not None or bool(markers), missing=missing)
    family = families.pop() if len(families) == 1 else ""
    several = bool(markers)
    if not several and family in _JSON_KINDS:
        return _with_range(array, replace(column, kind=_JSON_KINDS[family]))
    if not several and family in _ITEM_KINDS:
        return replace(column, kind=_ITEM_KINDS[family], item=family)
    json_column(array, column)
    return column


def _family(value: Any) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    return type(value).__name__


def _marker(value: Any) -> str | None:
    """Name the object that stands for a missing value; None where it is a value."""
    if value is None:
        return "None"
    if isinstance(value, float):
        return "nan" if value != value else None
    pandas = sys.modules.get("pandas")
    if pandas is not None and value is pandas.NA:
        return "NA"
    if pandas is not None and value is pandas.NaT:
        return "NaT"
    return None


def _json_object(value: Any, column: Column) -> Any:
    marker = _marker(value)
    if column.kind == "any" and column.item is None:
        return None if marker is not None and marker == column.missing else to_tagged(value)
    if marker is not None:
        return None
    return scalar_value(value)


def _with_range(array: Any, column: Column) -> Column:
    missing = missing_mask(array)
    column = replace(column, nullable=column.nullable or bool(missing.any()))
    if column.kind not in ("float", "integer", "datetime", "timedelta"):
        return column
    present: Any = array[~missing]
    if len(present) == 0:
        return column
    if column.dtype == "object":
        low, high = min(present), max(present)
    else:
        low, high = present.min(), present.max()
    return replace(column, minimum=scalar_value(low), maximum=scalar_value(high))


def _require_four_digit_years(array: np.ndarray[Any, Any], column: Column) -> None:
    present: Sequence[Any] = array[~np.isnat(array)]
    if len(present) == 0:
        return
    years = np.asarray(present).astype("datetime64[Y]").astype(np.int64) + 1970
    if years.min() < 1 or years.max() > 9999:
        refuse(column, "years must be from 1 to 9999")
