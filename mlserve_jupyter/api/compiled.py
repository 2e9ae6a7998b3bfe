"""What the record of a version says of its compiled graph."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Finish = Literal["array", "labels", "sigmoid", "softmax", "softmax_by_column"]


class CompiledMethod(msgspec.Struct, frozen=True, kw_only=True):
    """A method that the graph answers.

    Attributes
    ----------
    finish
        What the server does with the graph's output of the method's name: encode it as it is, look
        up the classes, or apply a logistic function.
    classes
        Of ``labels``, in their JSON form, hence ``Any``.
    has_certain
        Whether the graph says which rows must be left to the model itself.
    is_exact
        Whether its numbers are the model's own by the way that they are computed, also where a
        row comes in other company.
    max_difference
        The largest difference of a number that was found, relative to the number or to 1 if that
        is more; 0.0 means equal bit for bit.
    n_left
        How many of the rows that were compared are left to the model.
    """

    finish: Finish
    classes: list[Any] | None = None
    has_certain: bool = False
    is_exact: bool = False
    max_difference: float = 0.0
    n_left: int = 0


class CompiledRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What was compiled and verified, and what runs natively and why.

    Attributes
    ----------
    methods
        Those that the graph answers.
    native
        By method, why the model itself answers it.
    sha256, size_bytes
        Of ``model.onnx``; empty and 0 where there is none.
    n_rows
        Rows on which each method's answers were compared: the sample, rows at and next to the
        trees' thresholds, and extreme values.
    n_thresholds
        Thresholds that the model has.
    takes_nan, max_abs
        Rows with a missing value, where it takes none, and rows with a larger number are left to
        the model itself.
    made_with
        Versions of what verified it.
    """

    methods: dict[str, CompiledMethod] = {}
    native: dict[str, str] = {}
    sha256: str = ""
    size_bytes: int = 0
    n_rows: int = 0
    n_thresholds: int = 0
    takes_nan: bool = False
    max_abs: float = 0.0
    made_with: dict[str, str] = {}
