"""The part that all columns share in deciding what they admit, and the words for what came."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from mlserve_jupyter.api.signature import Column
from mlserve_jupyter.api.strict_json import Real

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


class ValueCheck(ABC):
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

    @abstractmethod
    def _admit(self, value: Any) -> Any:
        """Convert a value that is neither null nor missing."""


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


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
