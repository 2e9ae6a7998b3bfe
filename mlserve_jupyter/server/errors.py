"""The one table from errors to HTTP statuses, and the one error body."""

from __future__ import annotations

from http.client import responses
from typing import Any

import msgspec

from mlserve_jupyter import errors
from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.api.resources import ErrorBody

STATUS: dict[type[errors.MLServeError], int] = {
    errors.InvalidRequest: 400,
    errors.Unauthenticated: 401,
    errors.PermissionDenied: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.DoesNotFit: 422,
    errors.DeployRefused: 422,
    errors.ArtifactCorrupt: 503,
    errors.TooManyRequests: 429,
    errors.ModelFailed: 500,
    errors.Unavailable: 503,
    errors.SchemaUnknown: 503,
    errors.SettingsInvalid: 503,
    errors.DeadlineExceeded: 504,
    errors.StorageFull: 507,
    errors.MLServeError: 500,
}
"""A class that is not here has the status of its nearest parent."""

_CODES_OF_HTTP_ERRORS = {
    400: "invalid_request",
    401: "unauthenticated",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
}

_MESSAGES_OF_HTTP_ERRORS = {
    403: "Jupyter refused this request: its token or cookie is missing or wrong, the _xsrf token "
    "does not go with the cookie, or the Host or Origin header is not one that it serves.",
    404: "There is nothing at this address. The routes begin with 'mlserve/api/v1/'.",
    405: "This address does not take this method.",
}


def status_of(error: errors.MLServeError) -> int:
    """Return the HTTP status of an error."""
    return status_of_class(type(error))


def status_of_class(kind: type[errors.MLServeError]) -> int:
    """Return the HTTP status of the errors of a class."""
    return next(STATUS[cls] for cls in kind.__mro__ if cls in STATUS)


def error_body(error: errors.MLServeError, request_id: str) -> bytes:
    """Return the JSON error body of an error.

    It may quote the caller, who may have sent half a surrogate pair, which JSON can spell and which
    is no text: that stands as its escape in Python.
    """
    body = ErrorBody(
        code=error.code,
        message=error.message,
        details=dict(error.details),
        request_id=request_id,
    )
    try:
        return encode_json(body)
    except UnicodeEncodeError:
        return encode_json(_as_text(msgspec.to_builtins(body)))


def _as_text(value: Any) -> Any:
    """Return a JSON value (of any shape, hence ``Any``) of which all strings are text."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_as_text(item) for item in value]
    if isinstance(value, dict):
        return {_as_text(key): _as_text(item) for key, item in value.items()}
    return value


def http_error_body(status: int, request_id: str) -> bytes:
    """Return the JSON error body where the HTTP layer refused, or something went wrong inside."""
    message = _MESSAGES_OF_HTTP_ERRORS.get(status)
    if message is None and status >= 500:
        message = (
            "The server failed on this request. Its log has the reason under the request id "
            f"{request_id}."
        )
    return encode_json(
        ErrorBody(
            code=_CODES_OF_HTTP_ERRORS.get(status, "internal_error" if status >= 500 else "http"),
            message=message or responses.get(status, "Unknown error"),
            details={},
            request_id=request_id,
        )
    )
