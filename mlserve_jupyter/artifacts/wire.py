"""The JSON form of values that numpy, pandas and Python have: one place for both directions.

NaN and the infinities are strings, missing values null, datetimes and durations ISO 8601, bytes
``{"base64": "…"}``, decimals strings, complex numbers ``{"real": …, "imag": …}``.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import numpy as np

from mlserve_jupyter.api.iso8601 import NS_PER_UNIT, format_duration

_ENCODER = json.JSONEncoder(
    allow_nan=False, ensure_ascii=False, separators=(",", ":"), check_circular=False
)
_NAT = np.iinfo(np.int64).min
_SCALARS = (str, int, float, bool)


class NotRepresentable(TypeError):
    """A value that has no JSON form here; the message names its type."""


def dump_json(value: Any) -> bytes:
    """Write plain JSON values as UTF-8.

    Raises
    ------
    NotRepresentable
        For a string that UTF-8 cannot carry, and for nesting without end.
    """
    try:
        return _ENCODER.encode(value).encode("utf-8")
    except UnicodeEncodeError:
        raise NotRepresentable("a string with half of a surrogate pair, which is no text") from None
    except RecursionError:
        raise NotRepresentable("a value that is nested too deep, or contains itself") from None


def array_values(array: Any) -> list[Any]:
    """Turn an array into nested lists of JSON values.

    Parameters
    ----------
    array
        A numpy array of any shape but ``()``, or a pandas Series, Index or extension array.

    Raises
    ------
    NotRepresentable
        For a dtype or an item without a JSON form.
    """
    if not isinstance(array, np.ndarray):
        return _pandas_values(array)
    if isinstance(array, np.ma.MaskedArray):
        return _mapped(np.ma.filled(array.astype(object), None), scalar_value)
    kind = array.dtype.kind
    if kind == "f":
        return _float_values(array)
    if kind in "iubUT":
        return _listed(array)
    if kind == "M":
        return _datetime_values(array)
    if kind == "m":
        return _timedelta_values(array)
    if kind in "cSO":
        return _mapped(array, scalar_value)
    raise NotRepresentable(f"an array of the dtype {array.dtype}")


def scalar_value(value: Any) -> Any:
    """Turn one object of any type into a JSON value, members included.

    Raises
    ------
    NotRepresentable
        For a type without a JSON form.
    """
    kind = type(value)
    if value is None or kind is str or kind is int or kind is bool:
        return value
    if kind is float:
        return value if math.isfinite(value) else float_name(value)
    for types, form in _FORMS:
        if isinstance(value, types):
            return form(value)
    if _is_pandas_missing(value):
        return None
    return container_value(value)


def container_value(value: Any) -> Any:
    """Turn an array, a frame, a sparse matrix or a Python container into a JSON value.

    Raises
    ------
    NotRepresentable
        For any other type.
    """
    if isinstance(value, np.ndarray):
        return scalar_value(value[()]) if value.ndim == 0 else array_values(value)
    if isinstance(value, Mapping):
        return _mapping_value(value)
    if isinstance(value, (list, tuple, range)):
        return [scalar_value(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return [scalar_value(item) for item in _ordered(value)]
    if is_sparse(value):
        return sparse_values(value)
    pandas = sys.modules.get("pandas")
    if pandas is not None:
        if isinstance(value, pandas.DataFrame):
            columns = [array_values(value.iloc[:, j]) for j in range(value.shape[1])]
            return list(map(list, zip(*columns, strict=True))) or [[] for _ in range(len(value))]
        if isinstance(value, (pandas.Series, pandas.Index, pandas.api.extensions.ExtensionArray)):
            return array_values(value)
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(value, polars.DataFrame):
        return [scalar_value(list(row)) for row in value.rows()]
    if polars is not None and isinstance(value, polars.Series):
        return scalar_value(value.to_list())
    if hasattr(value, "__array__") and not isinstance(value, type):
        return container_value(np.asarray(value))
    kind = type(value)
    raise NotRepresentable(f"an object of the type {kind.__module__}.{kind.__qualname__}")


def is_sparse(value: Any) -> bool:
    """Tell whether a value is a scipy sparse matrix or array, without importing scipy."""
    sparse = sys.modules.get("scipy.sparse")
    return sparse is not None and bool(sparse.issparse(value))


def sparse_values(matrix: Any) -> Any:
    """Turn a scipy sparse matrix into one ``{"indices", "values", "size"}`` a row."""
    if matrix.ndim != 2:
        raise NotRepresentable(f"a sparse array of {matrix.ndim} dimension(s)")
    rows = matrix.tocsr()
    data, indices, pointers = array_values(rows.data), rows.indices.tolist(), rows.indptr.tolist()
    size = matrix.shape[1]
    return [
        {"indices": indices[start:end], "values": data[start:end], "size": size}
        for start, end in zip(pointers, pointers[1:], strict=False)
    ]


def to_tagged(value: Any) -> Any:
    """Turn a free value of an input into a JSON value that its reader can tell from any other.

    Floats that JSON lacks become ``{"float": "NaN"}``, since a string would be a string here.

    Raises
    ------
    NotRepresentable
        For a type that would come back as another one.
    """
    kind = type(value)
    if value is None or kind in (str, int, bool):
        return value
    if isinstance(value, (np.generic, np.ndarray)) and value.dtype.kind in "iufbUO":
        return to_tagged(value.tolist())
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": float_name(value)}
    if isinstance(value, _SCALARS):
        return next(plain(value) for plain in _SCALARS if isinstance(value, plain))
    if isinstance(value, bytes):
        return bytes_value(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise NotRepresentable("a dict with keys that are no strings")
        return {str(key): to_tagged(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_tagged(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return [to_tagged(item) for item in _ordered(value)]
    if _is_pandas_missing(value):
        return {"missing": "NaT" if value is sys.modules["pandas"].NaT else "NA"}
    raise NotRepresentable(f"an object of the type {kind.__module__}.{kind.__qualname__}")


def float_name(value: float) -> str:
    """Name a float that JSON lacks."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def bytes_value(value: bytes) -> dict[str, str]:
    """Give the JSON form of bytes."""
    return {"base64": base64.b64encode(value).decode("ascii")}


def _float_values(array: np.ndarray[Any, Any]) -> list[Any]:
    if array.dtype.itemsize > 8:
        raise NotRepresentable(f"an array of the dtype {array.dtype}; convert it to float64")
    if np.isfinite(array).all():
        return _listed(array)
    return _mapped(array, scalar_value)


def _listed(array: np.ndarray[Any, Any]) -> list[Any]:
    values: list[Any] = array.tolist()
    return values


def _mapped(array: np.ndarray[Any, Any], form: Callable[[Any], Any]) -> list[Any]:
    if array.ndim > 1:
        return [_mapped(row, form) for row in np.asarray(array)]
    if array.dtype == object:
        return [form(value) for value in array]
    return [form(value) for value in array.tolist()]


def _datetime_values(array: np.ndarray[Any, Any]) -> list[Any]:
    texts = np.datetime_as_string(array).astype(object)
    texts[np.isnat(array)] = None
    return _mapped(texts, _without_zeros)


def _without_zeros(text: str | None) -> str | None:
    return text.rstrip("0").rstrip(".") if text is not None and "." in text else text


def _timedelta_values(array: np.ndarray[Any, Any]) -> list[Any]:
    unit, step = np.datetime_data(array.dtype)
    if unit not in NS_PER_UNIT:
        raise NotRepresentable(f"an array of the dtype {array.dtype}")
    counts = array.astype(array.dtype.newbyteorder("=")).view(np.int64).astype(object)
    texts = [None if n == _NAT else format_duration(n * step, unit) for n in counts.ravel()]
    shaped = np.array([*texts, None], dtype=object)[:-1].reshape(array.shape)
    return _listed(shaped)


def _pandas_values(array: Any) -> list[Any]:
    dtype = array.dtype
    if isinstance(dtype, np.dtype):
        return array_values(np.asarray(array))
    values = getattr(array, "array", array)
    if hasattr(dtype, "subtype") and hasattr(dtype, "fill_value"):
        return array_values(np.asarray(values))
    if hasattr(values, "codes"):
        categories = array_values(values.categories)
        return [None if code < 0 else categories[code] for code in values.codes.tolist()]
    if getattr(dtype, "kind", "") == "f" and hasattr(values, "_mask"):
        # Of a nullable float, NaN is a value and NA is a missing one.
        return [None if gone else value for value, gone in _masked(values)]
    pairs = zip(values, values.isna().tolist(), strict=True)
    return [None if gone else scalar_value(value) for value, gone in pairs]


def _masked(values: Any) -> Sequence[tuple[Any, bool]]:
    # Only these arrays tell NA from NaN, and only by the mask itself.
    return list(zip(array_values(values._data), values._mask.tolist(), strict=True))


def _mapping_value(value: Mapping[Any, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, (str, int, np.str_, np.integer)) or isinstance(key, bool):
            raise NotRepresentable(f"a dict with a key of the type {type(key).__qualname__}")
        result[str(key)] = scalar_value(item)
    if len(result) != len(value):
        raise NotRepresentable("a dict with two keys of the same text, such as 1 and '1'")
    return result


def _ordered(members: Any) -> list[Any]:
    try:
        return sorted(members)
    except TypeError:
        return sorted(members, key=repr)


def _generic_value(value: Any) -> Any:
    if value.dtype.kind in "Mm":
        return array_values(np.asarray(value).reshape(1))[0]
    if value.dtype.kind == "f" and value.dtype.itemsize > 8:
        raise NotRepresentable(f"a number of the type {value.dtype}; convert it to float64")
    plain = value.item()
    if isinstance(plain, (tuple, np.generic)):
        raise NotRepresentable(f"a value of the dtype {value.dtype}")
    return scalar_value(plain)


def _complex_value(value: complex) -> dict[str, Any]:
    return {"real": scalar_value(value.real), "imag": scalar_value(value.imag)}


def _moment_value(value: Any) -> str | None:
    return None if _is_pandas_missing(value) else str(value.isoformat())


def _timedelta_value(value: timedelta) -> str | None:
    if _is_pandas_missing(value):
        return None
    nanoseconds = getattr(value, "nanoseconds", 0)
    microseconds = (value.days * 86_400 + value.seconds) * 10**6 + value.microseconds
    return format_duration(microseconds * 1_000 + nanoseconds, "ns")


def _is_pandas_missing(value: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and (value is pandas.NaT or value is pandas.NA)


# The first that fits is taken: numpy's float64 and str_ are subclasses of Python's.
_FORMS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (np.generic, _generic_value),
    (str, str),
    (bool, bool),
    (int, int),
    (float, lambda value: scalar_value(float(value))),
    (complex, _complex_value),
    (bytes, bytes_value),
    (bytearray, bytes_value),
    (Decimal, str),
    ((datetime, date, time), _moment_value),
    (timedelta, _timedelta_value),
    ((UUID, Fraction), str),
)
