"""Takes columns out of a predict body before it goes to the prediction log.

It knows as little of a body as is needed, and what the decoders take in further ways than those it
knows is left out whole. Kept are only columns of the signature, so that no reading of a body which
differs from the decoders' can let another one through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from mlserve_jupyter.api.log_policy import LoggedAs

_SPARSE = {"indices", "values", "size"}


class _NotKnown(Exception):
    """A body, or a row, in which columns cannot be told apart."""


def without_columns(body: bytes, policy: LoggedAs) -> bytes | None:
    """Return a JSON predict body without the columns that a policy leaves out.

    Parameters
    ----------
    body
        As the log would keep it; one that the model has answered.
    policy
        Of the version that answered.

    Returns
    -------
    bytes or None
        In a form that the predict route takes, but for what is missing. None where it cannot be
        told what belongs to which column: then nothing of it may be kept.
    """
    kept = [i for i, name in enumerate(policy.names) if name not in policy.without]
    if policy.shape == "tensor" or (policy.shape == "items" and not kept):
        return None
    try:
        content = msgspec.json.decode(body)
        if not isinstance(content, dict) or len(content) != 1:
            return None
        [(form, value)] = content.items()
        return msgspec.json.encode(_Redaction(policy, kept).redacted(form, value))
    except (_NotKnown, msgspec.DecodeError, ValueError, RecursionError, LookupError, TypeError):
        return None


class _Redaction:
    """What is kept of the bodies of one version; their values are any JSON, hence ``Any``."""

    def __init__(self, policy: LoggedAs, kept: Sequence[int]) -> None:
        self._policy = policy
        self._names = policy.names
        self._kept = kept
        self._kept_names = [policy.names[i] for i in kept]

    def redacted(self, form: str, value: Any) -> dict[str, Any]:
        """Return a body of one of the forms of the predict route."""
        match form, value:
            case "dataframe_split", {"columns": [*columns], "data": [*rows]}:
                return self._of_split(columns, rows)
            case "dataframe_records", [*rows]:
                return {form: [self._record(row) for row in rows]}
            case "inputs", {**by_name}:
                return {form: self._record(by_name)}
            case (("instances" | "inputs"), [*rows]) if self._policy.shape == "items":
                return {form: [_item(row) for row in rows]}
            case (("instances" | "inputs"), [*rows]):
                if rows and all(isinstance(row, list) for row in rows):
                    n_names = len(self._names)
                    data = [_picked(row, self._kept, n_names) for row in rows]
                    return _split(self._kept_names, data)
                return {form: [self._row(row) for row in rows]}
        raise _NotKnown

    def _of_split(self, columns: list[Any], rows: list[Any]) -> dict[str, Any]:
        if not all(isinstance(name, str | int) for name in columns):
            raise _NotKnown
        # Decoders take a name that is a number, true or false for its text.
        names = [str(name) for name in columns]
        kept = [i for i, name in enumerate(names) if name in self._kept_names]
        return _split([names[i] for i in kept], [_picked(row, kept, len(names)) for row in rows])

    def _record(self, record: Any) -> dict[str, Any]:
        if not isinstance(record, dict):
            raise _NotKnown
        return {name: record[name] for name in self._kept_names if name in record}

    def _row(self, row: Any) -> dict[str, Any]:
        """Return a row of a table that is an object."""
        if self._policy.is_sparse and isinstance(row, dict) and not row.keys() - _SPARSE:
            return self._sparse_row(row)
        return self._record(row)

    def _sparse_row(self, row: dict[str, Any]) -> dict[str, Any]:
        size = len(self._names)
        indices, values = row["indices"], row["values"]
        if row.get("size", size) != size or len(indices) != len(values):
            raise _NotKnown
        if any(type(index) is not int or not 0 <= index < size for index in indices):
            raise _NotKnown
        kept = set(self._kept)
        pairs = [pair for pair in zip(indices, values, strict=True) if pair[0] in kept]
        return {
            "indices": [index for index, _ in pairs],
            "values": [value for _, value in pairs],
            "size": size,
        }


def _item(value: Any) -> Any:
    """Return a row that is one value, if no columns can be within it."""
    if isinstance(value, list | dict):
        raise _NotKnown
    return value


def _picked(row: Any, kept: Sequence[int], n_names: int) -> list[Any]:
    """Return some values of a row without names."""
    if not isinstance(row, list) or len(row) != n_names:
        raise _NotKnown
    return [row[i] for i in kept]


def _split(columns: Sequence[str], data: list[list[Any]]) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": data}}
