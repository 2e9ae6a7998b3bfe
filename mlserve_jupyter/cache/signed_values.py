"""Values that others may write to where they lie: nothing of one is read before it is verified.

A value carries a tag, which only servers with the same secret can make, and which is good for one
key and one expiry. So whoever writes there can take values away, and can make up none.
"""

from __future__ import annotations

import hmac
import struct

_TAG_BYTES = 32
_HEAD = struct.Struct(">Id")
"""How long the key is, so that no part of it passes for a value, and when the value ends."""

_EXPIRY = struct.Struct(">d")

OVERHEAD_BYTES = _TAG_BYTES + _EXPIRY.size
"""By how much a signed value is longer."""


class SignedValues:
    """Signs values and verifies them, by HMAC-SHA256 (RFC 2104).

    Parameters
    ----------
    secret
        What all who may write values have, and nobody else.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, key: str, value: bytes, expires_at_s: float) -> bytes:
        """Return a value with its expiry, in seconds since 1970, and its tag."""
        return self._tag(key, expires_at_s, value) + _EXPIRY.pack(expires_at_s) + value

    def verify(self, key: str, signed: bytes) -> tuple[bytes, float] | None:
        """Return the value and its expiry, or None if it was not signed so and for this key."""
        if len(signed) < OVERHEAD_BYTES:
            return None
        expires_at_s: float = _EXPIRY.unpack_from(signed, _TAG_BYTES)[0]
        value = signed[OVERHEAD_BYTES:]
        if not hmac.compare_digest(signed[:_TAG_BYTES], self._tag(key, expires_at_s, value)):
            return None
        return value, expires_at_s

    def _tag(self, key: str, expires_at_s: float, value: bytes) -> bytes:
        named = key.encode()
        message = b"".join((_HEAD.pack(len(named), expires_at_s), named, value))
        return hmac.digest(self._secret, message, "sha256")
