"""Text for a terminal or a plain output, whoever wrote it: what would steer them is spelled out."""

from __future__ import annotations

import re

# Of the control characters of ASCII and Latin-1 all but tab and newline; separators of lines and
# overrides of the direction of writing, by which a text shows otherwise than it reads; and half
# surrogate pairs, which no output takes.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def plain(text: str) -> str:
    r"""Spell out what steers a terminal, such as ``\u001b`` for the escape character.

    The spelling is that of Python and of JSON. Newlines and tabs stay.
    """
    return _STEERING.sub(lambda found: rf"\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """Spell out newlines and tabs as well, for a text that others follow on the same line."""
    return plain(text).replace("\n", r"\n").replace("\t", r"\t")
