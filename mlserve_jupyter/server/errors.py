"""The one table from errors to HTTP statuses, and the one error body."""

from __future__ import annotations

from http.client import responses

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
    """Return the JSON error body of an error."""
    return encode_json(
        ErrorBody(
            code=error.code,
            message=error.message,
            details=dict(error.details),
            request_id=request_id,
        )
    )


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
