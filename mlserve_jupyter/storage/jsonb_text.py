"""JSON in the form in which PostgreSQL's ``jsonb`` takes it.

It refuses what other JSON readers take: the character NUL and half a surrogate pair in a string,
and numbers with more digits than its ``numeric`` has. An exponent that it does take becomes as many
digits when it is read. One such value would have a whole batch refused.
"""

from __future__ import annotations

import math
import re

_LONG_NUMBER_CHARS = 1000
"""A float has no more than some 770 digits that count, and an exponent of no more than three."""

_ODD_NUMBER = re.compile(rf"[0-9.][eE][+-]?\d{{4}}|(?<!\d)\d{{{_LONG_NUMBER_CHARS}}}")
_STRING_OR_NUMBER = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[-0-9][-+.0-9eE]*')
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<refused>u0000|u[dD][89a-fA-F]..)|.)"
)
_LONG_EXPONENT = re.compile(r"[eE][+-]?\d{4}")


def as_jsonb_takes(text: str) -> str:
    """Return JSON with what ``jsonb`` refuses replaced.

    Characters become U+FFFD. Numbers become what they are as a float, or null where that is
    infinite. All else stays as it is, to the letter.
    """
    if "\\u" in text:
        text = _ESCAPE.sub(_storable_escape, text)
    if _ODD_NUMBER.search(text):
        text = _STRING_OR_NUMBER.sub(_storable_number, text)
    return text


def _storable_escape(found: re.Match[str]) -> str:
    return found[0] if found["refused"] is None else "\\ufffd"


def _storable_number(found: re.Match[str]) -> str:
    number = found[0]
    if number[0] == '"' or not (len(number) >= _LONG_NUMBER_CHARS or _LONG_EXPONENT.search(number)):
        return number
    value = float(number)
    return repr(value) if math.isfinite(value) else "null"
