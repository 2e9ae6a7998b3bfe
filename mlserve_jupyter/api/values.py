"""What one column admits: the check of each kind, chosen by :func:`check_of`.

Its ``wire_type`` and ``holds`` decide about whole bodies at speed; ``admit`` takes one value,
slowly, and knows what was expected of it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Sequence
from datetime import date, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from mlserve_jupyter.api.iso8601 import (
    fits_unit,
    is_aware,
    parse_datetime_ns,
    parse_duration_ns,
    unit_of,
)
from mlserve_jupyter.api.number_checks import FloatCheck, IntegerCheck, whole
from mlserve_jupyter.api.signature import Column
from mlserve_jupyter.api.strict_json import Real, checked_text, is_deep, plain
from mlserve_jupyter.api.value_check import Refused, ValueCheck, describe

_SHOWN_CATEGORIES = 10


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
        if isinstance(value, Real) and self.wire_type is int:
            converted = whole(value)
        is_number = isinstance(converted, (int, float)) and not isinstance(converted, bool)
        fits = self.wire_type is Any or type(converted) is self.wire_type
        if not (fits or (is_number and self.wire_type is float)) or not self.holds([converted]):
            raise Refused(describe(value))
        return converted if fits else float(converted)

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


def _is_base64(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"base64"}:
        return False
    try:
        base64.b64decode(value["base64"], validate=True)
    except (TypeError, ValueError, binascii.Error):
        return False
    return True
