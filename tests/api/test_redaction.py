from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_jupyter.api.decode import InputDecoder
from mlserve_jupyter.api.layout import Shape
from mlserve_jupyter.api.log_policy import LoggedAs, LogPolicy, logged_as
from mlserve_jupyter.api.redaction import without_columns
from mlserve_jupyter.api.signature import Column, Container, InputSpec, Kind
from mlserve_jupyter.errors import MLServeError

NAMES = ("size", "email", "kind")
SECRET = "ada@example.org"
SPLIT = {"dataframe_split": {"columns": ["size", "kind"], "data": [[1.5, "a"]]}}


def policy(
    names: tuple[str, ...] = NAMES,
    without: str = "email",
    shape: Shape = "table",
    is_sparse: bool = False,
) -> LoggedAs:
    return LoggedAs(1.0, True, frozenset({without}), names, shape, is_sparse)


def redacted(body: object, of: LoggedAs | None = None) -> object:
    kept = without_columns(msgspec.json.encode(body), of or policy())
    return None if kept is None else msgspec.json.decode(kept)


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ({"instances": [[1.5, SECRET, "a"]]}, SPLIT),
        ({"inputs": [[1.5, SECRET, "a"]]}, SPLIT),
        (
            {"instances": [{"size": 1, "email": SECRET}, {"kind": "a"}]},
            {"instances": [{"size": 1}, {"kind": "a"}]},
        ),
        (
            {"dataframe_records": [{"email": SECRET, "kind": "a"}]},
            {"dataframe_records": [{"kind": "a"}]},
        ),
        ({"inputs": {"size": [1, 2], "email": [SECRET] * 2}}, {"inputs": {"size": [1, 2]}}),
        (
            {"dataframe_split": {"columns": ["email", "size"], "data": [[SECRET, 1], [SECRET, 2]]}},
            {"dataframe_split": {"columns": ["size"], "data": [[1], [2]]}},
        ),
        (
            {"instances": [{"size": 1, "e-mail": SECRET}]},  # none of the model's
            {"instances": [{"size": 1}]},
        ),
        ({"instances": []}, {"instances": []}),
    ],
)
def test_a_column_goes_from_every_form_of_a_body(body: object, kept: object) -> None:
    assert redacted(body) == kept


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1, SECRET]]},  # of another length: who knows which is which
        {"instances": [[1, SECRET, "a"], {"email": SECRET}]},
        {"instances": [SECRET]},
        {"instances": {"email": SECRET}},
        {"instances": [{"email": SECRET}], "parameters": SECRET},
        {"content_type": "text/csv", "base64": SECRET},
        {"dataframe_split": {"columns": ["email"], "data": [SECRET]}},
        {"dataframe_split": {"data": [[SECRET]]}},
        [SECRET],
        f"size,email\n1,{SECRET}",
        None,
    ],
)
def test_what_cannot_be_told_apart_is_not_kept_at_all(body: object) -> None:
    assert redacted(body) is None


def test_what_is_not_json_is_not_kept() -> None:
    assert without_columns(b'{"instances": [[1, "ada', policy()) is None
    assert without_columns(b"\xff", policy()) is None


def test_numbers_stay_what_they_are() -> None:
    body = b'{"instances":[[9007199254740993,"x",1e-320]]}'
    kept = without_columns(body, policy())
    assert kept is not None
    assert b"[9007199254740993,1e-320]" in kept


def test_the_items_of_a_model_of_one_column_go_only_if_they_are_to() -> None:
    body = b'{"instances":["a","b"]}'
    assert without_columns(body, policy(("text",), "other", "items")) == body
    assert without_columns(body, policy(("text",), "text", "items")) is None


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"email": SECRET}]},
        {"instances": [{"person": SECRET}]},
        {"instances": [[SECRET]]},
        {"inputs": [{"person": SECRET}]},
    ],
)
@pytest.mark.parametrize("without", ["person", "email"])
def test_objects_that_are_a_value_are_not_taken_for_rows(body: object, without: str) -> None:
    assert redacted(body, policy(("person",), without, "items")) is None


def test_nothing_is_kept_of_nested_arrays() -> None:
    body = {"instances": [[[1, 2], [3, 4]]]}
    assert redacted(body, policy(("x",), "other", "tensor")) is None


@pytest.mark.parametrize("size", [{}, {"size": 3}])
def test_a_sparse_row_loses_the_column(size: dict[str, int]) -> None:
    body = {"instances": [{"indices": [0, 1], "values": [4, 7], **size}]}
    kept = {"instances": [{"indices": [0], "values": [4], "size": 3}]}
    assert redacted(body, policy(is_sparse=True)) == kept


@pytest.mark.parametrize("row", [{"indices": [-2], "values": [7]}, {"indices": [1]}, {"size": 3}])
def test_a_sparse_row_that_does_not_hold_together_is_not_kept(row: object) -> None:
    assert redacted({"instances": [row]}, policy(is_sparse=True)) is None


def test_columns_named_as_the_keys_of_sparse_rows_are_columns() -> None:
    names = ("indices", "values", "size")
    body = {"instances": [{"indices": [0], "values": [SECRET], "size": 3}]}
    assert redacted(body, policy(names, "values")) == {"instances": [{"indices": [0], "size": 3}]}


def test_names_that_are_numbers_or_booleans_are_taken_for_their_text() -> None:
    body = {"dataframe_split": {"columns": [1, 0, True], "data": [[SECRET, 2.5, 3]]}}
    kept = {"dataframe_split": {"columns": ["0", "True"], "data": [[2.5, 3]]}}
    assert redacted(body, policy(("0", "1", "True"), "1")) == kept


_NAMES = st.lists(
    st.sampled_from(["indices", "values", "size", "0", "1", "True", "False"])
    | st.text(min_size=1, max_size=5),
    min_size=1,
    max_size=5,
    unique=True,
)
_CONTAINERS: list[Container] = ["dataframe", "series", "ndarray", "sparse", "list"]


@st.composite
def _specs(draw: st.DrawFn) -> InputSpec:
    """Draw the input of a model of each container, of columns that may be missing."""
    container = draw(st.sampled_from(_CONTAINERS))
    names = draw(_NAMES)
    is_items = container in ("series", "list") or (container == "ndarray" and draw(st.booleans()))
    numbers = container in ("ndarray", "sparse")
    kind: Kind = "float" if numbers else "any"
    columns = tuple(
        Column(name=name, kind=kind, dtype="float64" if numbers else "object", nullable=True)
        for name in names[: 1 if is_items else None]
    )
    return InputSpec(
        container=container,
        shape=(None,) if is_items else (None, len(columns)),
        columns=columns,
        dtype="float64" if numbers else None,
    )


def _value(data: st.DataObject, spec: InputSpec, number: int) -> Any:
    """Draw a value that no other cell has."""
    mark = 1_000_000 + number
    if spec.columns[0].kind == "float":
        return float(mark)
    name = spec.columns[0].name
    others = [f"text {mark}", [mark], {name: mark}, {"indices": [0], "values": [mark]}]
    return data.draw(st.sampled_from([mark, *others]))


def _named(name: str, data: st.DataObject) -> Any:
    """Return a name, or a number or boolean that decoders take for it."""
    of_text: dict[str, Any] = {"0": 0, "1": 1, "True": True, "False": False}
    return data.draw(st.sampled_from([name, of_text.get(name, name)]))


def _bodies(data: st.DataObject, spec: InputSpec) -> list[Any]:
    """Draw predict bodies of the same rows, in all forms that some model takes."""
    names = [column.name for column in spec.columns]
    rows = [
        [_value(data, spec, 100 * i + j) for j in range(len(names))]
        for i in range(data.draw(st.integers(1, 3)))
    ]
    order = data.draw(st.permutations(range(len(names))))
    records = [{names[j]: row[j] for j in order} for row in rows]
    size = data.draw(st.sampled_from([{}, {"size": len(names)}]))
    sparse = [{"indices": order, "values": [row[j] for j in order], **size} for row in rows]
    split = {
        "columns": [_named(names[j], data) for j in order],
        "data": [[row[j] for j in order] for row in rows],
    }
    lists = [data.draw(st.sampled_from(each)) for each in zip(rows, records, sparse, strict=True)]
    by_name = {names[j]: [row[j] for row in rows] for j in order}
    return [
        *({"instances": of} for of in (rows, records, sparse, lists, [row[0] for row in rows])),
        {"inputs": lists},
        {"inputs": by_name},
        {"dataframe_records": records},
        {"dataframe_records": sparse},
        {"dataframe_split": split},
    ]


def _marks(value: Any) -> set[int]:
    """Return the numbers that tell values apart, of whatever is made of them."""
    if isinstance(value, str):
        return {int(word) for word in value.split() if word.isdigit()}
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return set().union(*map(_marks, value))
    return {int(value)} if isinstance(value, int | float) and value >= 1_000_000 else set()


def _marks_of_column(body: bytes, spec: InputSpec, j: int) -> set[int]:
    """Return what the model is asked with in a column."""
    batch = InputDecoder(spec).decode(body, "application/json")
    if batch.columns is not None:
        return _marks(batch.columns[j])
    found: set[int] = set()
    for row in batch.rows or []:
        if len(spec.shape) == 1:
            found |= _marks(row)
        elif isinstance(row, dict):
            pairs = zip(row["indices"], row["values"], strict=True)
            found |= _marks([value for index, value in pairs if index == j])
        else:
            found |= _marks(row[j])
    return found


@given(_specs(), st.data())
def test_no_body_lets_a_value_through_that_the_model_was_asked_with(
    spec: InputSpec, data: st.DataObject
) -> None:
    names = [column.name for column in spec.columns]
    without = data.draw(st.sets(st.sampled_from(names), min_size=1))
    of_version = logged_as(LogPolicy(without=sorted(without)), spec)
    assert of_version is not None
    for each in _bodies(data, spec):
        body = msgspec.json.encode(each)
        kept = without_columns(body, of_version)
        with suppress(MLServeError):
            asked = [_marks_of_column(body, spec, j) for j in range(len(names))]
            for name, marks in zip(names, asked, strict=True):
                if kept is not None and name in without:
                    assert not marks & _marks(msgspec.json.decode(kept))
                elif kept is not None:
                    assert marks <= _marks(msgspec.json.decode(kept)), "the other columns stay"


@given(st.data())
def test_the_usual_forms_of_a_table_are_kept(data: st.DataObject) -> None:
    names = data.draw(_NAMES.filter(lambda names: len(names) > 1))
    rows = [list(range(len(names)))]
    records = [dict(zip(names, rows[0], strict=True))]
    split = {"columns": names, "data": rows}
    of_version = policy(tuple(names), names[0])
    for body in (
        {"instances": rows},
        {"instances": records},
        {"dataframe_records": records},
        {"inputs": {name: [j] for j, name in enumerate(names)}},
        {"dataframe_split": split},
    ):
        assert redacted(body, of_version) is not None
