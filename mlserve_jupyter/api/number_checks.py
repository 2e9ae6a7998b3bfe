"""What columns of numbers admit: ranges by dtype, exact digits, and the floats that JSON lacks."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from mlserve_jupyter.api.signature import Column
from mlserve_jupyter.api.strict_json import Real
from mlserve_jupyter.api.value_check import Refused, ValueCheck, describe

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""The strings that stand for the floats that JSON lacks."""

_FLOAT_BITS = re.compile(r"(?:float|[<>=]?f)(\d+)", re.IGNORECASE)
_INTEGER_BITS = re.compile(r"(u?)int(\d+)|[<>=](u|i)(\d)", re.IGNORECASE)
_DECIMAL = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII)
_SHORT_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
LARGEST_FLOAT = {16: 65504.0, 32: 3.4028234663852886e38}
"""By bits."""


class FloatCheck(ValueCheck):
    """Numbers; the non-finite ones as strings."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        bits = _FLOAT_BITS.search(column.dtype)
        self.limit = LARGEST_FLOAT.get(int(bits.group(1)) if bits else 64)
        if bits and bits.group(1) in ("2", "4"):
            self.limit = LARGEST_FLOAT[int(bits.group(1)) * 8]
        self.expected = "a number" if self.limit is None else f"a number within ±{self.limit:.5g}"
        self.wire_type = (
            float
            if self.limit is None
            else Annotated[float, msgspec.Meta(ge=-self.limit, le=self.limit)]
        )

    def _admit(self, value: Any) -> Any:
        if isinstance(value, str) and value in NON_FINITE:
            if value == "NaN" and not self.nullable:
                raise Refused("NaN")
            return NON_FINITE[value]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Refused(describe(value))
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isinf(number) or (self.limit is not None and abs(number) > self.limit):
            raise Refused(f"{describe(value)}, which is out of range")
        return number

    def from_text(self, text: str) -> Any:
        """Convert a field such as ``1.5``, ``1e-3``, ``NaN`` or ``inf``."""
        if self.limit is None and _DECIMAL.fullmatch(text):
            number = float(text)
            if math.isfinite(number):
                return number
        stripped = text.strip()
        named = {"nan": "NaN", "inf": "Infinity", "infinity": "Infinity"}.get(
            stripped.lstrip("+-").lower()
        )
        if named is not None:
            return self.admit(("-" if stripped[0] == "-" and named != "NaN" else "") + named)
        try:
            if "_" in stripped:
                raise ValueError(stripped)
            return self.admit(Real(stripped))
        except ValueError:
            raise Refused(describe(text)) from None


class IntegerCheck(ValueCheck):
    """Integers within the dtype's range; 3.0 counts as 3."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self.low, self.high = _integer_range(column.dtype)
        self.expected = "an integer"
        self.wire_type = int
        if self.low is not None and self.high is not None:
            self.expected += f" from {self.low} to {self.high}" if self.high < 2**31 else ""
            self.has_rest = self.high >= 2**63
            self.wire_type = Annotated[
                int, msgspec.Meta(ge=self.low, le=None if self.has_rest else self.high)
            ]

    def holds(self, values: Sequence[Any]) -> bool:
        """Check the upper bound of unsigned 64-bit integers, which msgspec cannot."""
        high = self.high
        return high is None or all(value is None or value <= high for value in values)

    def _admit(self, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Refused(describe(value))
        number = whole(value)
        if number is None and math.isfinite(value):
            raise Refused(describe(value))
        if (
            number is None
            or (self.low is not None and number < self.low)
            or (self.high is not None and number > self.high)
        ):
            raise Refused(f"{describe(value)}, which is out of range")
        return number

    def from_text(self, text: str) -> Any:
        """Convert a field such as ``3``, ``-3`` or ``3.0``."""
        if _SHORT_INTEGER.fullmatch(text):
            return self.admit(int(text))
        stripped = text.strip()
        try:
            if "_" in stripped:
                raise ValueError(stripped)
            return self.admit(Real(stripped))
        except ValueError:
            raise Refused(describe(text)) from None


def whole(value: int | float) -> int | None:
    """Give a number as an integer by all its digits; None where it has a fraction."""
    if isinstance(value, int):
        return value
    if math.isinf(value):
        return None
    exact = Decimal(value.text) if isinstance(value, Real) else Decimal(value)
    return int(exact) if exact == exact.to_integral_value() else None


def _integer_range(dtype: str) -> tuple[int | None, int | None]:
    match = _INTEGER_BITS.search(dtype)
    if match is None:
        return None, None
    unsigned = (match.group(1) or match.group(3) or "").lower() == "u"
    bits = int(match.group(2)) if match.group(2) else int(match.group(4)) * 8
    return (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
