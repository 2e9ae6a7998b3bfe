"""The JSON Schema of a model's input, held against the decoder of its bodies."""

from __future__ import annotations

import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode

from mlserve_jupyter.api.decode import InputDecoder
from mlserve_jupyter.api.input_schema import body_schema
from mlserve_jupyter.api.layout import ExtraColumns, Layout
from mlserve_jupyter.api.signature import Column, InputSpec
from mlserve_jupyter.errors import SignatureMismatch

FLOAT = Column(name="share", kind="float", dtype="float64")
INTEGER = Column(name="age", kind="integer", dtype="int16")
COLUMNS = (
    FLOAT,
    INTEGER,
    Column(name="size", kind="float", dtype="float32", nullable=True),
    Column(name="member", kind="boolean", dtype="boolean", nullable=True),
    Column(name="city", kind="string", dtype="object"),
    Column(name="class", kind="category", dtype="category", categories=("a", "b")),
)
SPECS = {
    "dataframe": InputSpec(container="dataframe", shape=(None, 6), columns=COLUMNS),
    "ndarray": InputSpec("ndarray", (None, 2), (FLOAT, Column("x1", "float", "float64"))),
    "images": InputSpec("ndarray", (None, 2, 3), (Column("x", "integer", "uint8"),)),
    "series": InputSpec("series", (None,), (Column("text", "string", "object", nullable=True),)),
    "list": InputSpec("list", (None,), (Column("item", "any", "object", nullable=True),)),
    "sparse": InputSpec(
        "sparse",
        (None, 3),
        tuple(Column(f"x{i}", "float", "float64") for i in range(3)),
        dtype="float64",
        sparse_class="csr_matrix",
    ),
}


def schema_of(spec: InputSpec, extra_columns: ExtraColumns = "refuse") -> dict[str, Any]:
    return body_schema(Layout(spec, extra_columns))


def strategy_of(schema: dict[str, Any]) -> Any:
    """Invent bodies that a schema admits."""
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    operation = {"requestBody": body, "responses": {"200": {"description": "Fine"}}}
    document = {
        "openapi": "3.1.0",
        "info": {"title": "one", "version": "1"},
        "paths": {"/predict": {"post": operation}},
    }
    loaded = schemathesis.openapi.from_dict(document, config=schemathesis.Config(seed=1))
    return loaded["/predict"]["POST"].as_strategy(generation_mode=GenerationMode.POSITIVE)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SPECS if name != "sparse"])
def test_what_the_schema_admits_is_decoded(name: str) -> None:
    spec = SPECS[name]
    decoder = InputDecoder(spec)

    @settings(
        max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=strategy_of(schema_of(spec)))
    def decode(case: schemathesis.Case) -> None:
        assert decoder.decode(json.dumps(case.body).encode(), "application/json").n_rows > 0

    decode()


ROW = [0.5, 31, None, True, "Bern", "a"]
RECORD = dict(zip([column.name for column in COLUMNS], ROW, strict=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"age": 40_000},
        {"age": 1.5},
        {"age": None},
        {"share": "high"},
        {"share": "NaN"},
        {"member": "yes"},
        {"class": "c"},
        {"city": 3},
        {"unknown": 1},
    ],
    ids=str,
)
def test_what_the_decoder_refuses_of_a_column_the_schema_refuses(changes: dict[str, Any]) -> None:
    spec = SPECS["dataframe"]
    validator = Draft202012Validator(schema_of(spec))
    assert validator.is_valid({"instances": [RECORD, ROW]})
    body = {"instances": [{**RECORD, **changes}]}
    with pytest.raises(SignatureMismatch):
        InputDecoder(spec).decode(json.dumps(body).encode(), "")
    assert not validator.is_valid(body)


def test_sparse_rows_come_in_both_forms() -> None:
    body = {"instances": [[0, 2.5, 0], {"indices": [1], "values": [2.5], "size": 3}]}
    assert InputDecoder(SPECS["sparse"]).decode(json.dumps(body).encode(), "").n_rows == 2
    validator = Draft202012Validator(schema_of(SPECS["sparse"]))
    assert validator.is_valid(body)
    assert not validator.is_valid({"instances": [{"indices": [3], "values": [2.5], "size": 3}]})


def test_columns_that_are_dropped_are_admitted() -> None:
    body = {"dataframe_records": [{**RECORD, "unknown": 1}]}
    assert Draft202012Validator(schema_of(SPECS["dataframe"], "drop")).is_valid(body)
