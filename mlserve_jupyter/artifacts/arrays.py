"""From JSON values to an array of one dtype, bit for bit: numpy's and pandas' dtypes alike.

Runs in workers, which have the standard library, numpy, and what the model brings.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from importlib import import_module
from typing import Any

import numpy as np

from mlserve_jupyter.api.iso8601 import (
    NS_PER_UNIT,
    is_aware,
    parse_datetime_ns,
    parse_duration_ns,
    unit_of,
)
from mlserve_jupyter.api.signature import Column

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

NAT = np.iinfo(np.int64).min
"""The count that stands for a missing datetime or timedelta."""

_NUMPY_TEXT = re.compile(r"[<>|=]?([US])(\d+)")
_PANDAS_STRING = re.compile(r"str(ing)?(\[(python|pyarrow)\])?")
_EXTENSION = re.compile(r"(U?Int|Float)(8|16|32|64)|boolean")


def build_array(values: Sequence[Any], column: Column) -> Any:
    """Build the array of a column.

    Parameters
    ----------
    values
        JSON values (hence ``Any``) of shape ``(n,)``; None is a missing value. Floats may be
        Python's own non-finite ones, or the strings that stand for them.
    column
        Says which dtype.

    Returns
    -------
    numpy.ndarray or pandas.api.extensions.ExtensionArray
        Of shape ``(n,)``.
    """
    dtype = column.dtype
    if dtype == "object":
        return _object_array(values, column)
    if dtype == "category":
        return _categorical(values, column)
    text = _NUMPY_TEXT.fullmatch(dtype)
    if text is not None:
        return _text_array(values, dtype, text.group(1), int(text.group(2)))
    if dtype.startswith("StringDType"):
        return np.array(values, dtype=np.dtypes.StringDType())
    if _PANDAS_STRING.fullmatch(dtype):
        return _pandas().array(list(values), dtype=string_dtype(dtype))
    if dtype.endswith("[pyarrow]"):
        return _arrow_array(values, column)
    if dtype.startswith("Sparse["):
        pandas = _pandas()
        sparse_dtype = pandas.api.types.pandas_dtype(dtype)
        return pandas.arrays.SparseArray(
            np.array(_floats(values, column.kind), dtype=sparse_dtype.subtype), dtype=sparse_dtype
        )
    if _EXTENSION.fullmatch(dtype):
        return _masked_array(values, column)
    if column.kind == "datetime":
        unit = unit_of(dtype)
        return datetimes_of(_epochs(values, unit), dtype, unit)
    if column.kind == "timedelta":
        unit = unit_of(dtype)
        return timedeltas_of(_durations(values, unit), dtype, unit)
    if column.kind == "any":
        return np.array([_complex(value) for value in values], dtype=dtype)
    return np.array(_floats(values, column.kind), dtype=dtype)


def build_elements(values: Any, shape: tuple[int, ...], column: Column) -> np.ndarray[Any, Any]:
    """Build an ndarray of any shape whose elements one column describes.

    Parameters
    ----------
    values
        Nested lists of JSON values.
    shape
        All axes, the rows included.
    """
    if column.dtype != "object" and column.kind in ("float", "integer", "boolean"):
        try:
            return np.array(values, dtype=column.dtype).reshape(shape)
        except ValueError:
            # Only a missing value or a non-finite one as a string gets here.
            pass
    flat: Any = values
    for _ in shape[1:]:
        flat = [item for row in flat for item in row]
    built: np.ndarray[Any, Any] = np.asarray(build_array(flat, column)).reshape(shape)
    return built


def from_tagged(value: Any, missing: Any = None) -> Any:
    """Undo the tags that :func:`mlserve_jupyter.artifacts.wire.to_tagged` puts into free values."""
    if value is None:
        return missing
    if isinstance(value, list):
        return [from_tagged(item) for item in value]
    if isinstance(value, dict):
        if len(value) == 1:
            ((key, inner),) = value.items()
            if key == "float" and inner in NON_FINITE:
                return NON_FINITE[inner]
            if key == "base64" and isinstance(inner, str):
                return base64.b64decode(inner)
            if key == "missing" and inner in ("NA", "NaT"):
                return missing_object(inner)
        return {key: from_tagged(item) for key, item in value.items()}
    return value


def missing_object(name: str | None) -> Any:
    """Return the object that stands for a missing value: None, nan, pandas' NA or NaT."""
    if name == "nan":
        return math.nan
    if name == "NA":
        return _pandas().NA
    if name == "NaT":
        return _pandas().NaT
    return None


def fill_objects(items: Sequence[Any]) -> np.ndarray[Any, Any]:
    """Put items of any type, lists included, into an object array of shape ``(n,)``."""
    filled = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        filled[i] = item
    return filled


def _object_array(values: Sequence[Any], column: Column) -> np.ndarray[Any, Any]:
    missing = missing_object(column.missing)
    if column.item in _ITEMS:
        read = _ITEMS[column.item]
        return fill_objects([missing if v is None else read(v) for v in values])
    if column.kind == "any":
        return fill_objects([from_tagged(value, missing) for value in values])
    if column.kind == "float":
        return fill_objects([missing if v is None else NON_FINITE.get(v, v) for v in values])
    return fill_objects([missing if value is None else value for value in values])


def _text_array(values: Sequence[Any], dtype: str, code: str, width: int) -> np.ndarray[Any, Any]:
    items: Sequence[Any] = values
    if code == "S":
        items = [base64.b64decode(value["base64"]) for value in values]
    # A longer text than the sample's longest must not be cut off.
    width = max([width, *map(len, items)]) if items else width
    order = dtype[0] if dtype[0] in "<>" else ""
    return np.array(items, dtype=f"{order}{code}{width}")


def string_dtype(name: str) -> Any:
    """Build pandas' string dtype from the name that :func:`dtype_name` gave it."""
    pandas = _pandas()
    family, _, storage = name.partition("[")
    backend = storage.rstrip("]") or None
    if family == "string":
        return pandas.StringDtype(backend)
    return pandas.StringDtype(backend, na_value=np.nan)


def _arrow_array(values: Sequence[Any], column: Column) -> Any:
    pyarrow = import_module("pyarrow")
    pandas = _pandas()
    dtype = pandas.api.types.pandas_dtype(column.dtype)
    items: Any = _floats(values, column.kind)
    if column.kind == "datetime":
        items = _epochs(values, unit_of(column.dtype))
    elif column.kind == "timedelta":
        items = _durations(values, unit_of(column.dtype))
    if column.kind in ("datetime", "timedelta"):
        counts = pyarrow.array([None if v == NAT else v for v in items.tolist()], pyarrow.int64())
        return pandas.arrays.ArrowExtensionArray(counts.cast(dtype.pyarrow_dtype))
    return pandas.arrays.ArrowExtensionArray(pyarrow.array(list(items), dtype.pyarrow_dtype))


def _masked_array(values: Sequence[Any], column: Column) -> Any:
    pandas = _pandas()
    mask = np.array([value is None for value in values], dtype=bool)
    if column.dtype == "boolean":
        return pandas.arrays.BooleanArray(np.array([bool(v) for v in values], dtype=bool), mask)
    data = np.array(
        [0 if value is None else NON_FINITE.get(value, value) for value in values],
        dtype=column.dtype.lower(),
    )
    if column.kind == "float":
        return pandas.arrays.FloatingArray(data, mask)
    return pandas.arrays.IntegerArray(data, mask)


def _categorical(values: Sequence[Any], column: Column) -> Any:
    pandas = _pandas()
    categories = tuple(column.categories or ())
    codes = {value: code for code, value in enumerate(categories)}
    dtype = pandas.CategoricalDtype(build_categories(column), ordered=column.ordered)
    return pandas.Categorical.from_codes(
        np.array([-1 if value is None else codes[value] for value in values], dtype=np.int64),
        dtype=dtype,
    )


def build_categories(column: Column) -> Any:
    """Build the index of a category column's categories."""
    pandas = _pandas()
    dtype = column.categories_dtype or "object"
    kind = "any" if dtype == "object" else column.kind
    if re.search(r"datetime64|timestamp|[<>]M8", dtype):
        kind = "datetime"
    elif re.search(r"timedelta64|duration|[<>]m8", dtype):
        kind = "timedelta"
    elif kind == "category":
        kind = "float" if dtype.lower().startswith("float") else "integer"
    inner = Column(name=column.name, kind=kind, dtype=dtype)
    array = build_array(list(column.categories or ()), inner)
    return pandas.Index(array, dtype=object if dtype == "object" else None)


def datetimes_of(counts: np.ndarray[Any, Any], dtype: str, unit: str) -> Any:
    """Build datetimes of counts (int64) of ``unit``, in UTC where ``dtype`` has a time zone."""
    if not is_aware(dtype):
        return counts.view(f"datetime64[{unit}]").astype(dtype, copy=False)
    pandas = _pandas()
    utc = pandas.Series(counts.view(f"datetime64[{unit}]")).dt.tz_localize("UTC")
    return utc.astype(dtype).array


def timedeltas_of(counts: np.ndarray[Any, Any], dtype: str, unit: str) -> np.ndarray[Any, Any]:
    """Build timedeltas of counts (int64) of ``unit``."""
    return counts.view(f"timedelta64[{unit}]").astype(dtype, copy=False)


def _epochs(values: Sequence[Any], unit: str) -> np.ndarray[Any, Any]:
    size = NS_PER_UNIT[unit]
    return np.array(
        [NAT if value is None else parse_datetime_ns(value)[0] // size for value in values],
        dtype=np.int64,
    )


def _durations(values: Sequence[Any], unit: str) -> np.ndarray[Any, Any]:
    size = NS_PER_UNIT[unit]
    return np.array(
        [NAT if value is None else parse_duration_ns(value) // size for value in values],
        dtype=np.int64,
    )


def _floats(values: Sequence[Any], kind: str) -> Sequence[Any]:
    if kind != "float":
        return values
    return [NON_FINITE[value] if isinstance(value, str) else value for value in values]


def _complex(value: Any) -> complex:
    parts = (value["real"], value["imag"])
    real, imag = (NON_FINITE[part] if isinstance(part, str) else part for part in parts)
    return complex(real, imag)


def _read_datetime(text: str) -> datetime:
    count_ns, aware = parse_datetime_ns(text)
    moment = datetime(1970, 1, 1) + timedelta(microseconds=count_ns // 1_000)
    if not aware:
        return moment
    offset = _read_offset(text)
    return (moment + offset).replace(tzinfo=timezone(offset))


def _read_offset(text: str) -> timedelta:
    match = re.search(r"([+-])(\d\d):(\d\d)(?::(\d\d))?$", text[10:])
    if match is None:
        return timedelta(0)
    sign, hours, minutes, seconds = match.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes), seconds=int(seconds or 0))
    return -offset if sign == "-" else offset


def _read_timestamp(text: str) -> Any:
    return _pandas().Timestamp(text)


def _read_timedelta(text: str) -> timedelta:
    return timedelta(microseconds=parse_duration_ns(text) // 1_000)


def _read_pandas_timedelta(text: str) -> Any:
    return _pandas().Timedelta(parse_duration_ns(text), unit="ns")


def _read_bytes(value: Any) -> bytes:
    return base64.b64decode(value["base64"])


_ITEMS: dict[str | None, Callable[[Any], Any]] = {
    "Decimal": Decimal,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "datetime": _read_datetime,
    "timedelta": _read_timedelta,
    "Timestamp": _read_timestamp,
    "Timedelta": _read_pandas_timedelta,
    "bytes": _read_bytes,
}


def _pandas() -> Any:
    import pandas

    return pandas
