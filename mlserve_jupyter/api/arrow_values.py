"""The values of an Arrow array as JSON would bring them, one by one."""

from __future__ import annotations

import base64
import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from mlserve_jupyter.api.iso8601 import format_duration
from mlserve_jupyter.api.strict_json import Real

if TYPE_CHECKING:
    import pyarrow


def json_values(array: pyarrow.Array, *, is_free: bool) -> list[Any]:
    """Return an array's values in their JSON form, which is arbitrary, hence ``Any``.

    Parameters
    ----------
    is_free
        Whether they go into a column of any values, where a float that JSON lacks is tagged, since
        a string would be a string there.
    """
    import pyarrow
    from pyarrow import types

    if isinstance(array, pyarrow.ExtensionArray):
        array = array.storage
    kind = array.type
    if types.is_dictionary(kind):
        known = [*json_values(array.dictionary, is_free=is_free), None]
        indices = array.indices.cast("int64").fill_null(len(known) - 1)
        return [known[i] for i in indices.to_pylist()]
    if types.is_timestamp(kind):
        return _datetimes(array, kind.unit, "Z" if kind.tz is not None else "")
    if types.is_duration(kind):
        return [
            None if count is None else format_duration(count, kind.unit)
            for count in array.cast("int64").to_pylist()
        ]
    return [_free(value, is_free=is_free) for value in array.to_pylist()]


def _datetimes(array: pyarrow.Array, unit: str, suffix: str) -> list[Any]:
    counts = array.cast("int64")
    texts = np.datetime_as_string(
        counts.fill_null(0).to_numpy(zero_copy_only=False).view(f"datetime64[{unit}]")
    ).tolist()
    missing = counts.is_null().to_pylist()
    return [
        None if gone else _without_zeros(text) + suffix
        for text, gone in zip(texts, missing, strict=True)
    ]


def _without_zeros(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _free(value: Any, *, is_free: bool) -> Any:
    """Turn what pyarrow gives for one value, its members included, into JSON."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value if is_free else Real(repr(value))
        name = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return {"float": name} if is_free else name
    if isinstance(value, list):
        return [_free(item, is_free=is_free) for item in value]
    if isinstance(value, dict):
        return {str(key): _free(item, is_free=is_free) for key, item in value.items()}
    if isinstance(value, (bytes, bytearray)):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        microseconds = (value.days * 86_400 + value.seconds) * 10**6 + value.microseconds
        return format_duration(microseconds, "us")
    return str(value)
