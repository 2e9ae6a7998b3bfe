"""Every method of every route says what it takes and answers."""

from __future__ import annotations

import inspect
import re

import pytest
from tornado.web import RequestHandler

from mlserve_jupyter.server.documentation import PATH_PARAMETERS, documentation_of
from mlserve_jupyter.server.resource import Resource
from mlserve_jupyter.server.routes import ROUTES

METHODS = [
    (pattern, resource, name)
    for pattern, resource in ROUTES
    for name in map(str.lower, RequestHandler.SUPPORTED_METHODS)
    if hasattr(resource, name)
]
IDS = [f"{resource.__name__}.{name}" for _, resource, name in METHODS]


@pytest.mark.parametrize(("pattern", "resource", "name"), METHODS, ids=IDS)
def test_every_method_of_every_route_is_documented(
    pattern: str, resource: type[Resource], name: str
) -> None:
    documentation = documentation_of(getattr(resource, name))
    assert documentation is not None, f"Declare @documented(...) on {resource.__name__}.{name}."
    assert documentation.summary
    assert documentation.description
    assert not documentation.summary.endswith(".")


@pytest.mark.parametrize(("pattern", "resource", "name"), METHODS, ids=IDS)
def test_every_group_of_a_route_is_a_parameter_that_is_known(
    pattern: str, resource: type[Resource], name: str
) -> None:
    parameters = inspect.signature(getattr(resource, name)).parameters.values()
    named = [p.name for p in parameters if p.name != "self" and p.kind is not p.VAR_KEYWORD]
    if named == ["args"]:
        return
    assert len(named) == re.compile(pattern).groups
    assert set(named) <= set(PATH_PARAMETERS)
