"""Takes columns out of a predict body before it goes to the prediction log."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import msgspec

_SPARSE = {"indices", "values", "size"}


class _NotKnown(Exception):
    """A body, or a row, in which columns cannot be told apart."""


def without_columns(body: bytes, names: Sequence[str], without: Set[str]) -> bytes | None:
    """Return a JSON predict body without some columns.

    Parameters
    ----------
    body
        As the log would keep it; one that the model has answered.
    names
        The columns in the order of rows without names.
    without
        Those that are to go.

    Returns
    -------
    bytes or None
        In a form that the predict route takes, but for what is missing. None where it cannot be
        told what belongs to which column: then nothing of it may be kept.
    """
    try:
        content = msgspec.json.decode(body)
        if not isinstance(content, dict) or len(content) != 1:
            return None
        [(form, value)] = content.items()
        return msgspec.json.encode(_redacted(form, value, names, without))
    except (
        _NotKnown,
        msgspec.DecodeError,
        UnicodeDecodeError,
        RecursionError,
        LookupError,
        TypeError,
    ):
        return None


def _redacted(form: str, value: Any, names: Sequence[str], without: Set[str]) -> Any:
    """Return a body of one of the forms of the predict route, any JSON, hence ``Any``."""
    match form, value:
        case "dataframe_split", {"columns": [*columns], "data": [*rows]}:
            kept = [i for i, name in enumerate(columns) if name not in without]
            return _split([columns[i] for i in kept], [_picked(row, kept, columns) for row in rows])
        case "inputs", {**by_name}:
            return {form: {name: of for name, of in by_name.items() if name not in without}}
        case "instances" | "inputs" | "dataframe_records", [*rows]:
            if rows and all(isinstance(row, list) for row in rows):
                kept = [i for i, name in enumerate(names) if name not in without]
                data = [_picked(row, kept, names) for row in rows]
                return _split([names[i] for i in kept], data)
            return {form: [_without(row, names, without) for row in rows]}
    raise _NotKnown


def _split(columns: Sequence[str], data: list[list[Any]]) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": data}}


def _picked(row: Any, kept: Sequence[int], names: Sequence[str]) -> list[Any]:
    """Return some values of a row without names."""
    if not isinstance(row, list) or len(row) != len(names):
        raise _NotKnown
    return [row[i] for i in kept]


def _without(row: Any, names: Sequence[str], without: Set[str]) -> Any:
    """Return a row that is an object, or a single value."""
    if isinstance(row, list):
        raise _NotKnown
    if not isinstance(row, dict):
        if len(names) != 1 or names[0] in without:
            raise _NotKnown
        return row
    if row.keys() == _SPARSE:
        pairs = [
            (index, value)
            for index, value in zip(row["indices"], row["values"], strict=False)
            if names[index] not in without
        ]
        return {
            "indices": [index for index, _ in pairs],
            "values": [value for _, value in pairs],
            "size": row["size"],
        }
    return {name: value for name, value in row.items() if name not in without}
