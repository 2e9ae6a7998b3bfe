"""A version's input as JSON Schema: what a JSON predict body may be, for those who write clients.

What is hard to say in a schema, such as columns of one length, is left out here, and taken by the
decoder all the same.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mlserve_jupyter.api.layout import Layout
from mlserve_jupyter.api.number_checks import NON_FINITE
from mlserve_jupyter.api.signature import Column
from mlserve_jupyter.api.value_check import ValueCheck

Schema = dict[str, Any]
"""A JSON Schema: keywords of any form, hence ``Any``."""


def body_schema(layout: Layout) -> Schema:
    """Return the schema of a JSON predict body: exactly one of the forms that fit the input."""
    values = [
        value_schema(column, check)
        for column, check in zip(layout.spec.columns, layout.checks, strict=True)
    ]
    row = _row(layout, values)
    rows = _list_of(row)
    forms: dict[str, Schema] = {"instances": rows, "inputs": rows}
    if layout.accepts_names:
        record = _record(layout, values)
        if layout.shape == "table":
            forms["instances"] = forms["inputs"] = _list_of({"anyOf": [record, row]})
        forms["dataframe_records"] = _list_of(record)
        forms["dataframe_split"] = {
            "type": "object",
            "properties": {
                "columns": {"const": list(layout.names)},
                "data": _list_of(_list_of_exactly(len(values), {"prefixItems": values})),
                "index": {"type": "array"},
            },
            "required": ["columns", "data"],
            "additionalProperties": False,
        }
    return {
        "type": "object",
        "properties": forms,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }


def value_schema(column: Column, check: ValueCheck) -> Schema:
    """Return the schema of a column's values."""
    schema: Schema
    if column.categories:
        schema = {"enum": list(column.categories)}
    else:
        schema = msgspec.json.schema(check.wire_type)
    if column.kind == "float":
        named = [name for name in NON_FINITE if name != "NaN" or column.nullable]
        schema = {"anyOf": [schema, {"enum": named}]}
    if column.nullable and schema:
        schema = {"anyOf": [schema, {"type": "null"}]}
    if column.kind in ("datetime", "timedelta", "any") or column.item is not None:
        schema["description"] = check.expected[0].upper() + check.expected[1:] + "."
    return schema


def _row(layout: Layout, values: list[Schema]) -> Schema:
    if layout.shape == "items":
        return values[0]
    if layout.shape == "table":
        row = _list_of_exactly(len(values), {"prefixItems": values})
    else:
        row = values[0]
        for size in reversed(layout.row_shape):
            row = _list_of_exactly(size, {"items": row})
    if layout.spec.container != "sparse":
        return row
    size = layout.row_shape[0]
    sparse = {
        "type": "object",
        "properties": {
            "indices": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0, "exclusiveMaximum": size},
            },
            "values": {"type": "array", "items": values[0]},
            "size": {"const": size},
        },
        "required": ["indices", "values", "size"],
        "additionalProperties": False,
    }
    return {"anyOf": [row, sparse]}


def _record(layout: Layout, values: list[Schema]) -> Schema:
    return {
        "type": "object",
        "properties": dict(zip(layout.names, values, strict=True)),
        "required": [
            name
            for name, check in zip(layout.names, layout.checks, strict=True)
            if not check.nullable
        ],
        "additionalProperties": layout.extra_columns == "drop",
    }


def _list_of(item: Schema) -> Schema:
    return {"type": "array", "items": item, "minItems": 1}


def _list_of_exactly(size: int, items: Schema) -> Schema:
    return {"type": "array", "minItems": size, "maxItems": size, **items}
