"""Checked values as they lie in memory, and batches that travel sealed.

Large input is decoded in a process of its own. What comes out of it is one piece of bytes, which
the server hands on to a worker without a look inside. Standard library only, since workers read it.
"""

from __future__ import annotations

import json
import math
import re
import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pickle import PickleBuffer
from typing import Any

from mlserve_jupyter.api.signature import Column, InputBatch, InputSpec, Packed

ALIGNMENT = 64
"""Each piece of numbers begins at a multiple of so many bytes, as compiled code wants it."""

_ROW_CODES = {"float": ("f8", "d"), "integer": ("i8", "q"), "boolean": ("?", "?")}
_LENGTH = struct.Struct("<Q")
_FLOAT = re.compile(r"float(16|32|64)|[<>]f[248]")
_INTEGER = re.compile(r"u?int(8|16|32|64)|[<>][iu][1248]")
_BOOLEAN = re.compile(r"bool")
_MASKED = re.compile(r"(U?Int|Float)(8|16|32|64)|boolean")
_COUNTED = re.compile(r"(datetime|timedelta)64\[(s|ms|us|ns)(, .+)?\]")


@dataclass(frozen=True)
class SealedBatch:
    """Decoded and checked input as bytes, which only its reader looks into.

    Attributes
    ----------
    n_rows
        The number of rows.
    payload
        What :func:`seal` wrote.
    """

    n_rows: int
    payload: bytes | bytearray | memoryview

    def opened(self) -> InputBatch:
        """Return the batch; its packed values lie in ``payload`` itself."""
        view = memoryview(self.payload)
        (n_bytes,) = _LENGTH.unpack_from(view)
        end = _LENGTH.size + n_bytes
        head = json.loads(bytes(view[_LENGTH.size : end]))
        pieces = []
        for size in head["sizes"]:
            pieces.append(view[end : end + size])
            end += size + -size % ALIGNMENT
        columns, rows = head["columns"], head["rows"]
        return InputBatch(
            n_rows=head["n_rows"],
            columns=None if columns is None else [_unfold(each, pieces) for each in columns],
            rows=None if rows is None else _unfold(rows, pieces),
        )

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Travel beside the pickled message, not in it."""
        return SealedBatch, (self.n_rows, PickleBuffer(self.payload))


def seal(batch: InputBatch) -> list[bytes | memoryview]:
    """Write a batch as the parts of one payload."""
    pieces: list[memoryview] = []
    columns, rows = batch.columns, batch.rows
    folded = {
        "n_rows": batch.n_rows,
        "columns": None if columns is None else [_fold(each, pieces) for each in columns],
        "rows": None if rows is None else _fold(rows, pieces),
        "sizes": [len(piece) for piece in pieces],
    }
    head = json.dumps(folded, separators=(",", ":"), check_circular=False).encode()
    head += b" " * (-(_LENGTH.size + len(head)) % ALIGNMENT)
    parts: list[bytes | memoryview] = [_LENGTH.pack(len(head)) + head]
    for piece in pieces:
        parts += [piece, bytes(-len(piece) % ALIGNMENT)]
    return parts


def sealed(batch: InputBatch) -> SealedBatch:
    """Return a batch sealed."""
    return SealedBatch(batch.n_rows, b"".join(seal(batch)))


def is_packed(batch: InputBatch) -> bool:
    """Tell whether values of a batch lie packed; such a one has to be sealed to travel."""
    return isinstance(batch.rows, Packed) or any(
        isinstance(column, Packed) for column in batch.columns or ()
    )


def is_packable(column: Column) -> bool:
    """Tell whether a column's dtype can be built of packed numbers, positions or counts."""
    return column.dtype == "category" or any(
        pattern.fullmatch(column.dtype)
        for pattern in (_FLOAT, _INTEGER, _BOOLEAN, _MASKED, _COUNTED)
    )


def knows_nan_only(column: Column) -> bool:
    """Tell whether a missing value of a column is NaN, so that no mask is needed."""
    return _FLOAT.fullmatch(column.dtype) is not None


def shared_column(spec: InputSpec) -> Column | None:
    """Return a column that stands for all of a table or an array, as to how they are packed.

    None where they are not all of one kind and dtype of numbers or booleans.
    """
    first = spec.columns[0]
    is_one = all(each.dtype == first.dtype and each.kind == first.kind for each in spec.columns)
    is_wide = spec.container in ("dataframe", "ndarray") and len(spec.shape) > 1
    is_plain = any(each.fullmatch(first.dtype) for each in (_FLOAT, _INTEGER, _BOOLEAN))
    return first if is_one and is_wide and is_plain else None


def pack_rows(rows: Sequence[Any], spec: InputSpec, shared: Column) -> Packed | None:
    """Pack checked rows in one piece; None where a value is missing.

    Parameters
    ----------
    rows
        Sequences, nested as deep as the array.
    shared
        The :func:`shared_column` of ``spec``.
    """
    flat: Any = rows
    size = len(rows)
    for length in spec.shape[1:]:
        flat = chain.from_iterable(flat)
        size *= length or 1
    try:
        return Packed(_ROW_CODES[shared.kind][0], struct.pack(
            f"{size}{_ROW_CODES[shared.kind][1]}", *flat
        ))  # fmt: skip
    except struct.error:
        return None


def pack_batch(batch: InputBatch, spec: InputSpec) -> InputBatch:
    """Pack the numbers of a batch; what has no packed form stays as it is."""
    if batch.columns is not None:
        packed = [
            each if isinstance(each, Packed) else _packed(each, column)
            for each, column in zip(batch.columns, spec.columns, strict=True)
        ]
        return InputBatch(batch.n_rows, columns=packed)
    if spec.container != "ndarray" or isinstance(batch.rows, Packed) or not batch.rows:
        return batch
    flat: Any = batch.rows
    for _ in spec.shape[1:]:
        flat = chain.from_iterable(flat)
    found = _packed(list(flat), spec.columns[0])
    return InputBatch(batch.n_rows, rows=found) if isinstance(found, Packed) else batch


def _packed(values: list[Any], column: Column) -> list[Any] | Packed:
    """Pack plain JSON values of numbers and booleans."""
    pack = _PACK.get(column.kind)
    if pack is None or not is_packable(column) or column.dtype == "category":
        return values
    missing: bytes | None = None
    try:
        return pack(values)
    except (TypeError, ValueError, OverflowError):
        # A missing value, or an integer of more than 64 bits.
        pass
    if None not in values:
        return values
    if knows_nan_only(column):
        filled = [math.nan if value is None else value for value in values]
    else:
        missing = bytes([value is None for value in values])
        filled = [0 if value is None else value for value in values]
    try:
        found = pack(filled)
    except (TypeError, ValueError, OverflowError):
        return values
    return Packed(found.code, found.data, missing)


def _pack_floats(values: Sequence[Any]) -> Packed:
    return Packed("f8", memoryview(array("d", values)).cast("B"))


def _pack_integers(values: Sequence[Any]) -> Packed:
    try:
        return Packed("i8", memoryview(array("q", values)).cast("B"))
    except OverflowError:
        return Packed("u8", memoryview(array("Q", values)).cast("B"))


def _pack_booleans(values: Sequence[Any]) -> Packed:
    return Packed("?", memoryview(bytes(values)))


_PACK: dict[str, Callable[[Sequence[Any]], Packed]] = {
    "float": _pack_floats,
    "integer": _pack_integers,
    "boolean": _pack_booleans,
}


def _fold(values: list[Any] | Packed, pieces: list[memoryview]) -> Any:
    """Return plain values as they are, and of packed ones which pieces they are."""
    if not isinstance(values, Packed):
        return values
    places: list[int | None] = []
    for piece in (values.data, values.missing):
        places.append(None if piece is None else len(pieces))
        if piece is not None:
            pieces.append(memoryview(piece).cast("B"))
    return {
        "code": values.code,
        "order": values.order,
        "data": places[0],
        "missing": places[1],
    }


def _unfold(values: Any, pieces: list[memoryview]) -> Any:
    if isinstance(values, list):
        return values
    missing = values["missing"]
    return Packed(
        values["code"],
        pieces[values["data"]],
        None if missing is None else pieces[missing],
        values["order"],
    )
