"""The OpenAPI document: the route table with what its methods declare."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from tornado.web import RequestHandler

from mlserve_jupyter.api.resources import ErrorBody
from mlserve_jupyter.server.documentation import (
    PATH_PARAMETERS,
    Documentation,
    SecurityScheme,
    SecuritySchemes,
    WireType,
    documentation_of,
)
from mlserve_jupyter.server.openapi.operations import HEADERS, Operations, path_names
from mlserve_jupyter.server.openapi.schemas import Schemas
from mlserve_jupyter.server.policy import Policy, policy_of

Document = dict[str, Any]
"""An OpenAPI document: its form is what the specification says, hence ``Any``."""

Routes = Iterable[tuple[str, type[Any]]]
"""Patterns and handlers, which are of any class."""

API_VERSION = "1"
"""Of the routes, as in their paths. The release is for those who are signed in."""

DESCRIPTION = """\
Serves models over HTTP. Each answer, good or bad, carries `X-Request-Id`; each error has the \
same body with a stable `code`, and a message that says what to do next. Lists take `limit` and \
`cursor`.\
"""

SCHEMES: SecuritySchemes = (
    ("key", SecurityScheme("apiKey", "A key: `mls_…`", where="header", name="X-MLServe-Key")),
    ("bearer", SecurityScheme("http", "A key or an access token.", scheme="bearer")),
)
"""Ways to show who one is, in both hosts."""

_METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class _Method:
    path: str
    name: str
    handler: type[Any]
    documentation: Documentation
    policy: Policy

    @property
    def function(self) -> Any:
        return getattr(self.handler, self.name)

    @property
    def operation_id(self) -> str:
        return self.name + self.handler.__name__.removesuffix("Resource")

    @property
    def tag(self) -> str:
        """The group that readers find the route in."""
        if self.path in ("/openapi.json", "/docs"):
            return "documentation"
        return self.path.removeprefix("/api/v1").split("/")[1]

    def types(self) -> Iterator[WireType]:
        """Return the wire types of the bodies."""
        for content in (self.documentation.body, *self.documentation.answers.values()):
            yield from content.values()


def make_document(routes: Routes, base_path: str, host_schemes: SecuritySchemes) -> Document:
    """Return the document of a route table.

    Parameters
    ----------
    routes
        Patterns that begin with ``mlserve/``, and handlers. A pattern that ends in ``.*`` is left
        out.
    base_path
        The path of ``mlserve/`` on this server.
    host_schemes
        Ways to show who one is that the host adds.

    Raises
    ------
    ValueError
        If a method is not documented.
    """
    methods = list(_methods_of(routes))
    types: list[WireType] = [ErrorBody, *PATH_PARAMETERS.values()]
    for method in methods:
        types.extend(method.types())
    schemas = Schemas(types)
    operations = Operations(schemas, [*SCHEMES, *host_schemes])
    paths: dict[str, dict[str, Any]] = {}
    for method in methods:
        item = paths.setdefault(method.path, {})
        parameters = operations.path_parameters(method.function)
        if parameters:
            item["parameters"] = parameters
        item[method.name] = operations.make(
            method.operation_id, method.tag, method.documentation, method.policy
        )
    return {
        "openapi": "3.1.0",
        "info": {"title": "mlserve", "version": API_VERSION, "description": DESCRIPTION},
        "servers": [{"url": base_path.rstrip("/") or "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(method.tag for method in methods)],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": operations.responses,
            "headers": dict(HEADERS),
            "securitySchemes": msgspec.to_builtins(dict((*SCHEMES, *host_schemes))),
        },
    }


def _methods_of(routes: Routes) -> Iterator[_Method]:
    for pattern, handler in routes:
        if pattern.endswith(".*"):
            continue
        for name in _METHODS:
            function = getattr(handler, name, None)
            policy = policy_of(function)
            if function is getattr(RequestHandler, name) or policy is None:
                continue
            documentation = documentation_of(function)
            if documentation is None:
                raise ValueError(f"{handler.__name__}.{name} has no @documented.")
            yield _Method(path_of(pattern, function), name, handler, documentation, policy)


def path_of(pattern: str, method: Any) -> str:
    """Return a route's pattern as a path with the names of its groups.

    Parameters
    ----------
    method
        Of the route's handler (any, hence ``Any``), whose parameters name the groups.
    """
    names = iter(path_names(method))
    path = re.sub(r"\((?:[^()]|\([^()]*\))*\)", lambda _: f"{{{next(names)}}}", pattern)
    return "/" + path.removeprefix("mlserve/").replace("\\", "")
