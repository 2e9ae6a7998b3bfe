"""In a kernel: large frames and arrays as an Arrow stream, which costs far less than JSON."""

from __future__ import annotations

import io
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np

ARROW_STREAM = "application/vnd.apache.arrow.stream"

MIN_VALUES = 10_000
"""Smaller input is sent as JSON, which costs as little and can be read in the log."""


def encode_arrow(data: Any) -> bytes | None:
    """Write a large DataFrame, or a large array of two dimensions, as an Arrow stream.

    Parameters
    ----------
    data
        What a model takes (anything, hence ``Any``).

    Returns
    -------
    bytes or None
        None of anything small, of what Arrow might carry otherwise than JSON does, and without
        pyarrow.
    """
    if getattr(data, "size", 0) < MIN_VALUES or find_spec("pyarrow") is None:
        return None
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(data, pandas.DataFrame):
        names = [str(label) for label in data.columns]
        if len(set(names)) < len(names) or not all(map(_is_plain, data.dtypes)):
            return None
        return _stream({name: data.iloc[:, j].array for j, name in enumerate(names)})
    if isinstance(data, np.ndarray) and data.ndim == 2 and _is_plain(data.dtype):
        import pyarrow

        flat = pyarrow.array(np.ascontiguousarray(data).reshape(-1))
        return _stream({"rows": pyarrow.FixedSizeListArray.from_arrays(flat, data.shape[1])})
    return None


def _stream(columns: dict[str, Any]) -> bytes:
    import pyarrow

    arrays = [
        each
        if isinstance(each, pyarrow.Array)
        else pyarrow.array(np.asarray(each) if isinstance(each.dtype, np.dtype) else each)
        for each in columns.values()
    ]
    table = pyarrow.Table.from_arrays(arrays, names=list(columns))
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _is_plain(dtype: Any) -> bool:
    """Tell whether Arrow carries all values of a dtype (numpy's or pandas', hence ``Any``)."""
    if isinstance(dtype, np.dtype):
        return dtype.kind in "fiub" and dtype.isnative and dtype.itemsize <= 8
    pandas = sys.modules["pandas"]
    if isinstance(dtype, pandas.CategoricalDtype):
        return bool(pandas.api.types.is_string_dtype(dtype.categories.dtype))
    return isinstance(dtype, pandas.StringDtype) or hasattr(dtype, "numpy_dtype")
