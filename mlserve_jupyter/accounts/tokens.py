"""Tokens: signed statements of who a caller is, for a while, after RFC 7519 and RFC 8725.

An access token opens routes, a refresh token is exchanged for the next pair; neither can stand in
for the other, since the type in its header is signed and asked for. All processes and hosts with
the same secret accept each other's. What a token says is believed here; whether its user, its
family and its epoch still stand is asked of the database elsewhere.
"""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import ClassVar

import msgspec

from mlserve_jupyter.errors import Unauthenticated

ACCESS_TYPE = "mlserve-at+jwt"
REFRESH_TYPE = "mlserve-rt+jwt"
ACCESS_LIFETIME_S = 30 * 60
REFRESH_LIFETIME_S = 7 * 24 * 3600
LEEWAY_S = 30
"""What the clocks of two hosts may differ by."""

_ALGORITHM = "HS256"
_PARTY = "mlserve_jupyter"
"""Issuer and audience in one: an installation is told from another by its secret."""
_REQUIRED = ("exp", "iat", "iss", "aud", "sub", "jti")
_MAX_CHARS = 2000
_COMPACT = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}", re.ASCII)
"""RFC 7515, 7.1. PyJWT skips other characters, so that one token would have any number of forms."""


@dataclass(frozen=True)
class Claims:
    """What a valid token says.

    Attributes
    ----------
    user_id
        Of whom it speaks.
    family_id
        All tokens that descend from one login have the same.
    epoch
        The user's ``token_epoch`` when it was issued.
    token_id
        Of this token alone.
    """

    user_id: str
    family_id: str
    epoch: int
    token_id: str
    expires_at: datetime


class _Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    iss: str
    aud: str
    sub: str
    fam: str
    epo: int
    jti: str
    iat: int
    exp: int


class _Tokens:
    """Issues and verifies tokens of one type.

    Parameters
    ----------
    secret
        At least 32 bytes; see ``token_secret.py``.
    """

    token_type: ClassVar[str]
    lifetime_s: ClassVar[int]

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, user_id: str, family_id: str, epoch: int, token_id: str = "") -> str:
        """Return a new token, valid from now on for ``lifetime_s`` seconds."""
        import jwt  # PyJWT brings cryptography along where that is installed: not at every start

        now_s = int(time.time())
        payload = _Payload(
            iss=_PARTY,
            aud=_PARTY,
            sub=user_id,
            fam=family_id,
            epo=epoch,
            jti=token_id or str(uuid.uuid4()),
            iat=now_s,
            exp=now_s + self.lifetime_s,
        )
        headers = {"typ": self.token_type}
        return jwt.encode(msgspec.to_builtins(payload), self._secret, _ALGORITHM, headers)

    def verify(self, text: str) -> Claims:
        """Return what a token says, if it is of this type, ours, whole and not out of date.

        Raises
        ------
        Unauthenticated
            If not.
        """
        import jwt

        if len(text) > _MAX_CHARS or not _COMPACT.fullmatch(text):
            raise _invalid()
        try:
            # Nothing but these two: no `kid`, `jku`, `crit` or other algorithm has a say.
            if jwt.get_unverified_header(text) != {"alg": _ALGORITHM, "typ": self.token_type}:
                raise _invalid()
            claims = jwt.decode(
                text,
                self._secret,
                algorithms=[_ALGORITHM],
                issuer=_PARTY,
                audience=_PARTY,
                leeway=LEEWAY_S,
                options={"require": list(_REQUIRED)},
            )
            payload = msgspec.convert(claims, _Payload)
        except jwt.ExpiredSignatureError:
            raise Unauthenticated(
                "The token has expired: get a new one with the refresh token, or sign in again."
            ) from None
        except (jwt.InvalidTokenError, msgspec.ValidationError, ValueError, RecursionError):
            raise _invalid() from None
        if payload.exp - payload.iat > self.lifetime_s:
            raise _invalid()
        return Claims(
            payload.sub,
            payload.fam,
            payload.epo,
            payload.jti,
            datetime.fromtimestamp(payload.exp, timezone.utc),
        )


class AccessTokens(_Tokens):
    """Tokens that open routes, for 30 minutes."""

    token_type = ACCESS_TYPE
    lifetime_s = ACCESS_LIFETIME_S


class RefreshTokens(_Tokens):
    """Tokens that are exchanged for the next pair, once, within 7 days."""

    token_type = REFRESH_TYPE
    lifetime_s = REFRESH_LIFETIME_S


def _invalid() -> Unauthenticated:
    return Unauthenticated(
        "The token is not valid here: it is damaged, of another kind, or of another server."
    )
