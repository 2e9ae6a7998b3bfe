"""The slow path of a JSON body: value by value, to convert the unusual and to name the misfit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlserve_jupyter.api.layout import Layout
from mlserve_jupyter.api.strict_json import Duplicated, load_strictly
from mlserve_jupyter.api.value_check import Refused, describe
from mlserve_jupyter.errors import InvalidBody

FORMS = ("instances", "inputs", "dataframe_split", "dataframe_records")
"""The keys of a body, of which it has exactly one."""

_ENVELOPE = 'Send an object with exactly one of the keys "instances", "inputs", ' + (
    '"dataframe_split" and "dataframe_records", such as {"instances": [[1, 2]]}.'
)
_SPLIT_KEYS = {"columns", "data", "index"}
_SPARSE_KEYS = {"indices", "values", "size"}


def walk_body(body: bytes, layout: Layout) -> list[Any]:
    """Read a JSON body slowly.

    Returns
    -------
    list
        The rows (arbitrary values, hence ``Any``): of a table, sequences in the signature's order.

    Raises
    ------
    InvalidBody
        When it is not JSON, or not one of the four forms.
    SignatureMismatch
        When a value does not fit; names the row, the column, and what came.
    """
    envelope = load_strictly(body)
    if not isinstance(envelope, dict):
        raise InvalidBody(f"The body is {describe(envelope)}. {_ENVELOPE}")
    unknown = [key for key in envelope if key not in FORMS]
    if unknown:
        raise InvalidBody(f"The body has the unknown key {unknown[0]!r}. {_ENVELOPE}")
    if isinstance(envelope, Duplicated):
        raise InvalidBody(f"The body has the key {envelope.key!r} twice. {_ENVELOPE}")
    if len(envelope) != 1:
        keys = " and ".join(repr(key) for key in envelope)
        found = f"the keys {keys}" if envelope else "no key"
        raise InvalidBody(f"The body has {found}. {_ENVELOPE}")
    ((form, value),) = envelope.items()
    if form == "inputs" and isinstance(value, dict) and layout.accepts_names:
        rows = _columnar(value, layout)
        return [row[0] for row in rows] if layout.shape == "items" else rows
    if form in ("instances", "inputs"):
        return _instances(_listed(value, form), layout)
    if not layout.accepts_names:
        raise InvalidBody(
            f'"{form}" needs named columns, which this model\'s input does not have. '
            'Send "instances".'
        )
    if form == "dataframe_records":
        records = _listed(value, form)
        for i, record in enumerate(records):
            if not isinstance(record, dict):
                layout.refuse_row(i, "an object", describe(record))
        rows = [_record(i, record, layout) for i, record in enumerate(records)]
    else:
        rows = _split(value, layout)
    return [row[0] for row in rows] if layout.shape == "items" else rows


def _listed(value: Any, form: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidBody(f'"{form}" must be a list of rows, not {describe(value)}.')
    return value


def _instances(rows: list[Any], layout: Layout) -> list[Any]:
    if layout.shape == "items":
        return [_value(i, 0, value, layout) for i, value in enumerate(rows)]
    if layout.shape == "tensor":
        return [tensor_row(i, row, layout) for i, row in enumerate(rows)]
    return [table_row(i, row, layout, rows) for i, row in enumerate(rows)]


def table_row(i: int, row: Any, layout: Layout, rows: Sequence[Any] = ()) -> Any:
    """Check row ``i`` of a table; ``rows`` are all of them, to say what may have been meant.

    Raises
    ------
    SignatureMismatch
        When the row or a value does not fit.
    """
    sparse = layout.spec.container == "sparse"
    if isinstance(row, dict):
        if sparse and not (set(row) - _SPARSE_KEYS):
            return _sparse_row(i, row, layout)
        return _record(i, row, layout)
    if not isinstance(row, list):
        flat = i == 0 and not any(isinstance(value, (list, dict)) for value in rows)
        got = describe(row)
        if flat and len(rows) == len(layout.names):
            got += ", as if the list were one row: put it into one more pair of brackets"
        layout.refuse(i, None, got)
    if len(row) != len(layout.names):
        layout.refuse(i, None, describe(row))
    return [_value(i, j, value, layout) for j, value in enumerate(row)]


def _record(i: int, record: dict[str, Any], layout: Layout) -> list[Any]:
    if isinstance(record, Duplicated):
        layout.refuse_columns(
            f"column {record.key!r} came twice", record.key, "each column once", i
        )
    layout.positions(list(record), row=i)
    return [_value(i, j, record.get(name), layout) for j, name in enumerate(layout.names)]


def _columnar(value: dict[str, Any], layout: Layout) -> list[list[Any]]:
    """Turn ``{"a": [1, 3], "b": [2, 4]}`` into rows."""
    if isinstance(value, Duplicated):
        layout.refuse_columns(
            f"column {value.key!r} came twice", value.key, "each column once", None
        )
    layout.positions(list(value))
    lengths = {}
    for name, column in value.items():
        if not isinstance(column, list):
            raise InvalidBody(f'"inputs" has {describe(column)} as column {name!r}: send a list.')
        lengths[name] = len(column)
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name!r} {length}" for name, length in list(lengths.items())[:5])
        raise InvalidBody(f'The columns of "inputs" differ in length: {shown}.')
    n_rows = next(iter(lengths.values()), 0)
    columns = [value.get(name, [None] * n_rows) for name in layout.names]
    return [
        [_value(i, j, column[i], layout) for j, column in enumerate(columns)] for i in range(n_rows)
    ]


def _split(value: Any, layout: Layout) -> list[list[Any]]:
    shape = '{"columns": ["a", "b"], "data": [[1, 2]]}'
    if not isinstance(value, dict) or not {"columns", "data"} <= set(value) <= _SPLIT_KEYS:
        raise InvalidBody(f'"dataframe_split" must look like {shape} ("index" is ignored).')
    if isinstance(value, Duplicated):
        raise InvalidBody(f'"dataframe_split" has the key {value.key!r} twice.')
    names, data = value["columns"], value["data"]
    if not isinstance(names, list) or not all(isinstance(name, (str, int)) for name in names):
        raise InvalidBody(f'"columns" must be a list of names, as in {shape}.')
    positions = layout.positions([str(name) for name in names])
    rows = []
    for i, row in enumerate(_listed(data, "data")):
        if not isinstance(row, list) or len(row) != len(names):
            layout.refuse_row(i, f"a list of {len(names)} values", describe(row))
        rows.append(
            [
                None if position is None else _value(i, j, row[position], layout)
                for j, position in enumerate(positions)
            ]
        )
    return rows


def _sparse_row(i: int, row: dict[str, Any], layout: Layout) -> dict[str, Any]:
    if isinstance(row, Duplicated):
        layout.refuse_columns(f"key {row.key!r} came twice", row.key, "each key once", i)
    size = layout.row_shape[0]
    indices, values = row.get("indices"), row.get("values")
    if not isinstance(indices, list) or not isinstance(values, list):
        layout.refuse_row(i, "an object with the lists indices and values", "an object without")
    if row.get("size", size) != size:
        layout.refuse_row(i, f"the size {size}", describe(row["size"]))
    if len(indices) != len(values):
        layout.refuse_row(i, f"{len(indices)} values for as many indices", f"{len(values)}")
    for index in indices:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < size:
            layout.refuse_row(i, f"indices from 0 to {size - 1}", describe(index))
    columns = indices if layout.shape == "table" else [0] * len(indices)
    return {
        "indices": indices,
        "values": [_value(i, j, value, layout) for j, value in zip(columns, values, strict=True)],
        "size": size,
    }


def tensor_row(i: int, row: Any, layout: Layout) -> Any:
    """Check row ``i`` of nested arrays.

    Raises
    ------
    SignatureMismatch
        When its shape or an element does not fit.
    """
    if isinstance(row, dict) and layout.spec.container == "sparse":
        return _sparse_row(i, row, layout)
    return _nested(i, row, layout, layout.row_shape, ())


def _nested(
    i: int, value: Any, layout: Layout, shape: Sequence[int], index: tuple[int, ...]
) -> Any:
    if not shape:
        return _value(i, 0, value, layout, f", at {list(index)}")
    if not isinstance(value, list) or len(value) != shape[0]:
        layout.refuse(i, None, describe(value) + (f" at {list(index)}" if index else ""))
    return [
        _nested(i, item, layout, shape[1:], (*index, position))
        for position, item in enumerate(value)
    ]


def _value(i: int, j: int, value: Any, layout: Layout, where: str = "") -> Any:
    try:
        return layout.checks[j].admit(value)
    except Refused as refused:
        layout.refuse(i, j, refused.got, where)
