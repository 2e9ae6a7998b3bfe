"""A version's input as the wire sees it: rows of named columns, plain items, or nested arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NoReturn

from mlserve_jupyter.api.nearest import nearest_names
from mlserve_jupyter.api.packed import pack_batch, pack_rows, shared_column
from mlserve_jupyter.api.signature import InputBatch, InputSpec
from mlserve_jupyter.api.value_check import ValueCheck
from mlserve_jupyter.api.values import check_of
from mlserve_jupyter.errors import SignatureMismatch

ExtraColumns = Literal["refuse", "drop"]
Shape = Literal["table", "items", "tensor"]

_SHOWN_NAMES = 12


def shape_of(spec: InputSpec) -> Shape:
    """Return what rows of an input look like, see :class:`Layout`."""
    if spec.container in ("series", "list") or len(spec.shape) == 1:
        return "items"
    if spec.container != "dataframe" and (
        len(spec.shape) > 2 or len(spec.columns) != spec.shape[1]
    ):
        return "tensor"
    return "table"


class Layout:
    """What rows of the input look like, and how to say that they do not.

    Attributes
    ----------
    shape
        ``table``: each row has one value a column; ``items``: each row is one value; ``tensor``:
        each row is a nested list of the lengths ``row_shape``.
    names
        The names of the columns.
    checks
        One a column; of a tensor, one for all its elements.
    accepts_names
        Whether rows may come as objects, and columns by name.
    is_uniform
        Whether all values are numbers, or booleans, of one dtype.
    """

    def __init__(self, spec: InputSpec, extra_columns: ExtraColumns) -> None:
        self.spec = spec
        self.extra_columns = extra_columns
        self.names = tuple(column.name for column in spec.columns)
        self.checks: list[ValueCheck] = [check_of(column) for column in spec.columns]
        self.row_shape = tuple(size for size in spec.shape[1:] if size is not None)
        self.shape = shape_of(spec)
        self.accepts_names = self.shape != "tensor" and spec.container != "list"
        self._shared = shared_column(spec)
        self.is_uniform = self._shared is not None
        self._index = {name: position for position, name in enumerate(self.names)}
        self._unchecked = [i for i, check in enumerate(self.checks) if check.has_rest]

    def positions(self, names: Sequence[str], row: int | None = None) -> list[int | None]:
        """Say where in ``names`` each column of the signature stands; None where it may be missing.

        Raises
        ------
        SignatureMismatch
            When a column is there twice, is needed and missing, or is not known.
        """
        found: dict[str, int] = {}
        for position, name in enumerate(names):
            if name in found:
                self.refuse_columns(f"column {name!r} came twice", name, "each column once", row)
            if name not in self._index and self.extra_columns == "refuse":
                near = nearest_names(name, self.names)
                meant = f" (did you mean {near[0]!r}?)" if near else ""
                self.refuse_columns(
                    f"column {name!r} is not one of the model's{meant}, which are "
                    f"{self._shown_names()}",
                    name,
                    "a column of the model",
                    row,
                )
            found[name] = position
        for name, check in zip(self.names, self.checks, strict=True):
            if name not in found and not check.nullable:
                near = nearest_names(name, (came for came in found if came not in self._index))
                meant = f"; {near[0]!r}, which came, is not one of the model's" if near else ""
                self.refuse_columns(
                    f"column {name!r} is missing, and had no missing values in the sample{meant}",
                    name,
                    check.expected,
                    row,
                )
        return [found.get(name) for name in self.names]

    def rest_holds(self, rows: Sequence[Any]) -> bool:
        """Check of decoded rows what msgspec could not."""
        if not self._unchecked:
            return True
        if self.shape == "items":
            return self.checks[0].holds(rows)
        if self.shape == "tensor":
            return False
        return all(self.checks[i].holds([row[i] for row in rows]) for i in self._unchecked)

    def batch(self, rows: Sequence[Any]) -> InputBatch:
        """Bring checked rows into the form that workers read."""
        container = self.spec.container
        if self.shape == "items" and container != "list":
            return InputBatch(n_rows=len(rows), columns=[list(rows)])
        if container == "dataframe":
            columns = [list(values) for values in zip(*rows, strict=True)]
            return InputBatch(n_rows=len(rows), columns=columns or [[] for _ in self.names])
        return InputBatch(n_rows=len(rows), rows=list(rows))

    def packed_batch(self, rows: Sequence[Any]) -> InputBatch:
        """Bring checked rows into the form that workers read fastest."""
        if self._shared is not None and rows:
            packed = pack_rows(rows, self.spec, self._shared)
            if packed is not None:
                return InputBatch(n_rows=len(rows), rows=packed)
        return pack_batch(self.batch(rows), self.spec)

    def refuse(self, row: int, column: int | None, got: str, where: str = "") -> NoReturn:
        """Raise the mismatch of one value.

        Parameters
        ----------
        row
            Row, from 0.
        column
            Position of the column in the signature; None where the row itself is at fault.
        got
            What came, in words.
        where
            Further whereabouts, such as the index within a nested list or the line of a CSV file.
        """
        if column is None:
            self.refuse_row(row, self._row_expected(), got, where)
        check = self.checks[column]
        name = self.names[column] if self.accepts_names else None
        place = f"row {row}{where}" + (f", column {name!r}" if name is not None else "")
        hint = ""
        if got in ("null", "NaN", "an empty field") and not check.nullable:
            hint = (
                " The sample had no missing values there; to allow them, deploy again with a "
                "sample that has one (in a dtype that can, such as Int64 or boolean)."
            )
        elif self.spec.columns[column].kind == "integer" and got.startswith("the number"):
            hint = (
                " The sample had integers only; to take fractions too, deploy again with a sample "
                "in which they are float."
            )
        raise SignatureMismatch(
            f"{place}: expected {check.expected}, got {got}.{hint}",
            row=row,
            column=name,
            expected=check.expected,
            got=got,
        )

    def refuse_row(self, row: int | None, expected: str, got: str, where: str = "") -> NoReturn:
        """Raise the mismatch of a whole row, or of the whole input."""
        place = "" if row is None else f"row {row}{where}: "
        raise SignatureMismatch(
            f"{place}expected {expected}, got {got}.",
            row=row,
            column=None,
            expected=expected,
            got=got,
        )

    def refuse_columns(self, message: str, column: str, expected: str, row: int | None) -> NoReturn:
        """Raise the mismatch of a column as such."""
        place = "" if row is None else f"row {row}: "
        raise SignatureMismatch(
            f"{place}{message}.",
            row=row,
            column=column,
            expected=expected,
            got=f"column {column!r}" if "missing" not in message else "no such column",
        )

    def _row_expected(self) -> str:
        if self.shape == "items":
            return self.checks[0].expected
        if self.shape == "tensor":
            lengths = " × ".join(str(size) for size in self.row_shape)
            return f"a nested list of the shape {lengths}"
        n_columns = len(self.names)
        values = f"{n_columns} value{'' if n_columns == 1 else 's'}"
        if self.spec.container == "sparse":
            return f"a list of {values}, or an object with indices, values and size"
        return f"a list of {values} ({self._shown_names()}), or an object with these keys"

    def _shown_names(self) -> str:
        shown = ", ".join(repr(name) for name in self.names[:_SHOWN_NAMES])
        more = len(self.names) - _SHOWN_NAMES
        return shown + (f" and {more} more" if more > 0 else "")
