"""What one column admits: the type that msgspec checks in C, and the words for a misfit.

Each kind of column has one :class:`ValueCheck`. Its ``wire_type`` and ``holds`` decide about whole
bodies at speed; ``admit`` takes one value, slowly, and knows what was expected of it.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Sequence
from datetime import date, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import msgspec

from mlserve_jupyter.api.iso8601 import (
    fits_unit,
    is_aware,
    parse_datetime_ns,
    parse_duration_ns,
    unit_of,
)
from mlserve_jupyter.api.signature import Column
from mlserve_jupyter.api.strict_json import Real, checked_text, is_deep, plain

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""The strings that stand for the floats that JSON lacks."""

_FLOAT_BITS = re.compile(r"(?:float|[<>=]?f)(\d+)", re.IGNORECASE)
_INTEGER_BITS = re.compile(r"(u?)int(\d+)|[<>=](u|i)(\d)", re.IGNORECASE)
_LARGEST_FLOAT = {16: 65504.0, 32: 3.4028234663852886e38}
_SHOWN_CATEGORIES = 10
_SHOWN_CHARACTERS = 80


class Refused(Exception):
    """A value that a column does not admit.

    Parameters
    ----------
    got
        What came, in words.
    """

    def __init__(self, got: str) -> None:
        super().__init__(got)
        self.got = got


class ValueCheck:
    """What a column admits beyond null; a subclass a kind.

    Values are arbitrary JSON, hence ``Any`` throughout.

    Attributes
    ----------
    wire_type
        The type that msgspec decodes and checks in C.
    expected
        What should come, in words.
    has_rest
        Whether ``holds`` checks anything that ``wire_type`` leaves open.
    """

    wire_type: Any = Any
    expected: str = "any value"
    has_rest: bool = False

    def __init__(self, column: Column) -> None:
        self.nullable = column.nullable

    def holds(self, values: Sequence[Any]) -> bool:
        """Check what ``wire_type`` leaves open, for a whole column of decoded values."""
        return True

    def admit(self, value: Any) -> Any:
        """Convert one value as :func:`strict_json.load_strictly` gave it.

        Raises
        ------
        Refused
            When it does not fit.
        """
        if value is None:
            if self.nullable:
                return None
            raise Refused("null")
        return self._admit(value)

    def from_text(self, text: str) -> Any:
        """Convert one CSV field that is not empty.

        Raises
        ------
        Refused
            When it does not fit.
        """
        return self.admit(text)

    def from_empty(self) -> Any:
        """Convert an empty CSV field: a missing value where the column may have one.

        Raises
        ------
        Refused
            When it may not.
        """
        if self.nullable:
            return None
        raise Refused("an empty field")

    def _admit(self, value: Any) -> Any:
        raise NotImplementedError


class FloatCheck(ValueCheck):
    """Numbers; the non-finite ones as strings."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        bits = _FLOAT_BITS.search(column.dtype)
        self.limit = _LARGEST_FLOAT.get(int(bits.group(1)) if bits else 64)
        if bits and bits.group(1) in ("2", "4"):
            self.limit = _LARGEST_FLOAT[int(bits.group(1)) * 8]
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
        number = _whole(value)
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
        stripped = text.strip()
        try:
            if "_" in stripped:
                raise ValueError(stripped)
            return self.admit(Real(stripped))
        except ValueError:
            raise Refused(describe(text)) from None


class BooleanCheck(ValueCheck):
    """true and false."""

    wire_type = bool
    expected = "true or false"

    def _admit(self, value: Any) -> Any:
        if not isinstance(value, bool):
            raise Refused(describe(value))
        return value

    def from_text(self, text: str) -> Any:
        """Convert ``true`` or ``false`` in any case."""
        lowered = text.strip().lower()
        if lowered not in ("true", "false"):
            raise Refused(describe(text))
        return lowered == "true"


class StringCheck(ValueCheck):
    """Strings."""

    wire_type = str
    expected = "a string"

    def _admit(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise Refused(describe(value))
        try:
            return checked_text(value)
        except ValueError as error:
            raise Refused(str(error)) from None

    def from_empty(self) -> Any:
        """Convert an empty field: missing, or the empty string where nothing may be missing."""
        return None if self.nullable else ""


class ParsedCheck(ValueCheck):
    """Strings of a syntax of their own, such as datetimes; they travel on as strings."""

    wire_type = str
    has_rest = True

    def __init__(self, column: Column, expected: str, parse: Callable[[str], object]) -> None:
        super().__init__(column)
        self.expected = expected
        self._parse = parse

    def holds(self, values: Sequence[Any]) -> bool:
        """Parse every value."""
        try:
            for value in values:
                if value is not None:
                    self._parse(value)
        except (ValueError, InvalidOperation):
            return False
        return True

    def _admit(self, value: Any) -> Any:
        if not isinstance(value, str) or not self.holds([value]):
            raise Refused(describe(value))
        return value


class CategoryCheck(ValueCheck):
    """One of a fixed set of values."""

    has_rest = True

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        categories = column.categories or ()
        self._by_text = {str(value): value for value in categories}
        self._allowed = set(categories) | ({None} if self.nullable else set())
        types = {type(value) for value in categories}
        self.wire_type = types.pop() if len(types) == 1 else Any
        shown = ", ".join(repr(value) for value in categories[:_SHOWN_CATEGORIES])
        more = f", … ({len(categories)} in all)" if len(categories) > _SHOWN_CATEGORIES else ""
        self.expected = f"one of the categories {shown}{more}"

    def holds(self, values: Sequence[Any]) -> bool:
        """Check membership."""
        try:
            return self._allowed.issuperset(values)
        except TypeError:
            return False

    def _admit(self, value: Any) -> Any:
        converted = float(value) if isinstance(value, Real) else value
        if isinstance(converted, float) and self.wire_type is int:
            converted = _whole(value)
        if isinstance(converted, int) and not isinstance(converted, bool):
            converted = float(converted) if self.wire_type is float else converted
        if self.wire_type is not Any and type(converted) is not self.wire_type:
            raise Refused(describe(value))
        if not self.holds([converted]):
            raise Refused(describe(value))
        return converted

    def from_text(self, text: str) -> Any:
        """Convert a field that is written as the category is."""
        if text in self._by_text:
            return self._by_text[text]
        if self.wire_type in (int, float):
            try:
                return self.admit(Real(text))
            except ValueError:
                raise Refused(describe(text)) from None
        raise Refused(describe(text))


class BytesCheck(ValueCheck):
    """Bytes as ``{"base64": "…"}``."""

    expected = 'bytes, as {"base64": "…"}'
    has_rest = True

    def holds(self, values: Sequence[Any]) -> bool:
        """Decode every value."""
        return all((v is None and self.nullable) or _is_base64(v) for v in values)

    def _admit(self, value: Any) -> Any:
        if not _is_base64(value):
            raise Refused(describe(value))
        return value


class AnyCheck(ValueCheck):
    """Whatever JSON can say."""

    has_rest = True

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self.expected = "any value" if self.nullable else "any value but null"

    def holds(self, values: Sequence[Any]) -> bool:
        """Look for nulls and for values that are nested too deep."""
        for value in values:
            if value is None and not self.nullable:
                return False
            if isinstance(value, (list, dict)) and is_deep(value):
                return False
        return True

    def _admit(self, value: Any) -> Any:
        try:
            return plain(value)
        except ValueError as error:
            raise Refused(str(error)) from None


def check_of(column: Column) -> ValueCheck:
    """Choose the check of a column."""
    if column.item == "bytes" or re.match(r"[<>|=]?S\d+$", column.dtype):
        return BytesCheck(column)
    if column.item in _ITEM_SYNTAX:
        return ParsedCheck(column, *_ITEM_SYNTAX[column.item])
    if column.kind == "datetime":
        return _datetime_check(column)
    if column.kind == "timedelta":
        unit = unit_of(column.dtype)
        return ParsedCheck(
            column,
            f"a duration such as P1DT2H30M, in whole {unit}",
            lambda text: _require(fits_unit(parse_duration_ns(text), unit)),
        )
    return _BY_KIND[column.kind](column)


def describe(value: Any) -> str:
    """Put a JSON value in words, shortened."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {'true' if value else 'false'}"
    if isinstance(value, Real):
        return f"the number {_short(value.text)}"
    if isinstance(value, int):
        return f"the integer {_short(str(value))}"
    if isinstance(value, float):
        return f"the number {value!r}"
    if isinstance(value, str):
        return f"the string {_short(value)!r}"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)} value{'' if len(value) == 1 else 's'}"
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"


def _datetime_check(column: Column) -> ParsedCheck:
    if column.item is not None:
        size = 1_000 if column.item == "datetime" else 1
        return ParsedCheck(
            column,
            "a datetime such as 2024-05-01T12:30:00",
            lambda text: _require(parse_datetime_ns(text)[0] % size == 0),
        )
    unit, aware = unit_of(column.dtype), is_aware(column.dtype)
    expected = (
        "a datetime with an offset, such as 2024-05-01T12:30:00+02:00"
        if aware
        else "a datetime without an offset, such as 2024-05-01T12:30:00"
    )

    def parse(text: str) -> None:
        count_ns, has_offset = parse_datetime_ns(text)
        _require(has_offset == aware and fits_unit(count_ns, unit))

    return ParsedCheck(column, f"{expected}, that a datetime64[{unit}] can hold", parse)


def _require(fits: bool) -> None:
    if not fits:
        raise ValueError


def _duration_us(text: str) -> None:
    microseconds, rest = divmod(parse_duration_ns(text), 1_000)
    _require(rest == 0)
    try:
        timedelta(microseconds=microseconds)
    except OverflowError:
        raise ValueError(text) from None


def _duration_ns(text: str) -> None:
    _require(fits_unit(parse_duration_ns(text), "ns"))


_ITEM_SYNTAX: dict[str, tuple[str, Callable[[str], object]]] = {
    "Decimal": ("a decimal number as a string, such as '12.50'", Decimal),
    "date": ("a date such as 2024-05-01", date.fromisoformat),
    "time": ("a time such as 12:30:00", time.fromisoformat),
    "timedelta": ("a duration such as P1DT2H30M", _duration_us),
    "Timedelta": ("a duration such as P1DT2H30M", _duration_ns),
}

_BY_KIND: dict[str, type[ValueCheck]] = {
    "float": FloatCheck,
    "integer": IntegerCheck,
    "boolean": BooleanCheck,
    "string": StringCheck,
    "category": CategoryCheck,
    "any": AnyCheck,
}


def _integer_range(dtype: str) -> tuple[int | None, int | None]:
    match = _INTEGER_BITS.search(dtype)
    if match is None:
        return None, None
    unsigned = (match.group(1) or match.group(3) or "").lower() == "u"
    bits = int(match.group(2)) if match.group(2) else int(match.group(4)) * 8
    return (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _whole(value: int | float) -> int | None:
    if isinstance(value, int):
        return value
    if math.isinf(value):
        return None
    exact = Decimal(value.text) if isinstance(value, Real) else Decimal(value)
    return int(exact) if exact == exact.to_integral_value() else None


def _is_base64(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"base64"}:
        return False
    try:
        base64.b64decode(value["base64"], validate=True)
    except (TypeError, ValueError, binascii.Error):
        return False
    return True


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
