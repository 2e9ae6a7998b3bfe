"""The secret that signs tokens: from the environment, or made at first start in the data folder.

Servers that share a database and should accept each other's tokens need the same one. Secrets for
other purposes are derived from it, so that the same servers share those as well.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from mlserve_jupyter.errors import SettingsInvalid
from mlserve_jupyter.storage.folders import read_or_make_private_file

SECRET_VARIABLE = "MLSERVE_JWT_SECRET"
SECRET_FILE = "mlserve-jwt.secret"

MIN_BYTES = 32
"""RFC 7518, 3.2: a key of HS256 is at least as long as its hash."""

_MIN_DISTINCT = 8
"""32 random hexadecimal digits have fewer less than once in a million times."""

_PLACEHOLDERS = ("change", "example", "password", "replace", "secret", "your")


def read_or_make_token_secret(data_dir: Path) -> bytes:
    """Return the secret; the first call makes one where the environment has none.

    Parameters
    ----------
    data_dir
        Where the file lies; made with mode 0700 if need be.

    Raises
    ------
    SettingsInvalid
        If it could be guessed, or others may read the file.
    StorageUnavailable, StorageFull
        If the file cannot be read or written.
    """
    given = given_token_secret()
    if given is not None:
        return given
    path = data_dir / SECRET_FILE
    return _checked(read_or_make_private_file(path, _new_secret), str(path))


def given_token_secret() -> bytes | None:
    """Return the secret of the environment, if there is one.

    Raises
    ------
    SettingsInvalid
        If it could be guessed.
    """
    given = os.environ.get(SECRET_VARIABLE)
    if given is None:
        return None
    return _checked(given, f"The environment variable {SECRET_VARIABLE}")


def derived_secret(secret: bytes, purpose: str) -> bytes:
    """Return a secret for another purpose, which tells nothing of this one (HKDF, RFC 5869)."""
    pseudorandom_key = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(pseudorandom_key, f"mlserve {purpose}".encode() + b"\x01", "sha256")


def _new_secret() -> str:
    return secrets.token_urlsafe(48)


def _checked(text: str, source: str) -> bytes:
    """Return the secret, if it is not one that a program could guess; never repeat it."""
    secret = text.strip()
    advice = "make one with `python -c 'import secrets; print(secrets.token_urlsafe(48))'`."
    n_bytes = len(os.fsencode(secret))
    if n_bytes < MIN_BYTES:
        raise SettingsInvalid(
            f"{source} holds a secret of {n_bytes} bytes, and tokens need {MIN_BYTES}: {advice}"
        )
    is_periodic = secret in (secret + secret)[1:-1]
    is_placeholder = any(word in secret.lower() for word in _PLACEHOLDERS)
    if is_periodic or is_placeholder or len(set(secret)) < _MIN_DISTINCT:
        raise SettingsInvalid(f"{source} holds a secret that could be guessed: {advice}")
    return os.fsencode(secret)
