"""From the columns of an Arrow table to checked values, held against a version's signature.

Numbers, booleans, datetimes, timedeltas and categories are checked as whole columns and stay where
they are in memory. What is unusual, and what does not fit, goes value by value through the checks
that JSON goes through, so that both are refused in the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlserve_jupyter.api.arrow_values import json_values
from mlserve_jupyter.api.iso8601 import NS_PER_UNIT, is_aware, unit_of
from mlserve_jupyter.api.json_walk import table_row, tensor_row
from mlserve_jupyter.api.layout import Layout
from mlserve_jupyter.api.number_checks import LARGEST_FLOAT, FloatCheck, IntegerCheck
from mlserve_jupyter.api.packed import is_packable, knows_nan_only, shared_column
from mlserve_jupyter.api.signature import Column, InputBatch, Packed
from mlserve_jupyter.api.value_check import Refused, ValueCheck
from mlserve_jupyter.api.values import StringCheck
from mlserve_jupyter.errors import InvalidBody, UnsupportedMediaType

if TYPE_CHECKING:
    import pyarrow

Numbers = np.ndarray[Any, np.dtype[Any]]

_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999 in seconds since 1970."""

_EXACT_INTEGERS = 2.0**53
_MISSING, _UNKNOWN = -1, -2
_ELEMENTS = frozenset({"float", "integer", "boolean"})
"""Kinds that the elements of an array may have to be packed."""


def batch_of(table: pyarrow.Table, layout: Layout) -> InputBatch:
    """Check a table and bring it into the form that workers read.

    Raises
    ------
    InvalidBody
        When a model without named columns is not sent exactly one.
    SignatureMismatch
        When a column or a value does not fit; names the row and the column.
    UnsupportedMediaType
        When the model takes sparse rows, which have no form here.
    """
    spec = layout.spec
    if spec.container == "sparse":
        raise UnsupportedMediaType(
            "This model takes sparse rows, which are sent as application/json.",
            accepted=["application/json"],
        )
    table = table.unify_dictionaries()
    if not layout.accepts_names:
        if table.num_columns != 1:
            raise InvalidBody(
                f"The body has {table.num_columns} columns. This model's input has no named ones: "
                "send a single column of (nested) lists, one a row."
            )
        return InputBatch(table.num_rows, rows=_unnamed(_whole(table.column(0)), layout))
    if spec.container == "ndarray" and layout.shape == "table" and _is_one_list(table):
        return InputBatch(table.num_rows, rows=_nested(_whole(table.column(0)), layout))
    positions = layout.positions(table.column_names)
    block = _block(table, positions, layout)
    if block is not None:
        return InputBatch(table.num_rows, rows=block)
    columns = [
        [None] * table.num_rows
        if position is None
        else column_values(_whole(table.column(position)), j, layout)
        for j, position in enumerate(positions)
    ]
    if layout.shape == "items" or spec.container == "dataframe":
        return InputBatch(table.num_rows, columns=columns)
    return InputBatch(table.num_rows, rows=_stacked(columns, table.num_rows, layout))


def column_values(array: pyarrow.Array, j: int, layout: Layout) -> list[Any] | Packed:
    """Check one column; packed where its dtype can be built of numbers.

    Raises
    ------
    SignatureMismatch
        When a value does not fit.
    """
    column, check = layout.spec.columns[j], layout.checks[j]
    if array.null_count == 0 or check.nullable:
        if is_packable(column) and (pack := _PACK.get(column.kind)) is not None:
            packed = pack(array, column, check)
            if packed is not None:
                return packed
        elif type(check) is StringCheck and _is_text(array):
            texts: list[Any] = array.to_pylist()
            return texts
    return _admitted(array, j, layout)


def _admitted(array: pyarrow.Array, j: int, layout: Layout) -> list[Any]:
    """Check value by value, as JSON is."""
    admit = layout.checks[j].admit
    is_free = layout.spec.columns[j].kind == "any"
    admitted = []
    for i, value in enumerate(json_values(array, is_free=is_free)):
        try:
            admitted.append(admit(value))
        except Refused as refused:
            layout.refuse(i, j, refused.got)
    return admitted


def _unnamed(array: pyarrow.Array, layout: Layout) -> list[Any] | Packed:
    """Check the one column of a list, or of rows that are nested arrays."""
    if layout.shape == "tensor":
        return _nested(array, layout)
    return _admitted(array, 0, layout)


def _nested(array: pyarrow.Array, layout: Layout) -> list[Any] | Packed:
    """Check rows that are (nested) lists, whose elements may lie in memory as the array will."""
    column = layout.spec.columns[0]
    strictest = min(layout.checks, key=lambda check: check.nullable)
    flat = _flattened(array, layout.row_shape)
    if flat is not None and flat.null_count == 0 and is_packable(column):
        pack = _PACK.get(column.kind) if column.kind in _ELEMENTS else None
        packed = pack(flat, column, strictest) if pack is not None else None
        if packed is not None:
            return packed
    rows = json_values(array, is_free=False)
    check_row = tensor_row if layout.shape == "tensor" else table_row
    return [check_row(i, row, layout) for i, row in enumerate(rows)]


def _block(table: pyarrow.Table, positions: Sequence[int | None], layout: Layout) -> Packed | None:
    """Check a table of floats as a whole; None where that cannot be done, or one does not fit."""
    from pyarrow import types

    shared = shared_column(layout.spec)
    if shared is None or shared.kind != "float" or len(positions) < 2 or None in positions:
        return None
    known = table.schema.types
    kinds = {known[position] for position in positions if position is not None}
    kind = kinds.pop()
    limit = layout.checks[0].limit if isinstance(layout.checks[0], FloatCheck) else None
    fits = types.is_float64(kind) if limit is None else types.is_float32(kind)
    if kinds or not fits or limit == LARGEST_FLOAT[16]:
        return None
    selected = table.select(positions)
    batches = selected.to_batches()
    if len(batches) > 1:
        batches = selected.combine_chunks().to_batches()
    if len(batches) != 1:
        return None
    order = layout.spec.order
    tensor = batches[0].to_tensor(null_to_nan=True, row_major=order == "C")
    numbers = np.asarray(tensor.to_numpy())
    if not all(check.nullable for check in layout.checks) and np.isnan(numbers).any():
        return None
    packed = _packed(numbers if order == "C" else numbers.T)
    return Packed(packed.code, packed.data, order=order)


def _is_one_list(table: pyarrow.Table) -> bool:
    """Tell whether rows came as lists in a single column, instead of as columns."""
    import pyarrow
    from pyarrow import types

    if table.num_columns != 1:
        return False
    kind = table.schema.types[0]
    return (
        isinstance(kind, pyarrow.FixedShapeTensorType)
        or types.is_fixed_size_list(kind)
        or types.is_list(kind)
        or types.is_large_list(kind)
    )


def _flattened(array: pyarrow.Array, shape: tuple[int, ...]) -> pyarrow.Array | None:
    """Return the elements of nested lists of exactly these lengths, row by row; None of others."""
    import pyarrow
    from pyarrow import compute, types

    for i, size in enumerate(shape):
        kind = array.type
        if isinstance(kind, pyarrow.FixedShapeTensorType):
            is_plain = list(kind.permutation or range(len(kind.shape))) == [*range(len(kind.shape))]
            if tuple(kind.shape) != shape[i:] or not is_plain or array.null_count:
                return None
            return array.storage.flatten()
        array = _storage(array)
        if array.null_count:
            return None
        if types.is_fixed_size_list(array.type):
            if array.type.list_size != size:
                return None
        elif types.is_list(array.type) or types.is_large_list(array.type):
            lengths = compute.min_max(compute.list_value_length(array)).as_py()
            if (lengths["min"], lengths["max"]) != (size, size):
                return None
        else:
            return None
        array = array.flatten()
    return _storage(array)


def _stacked(columns: list[Any], n_rows: int, layout: Layout) -> list[Any] | Packed:
    """Turn the columns of a two-dimensional array into its rows."""
    dtype = layout.spec.dtype
    is_numeric = dtype != "object" and layout.spec.columns[0].kind in _ELEMENTS
    if is_numeric and all(isinstance(each, Packed) and each.missing is None for each in columns):
        stacked = np.empty((n_rows, len(columns)), dtype=np.dtype(dtype).newbyteorder("="))
        for j, each in enumerate(columns):
            stacked[:, j] = np.frombuffer(each.data, dtype=each.code)
        return _packed(stacked)
    listed = [
        _admitted_again(each, layout.spec.columns[j]) if isinstance(each, Packed) else each
        for j, each in enumerate(columns)
    ]
    return [list(row) for row in zip(*listed, strict=True)]


def _admitted_again(values: Packed, column: Column) -> list[Any]:
    """Return packed numbers as JSON values."""
    listed: list[Any] = np.frombuffer(values.data, dtype=values.code).tolist()
    if values.missing is not None:
        gone = np.frombuffer(values.missing, dtype=bool).tolist()
        return [None if missing else v for v, missing in zip(listed, gone, strict=True)]
    return listed


def _pack_floats(array: pyarrow.Array, column: Column, check: ValueCheck) -> Packed | None:
    assert isinstance(check, FloatCheck)
    numbers = _numbers(array, np.nan if knows_nan_only(column) else 0)
    if numbers is None:
        return None
    if numbers.dtype.kind != "f":
        numbers = numbers.astype(np.float64)
    if not check.nullable and np.isnan(numbers).any():
        return None
    if check.limit is not None and numbers.dtype.itemsize > 2:
        with np.errstate(invalid="ignore"):
            if ((np.abs(numbers) > check.limit) & np.isfinite(numbers)).any():
                return None
    return _packed(numbers, None if knows_nan_only(column) else array)


def _pack_integers(array: pyarrow.Array, column: Column, check: ValueCheck) -> Packed | None:
    assert isinstance(check, IntegerCheck)
    numbers = _numbers(array, 0)
    if numbers is None or not len(numbers):
        return None
    if numbers.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = (np.abs(numbers) <= _EXACT_INTEGERS) & (np.floor(numbers) == numbers)
        if not whole.all():
            return None
        numbers = numbers.astype(np.int64)
    low, high = int(numbers.min()), int(numbers.max())
    if (check.low is not None and low < check.low) or (
        check.high is not None and high > check.high
    ):
        return None
    return _packed(numbers, array)


def _pack_booleans(array: pyarrow.Array, column: Column, check: ValueCheck) -> Packed | None:
    from pyarrow import types

    if not types.is_boolean(array.type):
        return None
    return _packed(array.fill_null(False).to_numpy(zero_copy_only=False), array)


def _pack_datetimes(array: pyarrow.Array, column: Column, check: ValueCheck) -> Packed | None:
    from pyarrow import types

    kind = array.type
    aware = is_aware(column.dtype)
    if types.is_timestamp(kind) and (kind.tz is not None) == aware:
        unit = kind.unit
    elif types.is_date32(kind) and not aware:
        unit = "D"
    elif types.is_date64(kind) and not aware:
        unit = "ms"
    else:
        return None
    per_s = 10**9 / NS_PER_UNIT[unit]
    counts = _counts(array, types.is_date32(kind))
    if len(counts) and not (
        _FIRST_S * per_s <= int(counts.min()) and int(counts.max()) < (_LAST_S + 1) * per_s
    ):
        return None
    return _converted(counts, unit, column, array)


def _pack_timedeltas(array: pyarrow.Array, column: Column, check: ValueCheck) -> Packed | None:
    from pyarrow import types

    if not types.is_duration(array.type):
        return None
    return _converted(_counts(array, False), array.type.unit, column, array)


def _pack_categories(array: pyarrow.Array, column: Column, check: ValueCheck) -> Packed | None:
    from pyarrow import types

    if not types.is_dictionary(array.type):
        if types.is_nested(array.type) or types.is_run_end_encoded(array.type):
            return None
        array = array.dictionary_encode()
    codes = {value: code for code, value in enumerate(column.categories or ())}
    known = []
    for value in json_values(_storage(array.dictionary), is_free=False):
        try:
            known.append(_MISSING if value is None else codes[check.admit(value)])
        except Refused:
            known.append(_UNKNOWN)
    indices = array.indices.cast("int64").fill_null(len(known)).to_numpy(zero_copy_only=False)
    found = np.array([*known, _MISSING], dtype=np.int32)[indices]
    if (found == _UNKNOWN).any() or (not check.nullable and (found == _MISSING).any()):
        return None
    return _packed(found)


_PACK: dict[str, Callable[[pyarrow.Array, Column, ValueCheck], Packed | None]] = {
    "float": _pack_floats,
    "integer": _pack_integers,
    "boolean": _pack_booleans,
    "datetime": _pack_datetimes,
    "timedelta": _pack_timedeltas,
    "category": _pack_categories,
}
"""By kind, what packs a column that fits as a whole, and returns None of any other."""


def _numbers(array: pyarrow.Array, missing: float) -> Numbers | None:
    """Return an array of numbers as numpy's, without a copy where nothing is missing."""
    from pyarrow import types

    if types.is_null(array.type):
        return np.full(len(array), missing, dtype=np.float64)
    is_float = types.is_floating(array.type)
    if not (is_float or types.is_integer(array.type)):
        return None
    if array.null_count == 0:
        return np.asarray(array.to_numpy(zero_copy_only=False))
    if not is_float and missing != missing:
        array = array.cast("float64", safe=False)
    if types.is_float16(array.type):
        array = array.cast("float32")
    return np.asarray(array.fill_null(missing).to_numpy(zero_copy_only=False))


def _counts(array: pyarrow.Array, is_days: bool) -> Numbers:
    counts = array.cast("int32").cast("int64") if is_days else array.cast("int64")
    return np.asarray(counts.fill_null(0).to_numpy(zero_copy_only=False))


def _converted(counts: Numbers, unit: str, column: Column, array: pyarrow.Array) -> Packed | None:
    """Count in the column's own unit; None where that would lose something."""
    ours, theirs = NS_PER_UNIT[unit_of(column.dtype)], NS_PER_UNIT[unit]
    largest = max(abs(int(counts.min())), abs(int(counts.max()))) if len(counts) else 0
    if theirs >= ours:
        factor = theirs // ours
        if largest * factor > 2**63 - 1:
            return None
        converted = counts if factor == 1 else counts * factor
    else:
        converted, rest = np.divmod(counts, ours // theirs)
        if rest.any():
            return None
    return _packed(converted, array)


def _packed(numbers: Numbers, array: pyarrow.Array | None = None) -> Packed:
    """Pack numbers, and which of them are missing in ``array``."""
    data = np.ascontiguousarray(numbers).reshape(-1)
    missing = None
    if array is not None and array.null_count:
        missing = array.is_null().to_numpy(zero_copy_only=False).view(np.uint8).data
    return Packed(data.dtype.str[1:], data.view(np.uint8).data, missing)


def _whole(column: pyarrow.ChunkedArray) -> pyarrow.Array:
    """Join the chunks of a column, and see what an extension type is made of."""
    import pyarrow

    if column.num_chunks == 1:
        return _decoded(column.chunk(0))
    if column.num_chunks == 0:
        return pyarrow.array([], column.type)
    return _decoded(pyarrow.concat_arrays(column.chunks))


def _decoded(array: pyarrow.Array) -> pyarrow.Array:
    import pyarrow
    from pyarrow import compute, types

    if isinstance(array.type, pyarrow.FixedShapeTensorType):
        return array
    array = _storage(array)
    return compute.run_end_decode(array) if types.is_run_end_encoded(array.type) else array


def _storage(array: pyarrow.Array) -> pyarrow.Array:
    import pyarrow

    return array.storage if isinstance(array, pyarrow.ExtensionArray) else array


def _is_text(array: pyarrow.Array) -> bool:
    from pyarrow import types

    return bool(types.is_string(array.type) or types.is_large_string(array.type))
