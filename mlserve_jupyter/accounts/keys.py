"""Keys: ``mls_<id>_<secret>_<crc32>``, of which only the sha256 is ever kept.

The checksum lets a mistyped key be refused without looking anything up.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import zlib
from dataclasses import dataclass

KEY_PREFIX = "mls_"
_ID_BYTES = 6
_SECRET_BYTES = 24  # 192 random bits


@dataclass(frozen=True)
class KeyRecord:
    """What is kept of a key.

    Attributes
    ----------
    key_id
        The public part, by which the key is found.
    sha256
        Hex digest of the whole key.
    """

    key_id: str
    sha256: str


def make_key() -> tuple[str, KeyRecord]:
    """Make a key; it is shown once, the record is what stays."""
    body = f"{KEY_PREFIX}{secrets.token_hex(_ID_BYTES)}_{secrets.token_hex(_SECRET_BYTES)}"
    key = f"{body}_{_checksum(body)}"
    return key, KeyRecord(body.split("_")[1], _sha256(key))


def record_of(key: str) -> KeyRecord | None:
    """Return what is kept of a well-formed key, else None."""
    found = key_id(key)
    return None if found is None else KeyRecord(found, _sha256(key))


def key_id(key: str) -> str | None:
    """Return the public part of a well-formed key with the right checksum, else None."""
    if not key.isascii() or len(key) > 200 or key.count("_") != 3:
        return None
    body, _, checksum = key.rpartition("_")
    if not body.startswith(KEY_PREFIX) or not hmac.compare_digest(_checksum(body), checksum):
        return None
    return body.split("_")[1]


def matches(key: str, record: KeyRecord) -> bool:
    """Whether ``key`` is the recorded one; takes the same time either way."""
    return hmac.compare_digest(_sha256(key), record.sha256)


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
