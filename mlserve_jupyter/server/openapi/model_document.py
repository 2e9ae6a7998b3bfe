"""The OpenAPI document of one model: its predict route alone, with its own columns and methods."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from mlserve_jupyter.api.input_schema import Schema, body_schema
from mlserve_jupyter.api.layout import Layout
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.server.documentation import JSON
from mlserve_jupyter.server.openapi.document import Document

PREDICT_PATH = "/api/v1/predict/{model}"
BODY_NAME = "Rows"


def make_model_document(document: Document, version: ServedVersion) -> Document:
    """Return the document of the predict route of one model.

    Parameters
    ----------
    document
        That of all routes.
    version
        Whose signature the body has.
    """
    operation = copy.deepcopy(document["paths"][PREDICT_PATH]["post"])
    operation["operationId"] = "predict"
    operation["parameters"] = [_parameter(p, version) for p in operation["parameters"]]
    body = operation["requestBody"]["content"][JSON]
    body["schema"] = {"$ref": f"#/components/schemas/{BODY_NAME}"}
    if version.signature.inputs.example is not None:
        body["example"] = version.signature.inputs.example
    components = copy.deepcopy(document["components"])
    components["schemas"][BODY_NAME] = body_schema(
        Layout(version.signature.inputs, version.extra_columns)
    )
    owned = f"{version.owner}~{version.model}"
    made: Document = {
        **document,
        "info": {
            "title": version.model,
            "version": str(version.version),
            "description": f"Version {version.version} of the model {version.model}.",
        },
        "tags": [{"name": "predict"}],
        "paths": {PREDICT_PATH.replace("{model}", quote(owned)): {"post": operation}},
    }
    made["components"] = _used(made, components)
    return made


def _parameter(parameter: dict[str, Any], version: ServedVersion) -> dict[str, Any]:
    """Narrow a query parameter to what this version has."""
    if parameter["name"] == "version":
        return {**parameter, "schema": {"const": version.version}}
    if parameter["name"] == "method":
        schema = {"enum": list(version.methods), "default": version.method}
        return {**parameter, "schema": schema}
    return parameter


def _used(made: Document, components: dict[str, dict[str, Schema]]) -> dict[str, dict[str, Schema]]:
    """Return the components that the paths refer to, directly or by others."""
    used: dict[str, dict[str, Schema]] = {"securitySchemes": components["securitySchemes"]}
    pending = list(_references(made["paths"]))
    while pending:
        kind, name = pending.pop().split("/")[-2:]
        if name not in used.setdefault(kind, {}):
            used[kind][name] = components[kind][name]
            pending.extend(_references(components[kind][name]))
    return used


def _references(value: Any) -> Iterator[str]:
    """Return all ``$ref`` in a part of a document (of any form, hence ``Any``)."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for member in value.values():
            yield from _references(member)
    elif isinstance(value, list):
        for member in value:
            yield from _references(member)
