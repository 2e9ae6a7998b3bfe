"""What the prediction log keeps of a predict body."""

from __future__ import annotations

import base64

import msgspec

from mlserve_jupyter.api.decode import COLUMNAR, media_type_of

MAX_READ_BYTES = 2**20
"""A longer body that was refused is not read once more to see whether readers of the log could."""

MAX_COLUMNAR_BYTES = 16 * 2**10
"""Longer bodies of columns are left out: nobody reads them as text, and they come often."""


def inputs_as_json(
    body: bytes, content_type: str, status: str, max_value_bytes: int
) -> bytes | None:
    """Return a body for the log: JSON as it came, other text as a string, columns as base64.

    Parameters
    ----------
    status
        ``ok``, or the code of the error that the caller got.
    max_value_bytes
        What is longer is left out by the log (0: nothing is), and is returned as it came.
    """
    if max_value_bytes and len(body) > max_value_bytes:
        return body
    media_type = media_type_of(content_type)
    if media_type in COLUMNAR:
        if len(body) > MAX_COLUMNAR_BYTES:
            return None
        encoded = base64.b64encode(body).decode("ascii")
        return msgspec.json.encode({"content_type": media_type, "base64": encoded})
    if media_type not in ("", "application/json"):
        return msgspec.json.encode(body.decode("utf-8", "replace"))
    if status == "ok":
        return body
    if len(body) > MAX_READ_BYTES:
        return None
    try:
        # Readers of the log decode it whole, so what they could not read is left out.
        msgspec.json.decode(body)
        return body.decode().encode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
