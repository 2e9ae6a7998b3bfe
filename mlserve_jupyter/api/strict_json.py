"""JSON read without a schema and without mercy: the slow path, which can say where a fault is."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from mlserve_jupyter.errors import InvalidBody

MAX_DEPTH = 100
"""How deep the values of a body may be nested."""

_KEY = re.compile(rb'"[ \t\r\n]*:')


class Real(float):
    """A number with a fraction or an exponent, which remembers its digits in ``text``."""

    text: str

    def __new__(cls, text: str) -> Real:
        """Read the digits."""
        number = super().__new__(cls, text)
        number.text = text
        return number


class Duplicated(dict[str, Any]):
    """An object in which ``key`` came more than once."""

    key: str = ""


def load_strictly(body: bytes) -> Any:
    """Read any JSON (hence ``Any``): :class:`Real` for floats, :class:`Duplicated` for bad objects.

    Raises
    ------
    InvalidBody
        When the body is not JSON in UTF-8; the message names the line and the column.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidBody(
            f"The body is not UTF-8: byte {error.start} is 0x{body[error.start]:02x}.",
            position=error.start,
        ) from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=Real,
            parse_int=_integer,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        raise InvalidBody(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
            position=error.pos,
        ) from None
    except RecursionError:
        raise _too_deep() from None
    if is_deep(value):
        raise _too_deep()
    return value


def count_keys(body: bytes) -> int:
    """Count the object keys of a JSON body; never too few, and rarely too many."""
    return len(_KEY.findall(body))


def is_deep(value: Any) -> bool:
    """Tell whether a JSON value is nested deeper than :data:`MAX_DEPTH`."""
    level: list[Any] = [value] if isinstance(value, (list, dict)) else []
    for _ in range(MAX_DEPTH + 1):
        if not level:
            return False
        level = [
            item
            for parent in level
            for item in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(item, (list, dict))
        ]
    return True


def plain(value: Any) -> Any:
    """Turn what :func:`load_strictly` gave into plain Python values.

    Raises
    ------
    ValueError
        With the reason, for a number out of range, a lone surrogate or a duplicate key.
    """
    if isinstance(value, Real):
        if math.isinf(value):
            raise ValueError(f"the number {value.text}, which is out of range")
        return float(value)
    if isinstance(value, str):
        return checked_text(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Duplicated):
        raise ValueError(f"an object with the key {value.key!r} twice")
    if isinstance(value, dict):
        return {checked_text(key): plain(item) for key, item in value.items()}
    return value


def checked_text(text: str) -> str:
    """Return ``text`` if UTF-8 can carry it.

    Raises
    ------
    ValueError
        When it has a lone surrogate.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a string with half of a surrogate pair") from None
    return text


def _too_deep() -> InvalidBody:
    return InvalidBody(
        f"The body is nested too deep; {MAX_DEPTH} levels are allowed.", max_depth=MAX_DEPTH
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    duplicated = Duplicated(found)
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            duplicated.key = key
            break
        seen.add(key)
    return duplicated


def _integer(text: str) -> int | Real:
    try:
        return int(text)
    except ValueError:
        # More digits than Python reads; as a float it is out of every range.
        return Real(text)


def _refuse_constant(name: str) -> Any:
    raise InvalidBody(
        f'The body is not JSON: {name} stands bare in it. Send it as a string: "{name}".'
    )
