"""Events of the audit log as lines of a file: JSON Lines, or CSV that is safe in a spreadsheet.

What an attacker has put into a name or a path must neither be a formula for the spreadsheet that
opens the file (OWASP, CSV Injection) nor begin a line of its own.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

import msgspec

from mlserve_jupyter.api.audit import DescribeEvent

_COLUMNS = DescribeEvent.__struct_fields__
_FORMULA = re.compile(r"\s*[=+\-@|%＝＋－＠]|[\t\r\n]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def csv_header() -> bytes:
    """Return the first line of a CSV file."""
    return _csv_line(_COLUMNS)


def csv_lines(events: Iterable[DescribeEvent]) -> bytes:
    """Return events as lines of CSV (RFC 4180), whose cells no spreadsheet takes for formulas."""
    return b"".join(_csv_line([_cell(event, name) for name in _COLUMNS]) for event in events)


def json_lines(events: Iterable[DescribeEvent]) -> bytes:
    """Return events as a line of JSON each, in ASCII but for letters."""
    lines = [msgspec.json.encode(event) for event in events]
    # Separators of lines to some readers, though not to JSON; inside strings, where alone they
    # can be, an escape stands for the same.
    return b"".join(
        line.replace(b"\xe2\x80\xa8", b"\\u2028")
        .replace(b"\xe2\x80\xa9", b"\\u2029")
        .replace(b"\xc2\x85", b"\\u0085")
        + b"\n"
        for line in lines
    )


def _cell(event: DescribeEvent, name: str) -> str:
    value = getattr(event, name)
    if value is None:
        return ""
    if isinstance(value, msgspec.Raw):
        text = bytes(value).decode()
    else:
        text = value if isinstance(value, str) else value.isoformat()
    is_formula = _FORMULA.match(text) is not None
    text = _CONTROL.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
    return "'" + text if is_formula else text


def _csv_line(cells: Iterable[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(cells)
    return line.getvalue().encode()
