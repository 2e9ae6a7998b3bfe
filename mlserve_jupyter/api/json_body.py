"""The fast path of a JSON body: decoded and checked in C, by types that are made of the signature.

Whatever these types do not take goes to :mod:`mlserve_jupyter.api.json_walk`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from mlserve_jupyter.api.json_walk import walk_body
from mlserve_jupyter.api.layout import Layout
from mlserve_jupyter.api.strict_json import count_keys

_SPACE = b" \t\r\n"
_KEPT_ORDERS = 32


class _Envelope(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    instances: msgspec.Raw = msgspec.Raw()
    inputs: msgspec.Raw = msgspec.Raw()
    dataframe_split: msgspec.Raw = msgspec.Raw()
    dataframe_records: msgspec.Raw = msgspec.Raw()


class _Split(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    columns: list[str | int]
    data: msgspec.Raw
    index: msgspec.Raw = msgspec.Raw()


class _Unfit(Exception):
    """The fast path does not take this body."""


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_SPLIT = msgspec.json.Decoder(_Split)


class JsonBody:
    """Reads the JSON bodies of one signature."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._types = [
            check.wire_type | None if check.nullable else check.wire_type for check in layout.checks
        ]
        self._sparse = layout.spec.container == "sparse"
        rows = _list_of(self._row_type())
        self._lists = msgspec.json.Decoder(rows)
        # A type that is made at run time has no members that mypy knows of, hence ``Any``.
        self._whole: Any = msgspec.json.Decoder(
            msgspec.defstruct("Instances", [("instances", rows)], forbid_unknown_fields=True)
        )
        self._objects = None if self._sparse else self._record_decoder()
        self._split_decoder = lru_cache(maxsize=_KEPT_ORDERS)(self._make_split_decoder)

    def rows(self, body: bytes) -> list[Any]:
        """Decode and check a body.

        Returns
        -------
        list
            The rows (arbitrary values, hence ``Any``): of a table, sequences in the signature's
            order.

        Raises
        ------
        InvalidBody
            When it is not JSON, or not one of the four forms.
        SignatureMismatch
            When a value does not fit.
        """
        rows = self.rows_at_speed(body)
        return walk_body(body, self._layout) if rows is None else rows

    def rows_at_speed(self, body: bytes) -> list[Any] | None:
        """Decode and check a body as :meth:`rows` does; None where that takes the slow path."""
        try:
            rows, n_keys = self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _Unfit):
            return None
        # A key that comes twice shows only in the count, since decoders keep the last one.
        if body.count(b":") != n_keys and count_keys(body) != n_keys:
            return None
        return rows if self._layout.rest_holds(rows) else None

    def _decode(self, body: bytes) -> tuple[list[Any], int]:
        if not self._sparse:
            # The most usual form, in one go.
            with contextlib.suppress(msgspec.DecodeError):
                return self._whole.decode(body).instances, 1
        envelope = _ENVELOPE.decode(body)
        forms = (
            envelope.instances,
            envelope.inputs,
            envelope.dataframe_records,
            envelope.dataframe_split,
        )
        sent = [i for i, raw in enumerate(forms) if len(memoryview(raw))]
        if len(sent) != 1:
            raise _Unfit
        form, raw = sent[0], forms[sent[0]]
        if form == 3:
            return self._decode_split(raw)
        first = bytes(memoryview(raw)[:64]).lstrip(_SPACE)[1:].lstrip(_SPACE)[:1]
        if form == 2 or (first == b"{" and self._layout.shape == "table"):
            return self._decode_records(raw)
        rows = self._lists.decode(raw)
        n_keys = 1
        if self._sparse:
            n_keys += self._settle_sparse(rows)
        return rows, n_keys

    def _decode_records(self, raw: msgspec.Raw) -> tuple[list[Any], int]:
        if self._objects is None:
            raise _Unfit
        rows = [msgspec.structs.astuple(record) for record in self._objects.decode(raw)]
        n_keys = 1 + len(rows) * len(self._types)
        if any(check.nullable for check in self._layout.checks):
            left_out = [row.count(msgspec.UNSET) for row in rows]
            n_keys -= sum(left_out)
            rows = [
                tuple(None if value is msgspec.UNSET else value for value in row) if n else row
                for row, n in zip(rows, left_out, strict=True)
            ]
        return self._unwrapped(rows), n_keys

    def _decode_split(self, raw: msgspec.Raw) -> tuple[list[Any], int]:
        if not self._layout.accepts_names:
            raise _Unfit
        split = _SPLIT.decode(raw)
        names = tuple(str(name) for name in split.columns)
        n_keys = 4 if len(memoryview(split.index)) else 3
        if names == self._layout.names and self._layout.shape == "table" and not self._sparse:
            return self._lists.decode(split.data), n_keys
        decoder, positions = self._split_decoder(names)
        rows = [
            tuple(None if position is None else row[position] for position in positions)
            for row in decoder.decode(split.data)
        ]
        return self._unwrapped(rows), n_keys

    def _unwrapped(self, rows: list[Any]) -> list[Any]:
        return [row[0] for row in rows] if self._layout.shape == "items" else rows

    def _make_split_decoder(
        self, names: tuple[str, ...]
    ) -> tuple[msgspec.json.Decoder[Any], Sequence[int | None]]:
        positions = self._layout.positions(names)
        types: list[Any] = [Any] * len(names)
        for position, wire_type in zip(positions, self._types, strict=True):
            if position is not None:
                types[position] = wire_type
        return msgspec.json.Decoder(_list_of(_tuple_of(types))), positions

    def _row_type(self) -> Any:
        layout = self._layout
        if layout.shape == "items":
            return self._types[0]
        if layout.shape == "table":
            row: Any = _tuple_of(self._types)
        else:
            row = self._types[0]
            for size in reversed(layout.row_shape):
                row = Annotated[_list_of(row), msgspec.Meta(min_length=size, max_length=size)]
        return row | self._sparse_row_type() if self._sparse else row

    def _sparse_row_type(self) -> Any:
        size = self._layout.row_shape[0]
        index = Annotated[int, msgspec.Meta(ge=0, lt=size)]
        return msgspec.defstruct(
            "SparseRow",
            [
                ("indices", _list_of(index)),
                ("values", _list_of(self._types[0])),
                ("size", int, size),
            ],
            forbid_unknown_fields=True,
        )

    def _settle_sparse(self, rows: list[Any]) -> int:
        """Turn sparse rows into dicts in place; return the number of their keys."""
        size, n_keys = self._layout.row_shape[0], 0
        for i, row in enumerate(rows):
            if isinstance(row, msgspec.Struct):
                fields = msgspec.structs.asdict(row)
                if fields["size"] != size or len(fields["indices"]) != len(fields["values"]):
                    raise _Unfit
                rows[i] = fields
                n_keys += 3
        return n_keys

    def _record_decoder(self) -> msgspec.json.Decoder[Any] | None:
        """Make the decoder of rows that are objects; None where a name cannot be a field's."""
        layout = self._layout
        if not layout.accepts_names:
            return None
        fields: list[Any] = []
        rename: dict[str, str] = {}
        for i, (name, wire_type) in enumerate(zip(layout.names, self._types, strict=True)):
            if '"' in name or "\\" in name or any(character < " " for character in name):
                return None
            rename[f"f{i}"] = name
            if layout.checks[i].nullable:
                fields.append((f"f{i}", wire_type | msgspec.UnsetType, msgspec.UNSET))
            else:
                fields.append((f"f{i}", wire_type))
        record = msgspec.defstruct(
            "Record",
            fields,
            rename=rename,
            kw_only=True,
            forbid_unknown_fields=layout.extra_columns == "refuse",
        )
        return msgspec.json.Decoder(_list_of(record))


# Types that are made at run time are values to mypy, hence ``Any``.


def _list_of(item: Any) -> Any:
    return list.__class_getitem__(item)


def _tuple_of(items: Sequence[Any]) -> Any:
    return tuple.__class_getitem__(tuple(items))
