"""Takes our own credential off a request before anything of Jupyter's can see it."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from tornado.httputil import HTTPHeaders, HTTPServerRequest

from mlserve_jupyter.accounts.keys import KEY_PREFIX
from mlserve_jupyter.accounts.tokens import ACCESS_TYPE, REFRESH_TYPE
from mlserve_jupyter.errors import Unauthenticated

KEY_HEADER = "X-MLServe-Key"


@dataclass(frozen=True, repr=False)
class Credential:
    """A key or token as it came; None where several came, which proves nothing."""

    secret: str | None


def take_credential(request: HTTPServerRequest) -> Credential | None:
    """Return our credential if the request has one, and hide it and all others from Jupyter.

    Ours are ``X-MLServe-Key``, and ``Authorization: Bearer`` with a key or with a JWT whose header
    says ``typ: mlserve-at+jwt``. A refresh token is ours, too, and proves nothing here. Any other
    credential is Jupyter's business and stays.
    """
    candidates = request.headers.get_list(KEY_HEADER)
    for value in request.headers.get_list("Authorization"):
        scheme, _, secret = value.strip().partition(" ")
        if scheme.lower() == "bearer" and _is_ours(secret.strip()):
            candidates.append(secret.strip())
    if not candidates:
        return None
    for name in ("Authorization", KEY_HEADER, "Cookie"):
        if name in request.headers:
            del request.headers[name]
    if hasattr(request, "_cookies"):
        del request._cookies
    for arguments in (request.arguments, request.query_arguments, request.body_arguments):
        arguments.pop("token", None)
    only = candidates[0] if len(candidates) == 1 and "," not in candidates[0] else None
    return Credential(only)


def sole_secret(headers: HTTPHeaders) -> str | None:
    """Return a request's only credential, if it is one of ours in its plainest form.

    None says nothing: ask :func:`take_credential`.
    """
    secret = headers.get(KEY_HEADER)
    if "Authorization" not in headers:
        return secret
    value = headers["Authorization"]
    if secret is not None or not value.startswith("Bearer "):
        return None
    value = value[len("Bearer ") :]
    return value if _is_ours(value) else None


def unusable_credential(secret: str | None) -> Unauthenticated:
    """Return the error of a credential of ours that cannot be one: several, or an empty one."""
    if secret is None:
        return Unauthenticated("More than one key or token came: send exactly one.")
    return Unauthenticated(
        f"The header {KEY_HEADER} came without a value: is the variable set that should hold it?"
    )


def unknown_caller(request: HTTPServerRequest, advice: str) -> Unauthenticated:
    """Return the error of a request that has no credential of ours, nor one that the host knows.

    It goes by the form of the request alone, so that it tells nobody anything.

    Parameters
    ----------
    advice
        What to send.
    """
    values = [value.strip() for value in request.headers.get_list("Authorization")]
    if not values and "token" not in request.query_arguments:
        return Unauthenticated(advice)
    if values and all(value.lower() in ("", "token", "bearer") for value in values):
        return Unauthenticated(
            "The header Authorization came without a token: is the variable set that should hold "
            f"it? {advice}"
        )
    return Unauthenticated(
        "The token that came is not valid here: it is mistyped, has ended, or belongs to another "
        f"server. {advice}"
    )


def _is_ours(secret: str) -> bool:
    if secret.startswith(KEY_PREFIX):
        return True
    header, dot, _ = secret.partition(".")
    if not dot:
        return False
    try:
        decoded = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return False
    return isinstance(decoded, dict) and decoded.get("typ") in (ACCESS_TYPE, REFRESH_TYPE)
