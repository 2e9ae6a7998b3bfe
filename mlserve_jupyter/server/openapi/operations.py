"""One method of a route as an OpenAPI operation: what is declared, and what holds for all."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from mlserve_jupyter.api.resources import ErrorBody
from mlserve_jupyter.errors import (
    InvalidBody,
    InvalidRequest,
    MLServeError,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    SchemaUnknown,
    SettingsInvalid,
    StorageFull,
    StorageUnavailable,
    TooLarge,
    Unauthenticated,
)
from mlserve_jupyter.server.documentation import (
    JSON,
    PATH_PARAMETERS,
    Content,
    Documentation,
    SecurityScheme,
    WireType,
)
from mlserve_jupyter.server.errors import status_of_class
from mlserve_jupyter.server.openapi.schemas import Schema, Schemas, split_docstring
from mlserve_jupyter.server.policy import Policy

MULTIPART = "multipart/form-data"

ALWAYS: tuple[type[MLServeError], ...] = (InvalidRequest, PermissionDenied, NotFound, TooLarge)
"""Malformed requests; a Host, an Origin or a cookie that is refused; bodies over the limit."""

WITH_A_CALLER: tuple[type[MLServeError], ...] = (
    Unauthenticated,
    StorageUnavailable,
    StorageFull,
    SchemaUnknown,
    SettingsInvalid,
    QuotaExceeded,
)
"""Where the caller must be known: no credential, no database, or too many requests."""

DESCRIPTIONS = {
    400: "The request is malformed.",
    401: "There is no credential, or one that is not valid.",
    403: "The caller is known and not allowed to do this, or the server refuses the Host header.",
    404: "There is no such thing, or it is not the caller's to see.",
    409: "The state of the thing forbids it.",
    413: "The body is over its limit.",
    415: "The content type is none that is read here.",
    422: "The request is well-formed and does not fit.",
    429: "Too many requests.",
    500: "The model failed.",
    503: "Not now; where there is Retry-After, the same request may succeed then.",
    504: "The answer did not come in time.",
    507: "No space is left.",
}


class Operations:
    """Makes the operations of a document.

    Parameters
    ----------
    schemas
        Of all wire types.
    schemes
        The ways to show who one is.
    """

    def __init__(self, schemas: Schemas, schemes: Iterable[tuple[str, SecurityScheme]]) -> None:
        self._schemas = schemas
        self._schemes = tuple(name for name, _ in schemes)
        self._responses: dict[tuple[int, tuple[str, ...]], str] = {}
        self.responses: dict[str, Any] = {}

    def make(
        self, operation_id: str, tag: str, documentation: Documentation, policy: Policy
    ) -> dict[str, Any]:
        """Return the operation of a method."""
        operation: dict[str, Any] = {
            "operationId": operation_id,
            "summary": documentation.summary,
            "description": split_docstring(documentation.description)[0] + _asked(policy),
            "tags": [tag],
            "security": self._security(policy),
        }
        if documentation.query is not None:
            operation["parameters"] = list(self._query(documentation.query))
        if documentation.body:
            operation["requestBody"] = {
                "required": documentation.is_body_required,
                "content": self._content(documentation.body),
            }
        operation["responses"] = {
            **self._answers(documentation, policy),
            **self._errors(documentation, policy),
        }
        return operation

    def path_parameters(self, method: Any) -> list[dict[str, Any]]:
        """Return the parameters that a handler's method (any, hence ``Any``) has from the path."""
        names = path_names(method)
        return [
            {"name": name, "in": "path", "required": True, **self._described(PATH_PARAMETERS[name])}
            for name in names
        ]

    def _security(self, policy: Policy) -> list[dict[str, list[str]]]:
        if policy.is_public:
            return []
        return [{scheme: []} for scheme in self._schemes]

    def _query(self, query: type[msgspec.Struct]) -> Iterator[dict[str, Any]]:
        for name, schema, is_required in self._schemas.fields_of(query):
            parameter: dict[str, Any] = {"name": name, "in": "query", "schema": dict(schema)}
            if is_required:
                parameter["required"] = True
            yield _described_above(parameter)

    def _described(self, kind: WireType) -> dict[str, Any]:
        return _described_above({"schema": dict(self._schemas.of(kind))})

    def _content(self, content: Content) -> dict[str, Any]:
        return {
            content_type: {
                "schema": self._schemas.of_parts(kind)
                if content_type == MULTIPART
                else self._schemas.of(kind)
            }
            for content_type, kind in content.items()
        }

    def _answers(self, documentation: Documentation, policy: Policy) -> dict[str, Any]:
        return {
            str(status): {
                "description": documentation.summary if status < 300 else DESCRIPTIONS[status],
                "headers": _HEADERS if policy.is_public else _HEADERS_TO_A_CALLER,
                **({"content": self._content(content)} if content else {}),
            }
            for status, content in documentation.answers.items()
        }

    def _errors(self, documentation: Documentation, policy: Policy) -> dict[str, Any]:
        codes: dict[int, set[str]] = {}
        common = ALWAYS if policy.is_public else ALWAYS + WITH_A_CALLER
        if documentation.body:
            common += (InvalidBody,)
        for error in (*common, *with_subclasses(documentation.errors)):
            codes.setdefault(status_of_class(error), set()).add(error.code)
        return {
            str(status): {"$ref": f"#/components/responses/{self._response(status, found)}"}
            for status, found in sorted(codes.items())
            if status not in documentation.answers
        }

    def _response(self, status: int, codes: set[str]) -> str:
        """Return the name of the response with these codes, which is made when it is new."""
        key = (status, tuple(sorted(codes)))
        if key not in self._responses:
            n = sum(known == status for known, _ in self._responses)
            name = self._responses[key] = f"Error{status}" + (f"_{n + 1}" if n else "")
            self.responses[name] = {
                "description": DESCRIPTIONS[status],
                "headers": _HEADERS_OF.get(status, _HEADERS),
                "content": {
                    JSON: {
                        "schema": {
                            **self._schemas.of(ErrorBody),
                            "properties": {"code": {"enum": list(key[1])}},
                        }
                    }
                },
            }
        return self._responses[key]


HEADERS: Mapping[str, Schema] = {
    "X-Request-Id": {
        "description": "The request's own X-Request-Id, else a new one; the log has it.",
        "required": True,
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds after which a retry makes sense.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "RateLimit-Limit": {
        "description": "Requests a minute that the caller has; not sent where there is no limit.",
        "schema": {"type": "integer"},
    },
    "RateLimit-Remaining": {
        "description": "How many of them are left.",
        "schema": {"type": "integer"},
    },
    "RateLimit-Reset": {
        "description": "Seconds until there is room for more.",
        "schema": {"type": "integer"},
    },
    "WWW-Authenticate": {
        "description": "How to show who one is.",
        "schema": {"type": "string"},
    },
}
"""Of answers, by name."""


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *names)}


_RATE_LIMIT = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
_HEADERS = _headers()
_HEADERS_TO_A_CALLER = _headers(*_RATE_LIMIT)
_HEADERS_OF = {
    401: _headers("WWW-Authenticate"),
    429: _headers("Retry-After", *_RATE_LIMIT),
    503: _headers("Retry-After"),
}


def path_names(method: Any) -> list[str]:
    """Return the names that a handler's method (any, hence ``Any``) gives to a path's groups."""
    return list(inspect.signature(method).parameters)[1:]


def with_subclasses(errors: Iterable[type[MLServeError]]) -> Iterator[type[MLServeError]]:
    """Return classes of errors with all classes below them."""
    for error in errors:
        yield error
        yield from with_subclasses(error.__subclasses__())


def _asked(policy: Policy) -> str:
    """Say what a credential must be good for."""
    if policy.is_public:
        return ""
    if policy.scope == "account":
        return " Asks for one who has signed in, or a key with the scope `admin`."
    if policy.scope == "admin":
        return " Asks for an administrator, and of a key for the scope `admin`."
    return f" Asks of a key for the scope `{policy.scope}`."


def _described_above(parameter: dict[str, Any]) -> dict[str, Any]:
    """Move the schema's description to the parameter, where readers look for it."""
    description = parameter["schema"].pop("description", None)
    return parameter if description is None else {**parameter, "description": description}
