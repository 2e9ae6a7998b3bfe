"""CSV bodies by RFC 4180: a header row unless it is said to be absent, then one row a line."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from mlserve_jupyter.api.layout import Layout
from mlserve_jupyter.api.value_check import Refused
from mlserve_jupyter.errors import InvalidBody, SignatureMismatch, UnsupportedMediaType


def read_csv(body: bytes, layout: Layout, *, has_header: bool) -> list[Any]:
    """Decode and check a CSV body.

    Returns
    -------
    list
        The rows (arbitrary values, hence ``Any``): of a table, lists in the signature's order.

    Raises
    ------
    InvalidBody
        When it is not CSV in UTF-8, or has no header row.
    SignatureMismatch
        When a field does not fit; names the row, the line and the column.
    UnsupportedMediaType
        When rows of this model are no rows of a table.
    """
    nested = len(layout.spec.shape) > 2 or (
        layout.spec.container == "list" and layout.spec.columns[0].kind == "any"
    )
    if nested or (has_header and layout.shape == "tensor"):
        raise UnsupportedMediaType(
            "This model's rows are nested, which CSV cannot carry: send application/json."
            if nested
            else "This model's columns have no names: send text/csv; header=absent, or JSON.",
            accepted=["application/json"] if nested else ["text/csv; header=absent"],
        )
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidBody(
            f"The CSV body is not UTF-8: byte {error.start} is 0x{body[error.start]:02x}.",
            position=error.start,
        ) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        return _rows(reader, layout, has_header)
    except csv.Error as error:
        raise InvalidBody(
            f"The body is not CSV: {error} (line {reader.line_num}).", line=reader.line_num
        ) from None


def _rows(reader: Any, layout: Layout, has_header: bool) -> list[Any]:
    n_columns = layout.row_shape[0] if layout.shape == "tensor" else len(layout.names)
    positions: Sequence[int | None] = range(n_columns)
    n_fields = n_columns
    if has_header:
        header = next(reader, None)
        if header is None:
            raise InvalidBody(
                "The CSV body is empty. It begins with the names of the columns, unless the "
                "content type is text/csv; header=absent."
            )
        positions, n_fields = _positions(layout, header), len(header)
    rows: list[Any] = []
    for fields in reader:
        if not fields:
            if n_fields > 1:
                continue
            fields = [""]
        where = f" (line {reader.line_num})"
        if len(fields) != n_fields:
            layout.refuse_row(len(rows), f"{n_fields} fields", f"{len(fields)}", where)
        rows.append(_row(fields, positions, layout, len(rows), where))
    return [row[0] for row in rows] if layout.shape == "items" else rows


def _positions(layout: Layout, header: list[str]) -> list[int | None]:
    """Find the columns in the first line, or say how to send CSV without such a line."""
    try:
        return layout.positions(header)
    except SignatureMismatch as error:
        if set(header) & set(layout.names):
            raise
        raise SignatureMismatch(
            f"{error.message} The first line names the columns: where it already holds values, say "
            "so with the content type text/csv; header=absent.",
            **error.details,
        ) from None


def _row(
    fields: list[str], positions: Sequence[int | None], layout: Layout, i: int, where: str
) -> list[Any]:
    row: list[Any] = []
    for j, position in enumerate(positions):
        column = 0 if layout.shape == "tensor" else j
        check = layout.checks[column]
        try:
            if position is None:
                row.append(None)
            elif fields[position] == "":
                row.append(check.from_empty())
            else:
                row.append(check.from_text(fields[position]))
        except Refused as refused:
            layout.refuse(i, column, refused.got, where)
    return row
