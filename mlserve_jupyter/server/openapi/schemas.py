"""JSON Schemas of the wire types, with the words of their docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from mlserve_jupyter.server.documentation import WireType

Schema = dict[str, Any]
"""A JSON Schema: keywords of any form, hence ``Any``."""

_REF = "#/components/schemas/{name}"
_UPLOADED = {"type": "string", "contentMediaType": "application/octet-stream"}
_ENTRY = re.compile(r"^(\w+(?:, \w+)*)$")


class Schemas:
    """The schemas of all wire types of a document.

    Parameters
    ----------
    types
        Those that bodies and parameters are made of.
    """

    def __init__(self, types: Iterable[WireType]) -> None:
        self._types: list[WireType] = []
        for kind in types:
            if kind not in self._types:
                self._types.append(kind)
        made = msgspec.json.schema_components(self._types, ref_template=_REF)
        # Through JSON, since the defaults in it are Python values such as tuples.
        self._references, self.components = msgspec.json.decode(msgspec.json.encode(made))
        for schema in self.components.values():
            _describe(schema)

    def of(self, kind: WireType) -> Schema:
        """Return the schema of a body or of a parameter."""
        if kind is bytes:
            return {}  # OpenAPI 3.1 says nothing of bytes beyond their content type
        found: Schema = self._references[self._types.index(kind)]
        return found

    def of_parts(self, kind: WireType) -> Schema:
        """Return the schema of a multipart body, whose ``bytes`` are sent as they are."""
        reference = self.of(kind)
        parts = self.components[reference["$ref"].rsplit("/", 1)[1]]["properties"]
        for name, described in parts.items():
            if described.get("contentEncoding") == "base64":
                parts[name] = _UPLOADED
        return reference

    def fields_of(self, kind: type[msgspec.Struct]) -> list[tuple[str, Schema, bool]]:
        """Return the name, the schema and whether it must be there, of each field of a struct."""
        schema, components = msgspec.json.schema_components([kind], ref_template=_REF)
        [struct] = [components[schema[0]["$ref"].rsplit("/", 1)[1]]]
        return [
            (name, described, name in struct["required"])
            for name, described in struct["properties"].items()
        ]


def _describe(schema: Schema) -> None:
    """Give the attributes that a docstring describes to the properties."""
    text, attributes = split_docstring(schema.pop("description", ""))
    if text:
        schema["description"] = text
    for name, described in schema.get("properties", {}).items():
        if name in attributes:
            described.setdefault("description", attributes[name])
    if not schema.get("required", True):
        del schema["required"]


def split_docstring(docstring: str) -> tuple[str, dict[str, str]]:
    """Return what a numpy docstring says above its sections, and of each attribute."""
    text, _, attributes = inspect.cleandoc(docstring).partition("\n\nAttributes\n----------\n")
    text = re.split(r"\n\n\w+\n-{3,}\n", text, maxsplit=1)[0]
    attributes = re.split(r"\n\n\w+\n-{3,}\n", attributes, maxsplit=1)[0]
    found: dict[str, str] = {}
    names: list[str] = []
    for line in attributes.splitlines():
        entry = _ENTRY.match(line)
        if entry is not None:
            names = entry[1].split(", ")
        elif line.startswith("    "):
            for name in names:
                found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return _as_markdown(text), {name: _as_markdown(words) for name, words in found.items()}


def _as_markdown(text: str) -> str:
    """Turn docstring markup into the Markdown that OpenAPI has."""
    text = re.sub(r":\w+:`~?([^`]*)`", r"`\1`", text.replace("``", "`"))
    return " ".join(text.split())
