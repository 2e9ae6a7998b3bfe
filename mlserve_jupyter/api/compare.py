"""Compare two answers exactly: what the notebook said, and what a worker says."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import Any

_SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class Comparison:
    """How two JSON values differ.

    Attributes
    ----------
    equal
        Whether they are the same: integers in all digits, floats bit for bit, keys in any order.
    max_abs_difference
        0.0 where they are equal; the largest absolute difference of two numbers where all else
        agrees; infinity where something else differs.
    max_difference
        The same, but of each difference relative to the larger of the two numbers, or to 1 if that
        is more; infinity where integers differ, since they are labels as often as not.
    where
        The place of the first difference of another kind, else that of the largest difference,
        such as ``predictions[3][0]``; None where they are equal.
    expected, got
        What stands there, shortened.
    """

    equal: bool
    max_abs_difference: float = 0.0
    max_difference: float = 0.0
    where: str | None = None
    expected: str | None = None
    got: str | None = None


def compare_answers(expected: bytes, got: bytes) -> Comparison:
    """Compare two JSON values, the second of which should be as the first.

    Parameters
    ----------
    expected, got
        JSON in UTF-8, such as the value of ``predictions``.
    """
    if expected == got:
        return Comparison(equal=True)
    largest, largest_scaled, found = 0.0, 0.0, None
    equal = True
    pending: list[tuple[str, Any, Any]] = [("predictions", json.loads(expected), json.loads(got))]
    while pending:
        where, left, right = pending.pop()
        if type(left) is not type(right):
            return _different(where, left, right)
        if isinstance(left, list):
            if len(left) != len(right):
                return _different(where, f"{len(left)} values", f"{len(right)} values")
            members = [
                (f"{where}[{i}]", a, b) for i, (a, b) in enumerate(zip(left, right, strict=True))
            ]
            pending.extend(reversed(members))
        elif isinstance(left, dict):
            if left.keys() != right.keys():
                return _different(where, f"the keys {list(left)}", f"the keys {list(right)}")
            pending.extend((f"{where}[{key!r}]", left[key], right[key]) for key in left)
        elif not _same(left, right):
            if isinstance(left, bool) or not isinstance(left, (int, float)):
                return _different(where, left, right)
            equal = False
            difference = _difference(left, right)
            scaled = (
                difference / max(abs(left), abs(right), 1.0)
                if isinstance(left, float)
                else math.inf
            )
            largest_scaled = max(largest_scaled, scaled)
            if difference > largest or found is None:
                largest, found = max(largest, difference), (where, left, right)
    if equal or found is None:
        return Comparison(equal=True)
    return Comparison(False, largest, largest_scaled, found[0], _shown(found[1]), _shown(found[2]))


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, float):
        return struct.pack("<d", left) == struct.pack("<d", right)
    return bool(left == right)


def _difference(left: int | float, right: int | float) -> float:
    try:
        difference = abs(float(left - right))
    except OverflowError:
        return math.inf
    return difference


def _different(where: str, expected: Any, got: Any) -> Comparison:
    return Comparison(False, math.inf, math.inf, where, _shown(expected), _shown(got))


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
