"""Wire types as lines of JSON (https://jsonlines.org)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

_BLANKS = bytes.maketrans(b"\t\r\n", b"   ")


def json_lines(items: Iterable[msgspec.Struct]) -> bytes:
    """Return wire types as a line of JSON each."""
    # JSON that was taken as it came may have line ends between its values. Separators of lines to
    # some readers, though not to JSON, are inside of strings, where an escape stands for the same.
    return b"".join(
        msgspec.json.encode(item)
        .translate(_BLANKS)
        .replace(b"\xe2\x80\xa8", b"\\u2028")
        .replace(b"\xe2\x80\xa9", b"\\u2029")
        .replace(b"\xc2\x85", b"\\u0085")
        + b"\n"
        for item in items
    )
