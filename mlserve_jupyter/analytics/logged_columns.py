"""Reads the columns of a call out of what the prediction log keeps of its body."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence, Set
from typing import Any

import msgspec

from mlserve_jupyter.api.signature import InputSpec

_SPARSE = {"indices", "values", "size"}
_NO_COLUMNS: Mapping[str, list[Any]] = {}


class ColumnReader:
    """Reads bodies of one version.

    Parameters
    ----------
    spec
        What the version takes.
    wanted
        Names of the columns to read.
    """

    def __init__(self, spec: InputSpec, wanted: Set[str]) -> None:
        self._names = [column.name for column in spec.columns]
        self._positions = {name: i for i, name in enumerate(self._names) if name in wanted}
        self._is_sparse = spec.container == "sparse"
        self._has_items = spec.container == "list" or len(spec.shape) == 1
        self._is_table = self._has_items or (
            len(spec.shape) == 2 and len(spec.columns) in (1, spec.shape[1])
        )

    def read(self, body: bytes) -> Mapping[str, list[Any]]:
        """Return values by column, in the JSON form of an input; None is a missing one.

        Parameters
        ----------
        body
            A body that the model has answered, perhaps without some columns.

        Returns
        -------
        mapping
            Empty where the body is none whose columns are read here. A column that the body does
            not have is all missing.
        """
        if not self._positions or not self._is_table:
            return _NO_COLUMNS
        try:
            return self._columns(msgspec.json.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
            return _NO_COLUMNS

    def _columns(self, content: Any) -> Mapping[str, list[Any]]:
        if isinstance(content, str):
            return self._of_csv(content)
        if not isinstance(content, dict) or len(content) != 1:
            return _NO_COLUMNS
        [(form, value)] = content.items()
        if form == "dataframe_split":
            return self._of_rows(value["data"], [str(name) for name in value["columns"]])
        if form not in ("instances", "inputs", "dataframe_records"):
            return _NO_COLUMNS
        if isinstance(value, dict):
            n_rows = len(next(iter(value.values()), ()))
            return {name: value.get(name) or [None] * n_rows for name in self._positions}
        if not value:
            return _NO_COLUMNS
        first = value[0]
        if self._is_sparse and isinstance(first, dict) and first.keys() <= _SPARSE:
            return self._of_sparse(value)
        if isinstance(first, dict) and not self._is_item(first):
            return {name: [row.get(name) for row in value] for name in self._positions}
        if self._has_items:
            return {self._names[0]: value}
        return self._of_rows(value, self._names)

    def _is_item(self, row: dict[str, Any]) -> bool:
        """Whether an object is a value and not a row."""
        return self._has_items and row.keys() != {self._names[0]}

    def _of_rows(self, rows: Sequence[Any], names: Sequence[str]) -> Mapping[str, list[Any]]:
        places = {name: i for i, name in enumerate(names)}
        if any(len(row) != len(names) for row in rows):
            return _NO_COLUMNS
        columns = {}
        for name in self._positions:
            place = places.get(name)
            columns[name] = [None if place is None else row[place] for row in rows]
        return columns

    def _of_sparse(self, rows: Sequence[Any]) -> Mapping[str, list[Any]]:
        found = [dict(zip(row["indices"], row["values"], strict=True)) for row in rows]
        return {
            name: [row.get(position, 0) for row in found]
            for name, position in self._positions.items()
        }

    def _of_csv(self, text: str) -> Mapping[str, list[Any]]:
        """Read CSV as the predict route does, roughly: fields are numbers where they look so."""
        lines = [line for line in csv.reader(io.StringIO(text)) if line]
        if not lines:
            return _NO_COLUMNS
        names = self._names
        if set(lines[0]) & set(names):
            names = lines.pop(0)
        return {
            name: [_field(value) for value in values]
            for name, values in self._of_rows(lines, names).items()
        }


def _field(text: Any) -> str | float | bool | None:
    if not text:
        return None
    if text.lower() in ("true", "false"):
        return bool(text.lower() == "true")
    try:
        return float(text)
    except ValueError:
        return str(text)
