"""New primary keys. Rooms pass ids on in the form that URLs have: 36 lower-case characters."""

from __future__ import annotations

import os
import time


def new_id() -> str:
    """Return a new UUID of version 7 (RFC 9562, 5.7): its first 48 bits are the time in ms.

    Keys that grow with time keep inserts at one end of the index, however many rows there are.
    """
    return new_ids(1)[0]


def new_ids(n: int) -> list[str]:
    """Return new UUIDs that grow from one to the next: their random part counts on."""
    unix_ms = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    # The uppermost random bit is left free, so that counting on never runs over.
    high, low = random >> 68, random & (2**61 - 1)
    first = (unix_ms & (2**48 - 1)) << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low
    digits = (f"{number:032x}" for number in range(first, first + n))
    return [f"{d[:8]}-{d[8:12]}-{d[12:16]}-{d[16:20]}-{d[20:]}" for d in digits]
