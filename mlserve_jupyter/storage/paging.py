"""Pages of a list and the opaque cursors between them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from mlserve_jupyter.errors import InvalidRequest

MAX_LIMIT = 1000
MAX_INTEGER = 2**57
"""Of a position: a version, or a time in microseconds until the year 6500."""

Item = TypeVar("Item")
Position = TypeVar("Position")


@dataclass(frozen=True)
class Page(Generic[Item]):
    """A part of a list, and the cursor of the next part; None at the end."""

    items: tuple[Item, ...]
    next_cursor: str | None = None


def encode_cursor(position: tuple[str | int, ...]) -> str:
    """Return the cursor that stands for ``position``, the sort key of a page's last item."""
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def decode_cursor(cursor: str, position_type: type[Position]) -> Position:
    """Return the position that ``cursor`` stands for.

    Raises
    ------
    InvalidRequest
        It did not come from a page of this list.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        position = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=position_type)
        parts = position if isinstance(position, tuple) else (position,)
        if any(isinstance(part, int) and not 0 <= part <= MAX_INTEGER for part in parts):
            raise ValueError("out of range")
        return position
    except (ValueError, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise InvalidRequest(
            "cursor is not one that this list gave: leave it out to begin at the first page.",
        ) from error


def check_limit(limit: int) -> int:
    """Return ``limit`` if it can be the size of a page.

    Raises
    ------
    InvalidRequest
        It is not in 1 to 1000.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit must be in 1 to {MAX_LIMIT}, not {limit}.")
    return limit
