"""Cells of CSV files (RFC 4180) that are safe in a spreadsheet.

What an attacker has put into a name, a path or a text must neither be a formula for the spreadsheet
that opens the file (OWASP, CSV Injection) nor begin a line of its own.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from datetime import datetime

import msgspec

Value = str | int | float | datetime | msgspec.Raw | None

_FORMULA = re.compile(r"\s*[=+\-@|%＝＋－＠]|[\t\r\n]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_JSON_SPACE = str.maketrans("\t\r\n", "   ")


def csv_line(cells: Iterable[str]) -> bytes:
    """Return a line of cells that are safe already."""
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(cells)
    return line.getvalue().encode()


def csv_cell(value: Value) -> str:
    """Return a value as a cell; what is missing, and JSON's null, is empty."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case datetime():
            return value.isoformat()
        case msgspec.Raw():
            # Between values these are blanks; within a text JSON has escapes for them.
            text = bytes(value).decode().translate(_JSON_SPACE)
            return "" if text == "null" else _safe(text)
        case _:
            return _safe(value)


def _safe(text: str) -> str:
    is_formula = _FORMULA.match(text) is not None
    text = _CONTROL.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
    return "'" + text if is_formula else text
