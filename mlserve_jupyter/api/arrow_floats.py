"""The plainest Arrow stream, read in place: one batch of floating-point columns, nothing missing.

This is what most callers send, and reading it needs a few offsets. It happens where a body arrives,
without pyarrow, whose parsers are C++ and run in a process of their own for everything else. Every
offset is one that a body may lie about: each is checked, by ``struct`` or here, and whatever is not
as expected is left to pyarrow, which also finds the words for what is wrong.

References
----------
Apache Arrow, *Columnar format*, "Serialization and Interprocess Communication (IPC)"; the tables'
fields stand in ``Schema.fbs`` and ``Message.fbs`` of its sources. FlatBuffers, *Internals*.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import lru_cache

from mlserve_jupyter.api.layout import Layout
from mlserve_jupyter.api.number_checks import LARGEST_FLOAT, FloatCheck
from mlserve_jupyter.api.packed import shared_column
from mlserve_jupyter.api.signature import InputBatch, Packed

MAX_SCHEMA_BYTES = 32 * 1024
"""A longer schema is left to pyarrow; those that were read are kept, and must not take much."""

MAX_COLUMNS = 512

_CONTINUATION = 0xFFFFFFFF
_END_OF_STREAM = struct.pack("<Ii", _CONTINUATION, 0)
_SCHEMA, _RECORD_BATCH = 1, 3
_LITTLE_ENDIAN = 0
_FLOATING_POINT = 3
_CODES = {1: "f4", 2: "f8"}
_INDEX = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True)
class FloatColumns:
    """Columns of one floating-point type, as they lie in a body.

    Attributes
    ----------
    names
        One a column.
    code
        numpy's code of their type, ``f4`` or ``f8``.
    columns
        The bytes of ``n_rows`` numbers each.
    """

    n_rows: int
    names: tuple[str, ...]
    code: str
    columns: tuple[memoryview, ...]


def read_float_columns(body: bytes) -> FloatColumns | None:
    """Read an Arrow stream of one uncompressed batch; None of any other body.

    Parameters
    ----------
    body
        As it came.
    """
    view = memoryview(body)
    try:
        schema, begin = _metadata(view, 0)
        if len(schema) > MAX_SCHEMA_BYTES:
            return None
        fields = _read_fields(bytes(schema))
        if fields is None:
            return None
        batch, begin = _metadata(view, begin)
        return _read_batch(batch, view[begin:], *fields)
    except (struct.error, IndexError, UnicodeDecodeError, _Unusual):
        return None


def batch_of_floats(found: FloatColumns, layout: Layout) -> InputBatch | None:
    """Check columns and bring them into the form that workers read; None of what does not fit.

    Raises
    ------
    SignatureMismatch
        When a column is not known, or is missing.
    """
    shared = shared_column(layout.spec)
    if shared is None or shared.kind != "float" or layout.shape != "table":
        return None
    limit = layout.checks[0].limit if isinstance(layout.checks[0], FloatCheck) else None
    if limit == LARGEST_FLOAT[16] or found.code != ("f8" if limit is None else "f4"):
        return None
    positions = layout.positions(found.names)
    columns = [found.columns[position] for position in positions if position is not None]
    if len(columns) < len(positions):
        return None
    try:
        import numpy as np
    except ModuleNotFoundError:
        return None
    data: bytes | memoryview = b"".join(columns)
    numbers = np.frombuffer(data, dtype=found.code)
    if not all(check.nullable for check in layout.checks) and np.isnan(numbers).any():
        return None
    if layout.spec.order == "C":
        by_row = numbers.reshape(len(columns), found.n_rows).T
        data = np.ascontiguousarray(by_row).reshape(-1).view(np.uint8).data
    return InputBatch(found.n_rows, rows=Packed(found.code, data, order=layout.spec.order))


class _Unusual(Exception):
    """Something that only pyarrow can make sense of."""


class _Table:
    """A table of FlatBuffers: fields that are found by their number, each there or not."""

    def __init__(self, data: memoryview | bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._fields_at = at - _signed(data, at)
        if self._fields_at < 0:
            raise _Unusual
        self._n_bytes = _u16(data, self._fields_at)

    def place(self, field: int) -> int | None:
        """Return where a field lies; None where it has its default."""
        entry = 4 + 2 * field
        offset = _u16(self._data, self._fields_at + entry) if entry < self._n_bytes else 0
        return self._at + offset if offset else None

    def has(self, field: int) -> bool:
        """Tell whether a field is there."""
        return self.place(field) is not None

    def number(self, field: int, form: struct.Struct) -> int:
        """Return an integer; its default is 0."""
        place = self.place(field)
        return 0 if place is None else int(form.unpack_from(self._data, place)[0])

    def target(self, field: int) -> int:
        """Return where a field points to."""
        place = self.place(field)
        if place is None:
            raise _Unusual
        return place + _u32(self._data, place)

    def table(self, field: int) -> _Table:
        """Return the table that a field points to."""
        return _Table(self._data, self.target(field))

    def vector(self, field: int) -> tuple[int, int]:
        """Return where the items of a vector begin, and how many there are."""
        target = self.target(field)
        return target + 4, _u32(self._data, target)


_I16, _U8, _I64 = struct.Struct("<h"), struct.Struct("<B"), struct.Struct("<q")
_PAIR = struct.Struct("<qq")


def _u16(data: memoryview | bytes, at: int) -> int:
    return int(struct.unpack_from("<H", data, at)[0])


def _u32(data: memoryview | bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _signed(data: memoryview | bytes, at: int) -> int:
    return int(struct.unpack_from("<i", data, at)[0])


def _metadata(view: memoryview, at: int) -> tuple[memoryview, int]:
    """Return a message's metadata, and where what follows begins."""
    continuation, n_bytes = struct.unpack_from("<Ii", view, at)
    end = at + 8 + n_bytes
    if continuation != _CONTINUATION or n_bytes <= 0 or end > len(view):
        raise _Unusual
    return view[at + 8 : end], end


def _message(metadata: memoryview | bytes, kind: int) -> tuple[_Table, int]:
    """Return what a message of a kind says, and the size of its body."""
    message = _Table(metadata, _u32(metadata, 0))
    if message.number(1, _U8) != kind:
        raise _Unusual
    return message.table(2), message.number(3, _I64)


@lru_cache(maxsize=64)
def _read_fields(metadata: bytes) -> tuple[tuple[str, ...], str] | None:
    """Return the columns' names and their one type; None where they have several, or another."""
    schema, n_body_bytes = _message(metadata, _SCHEMA)
    if n_body_bytes or schema.number(0, _I16) != _LITTLE_ENDIAN:
        return None
    first, n_fields = schema.vector(1)
    if n_fields > MAX_COLUMNS:
        return None
    names, codes = [], set()
    for i in range(n_fields):
        place = first + 4 * i
        field = _Table(metadata, place + _u32(metadata, place))
        begin, n_bytes = field.vector(0)
        name = metadata[begin : begin + n_bytes]
        is_plain = (
            field.number(2, _U8) == _FLOATING_POINT
            and not field.has(4)  # a dictionary
            and not (field.has(5) and field.vector(5)[1])  # children
            and not (field.has(6) and field.vector(6)[1])  # metadata, such as an extension's name
        )
        if not is_plain or len(name) != n_bytes:
            return None
        names.append(name.decode())
        codes.add(_CODES.get(field.table(3).number(0, _I16), ""))
    if len(codes) != 1 or "" in codes or any(map(_INDEX.fullmatch, names)):
        return None
    return tuple(names), codes.pop()


def _read_batch(
    metadata: memoryview, rest: memoryview, names: tuple[str, ...], code: str
) -> FloatColumns | None:
    """Find the columns of the one batch in what follows its metadata."""
    batch, n_body_bytes = _message(metadata, _RECORD_BATCH)
    n_rows = batch.number(0, _I64)
    is_whole = 0 <= n_body_bytes <= len(rest) and rest[n_body_bytes:] in (b"", _END_OF_STREAM)
    if not is_whole or n_rows < 1 or batch.has(3) or batch.has(4):  # compressed, or of views
        return None
    first_node, n_nodes = batch.vector(1)
    first_buffer, n_buffers = batch.vector(2)
    if n_nodes != len(names) or n_buffers != 2 * len(names):
        return None
    body = rest[:n_body_bytes]
    n_bytes = n_rows * int(code[1])
    if n_bytes * len(names) > n_body_bytes:  # columns that share bytes would take more in memory
        return None
    columns = []
    for i in range(len(names)):
        node = _PAIR.unpack_from(metadata, first_node + _PAIR.size * i)
        # The first of a column's two buffers says what is missing: nothing is.
        begin, size = _PAIR.unpack_from(metadata, first_buffer + _PAIR.size * (2 * i + 1))
        if node != (n_rows, 0) or begin < 0 or size < n_bytes or begin + size > n_body_bytes:
            return None
        columns.append(body[begin : begin + n_bytes])
    return FloatColumns(n_rows, names, code, tuple(columns))
