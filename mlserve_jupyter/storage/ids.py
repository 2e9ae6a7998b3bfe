"""New primary keys. Rooms pass ids on in the form that URLs have: 36 lower-case characters."""

from __future__ import annotations

import os
import time
from uuid import UUID


def new_id() -> str:
    """Return a new UUID of version 7 (RFC 9562, 5.7): its first 48 bits are the time in ms.

    Keys that grow with time keep inserts at one end of the index, however many rows there are.
    """
    unix_ms = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    high, low = random >> 68, random & (2**62 - 1)
    number = (unix_ms & (2**48 - 1)) << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low
    return str(UUID(int=number))
