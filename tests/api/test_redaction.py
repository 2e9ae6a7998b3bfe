from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_jupyter.api.redaction import without_columns

NAMES = ("size", "email", "kind")
SECRET = "ada@example.org"
SPLIT = {"dataframe_split": {"columns": ["size", "kind"], "data": [[1.5, "a"]]}}


def redacted(body: object) -> object:
    kept = without_columns(msgspec.json.encode(body), NAMES, {"email"})
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
            {"instances": [{"indices": [0, 1], "values": [4, 7], "size": 3}]},
            {"instances": [{"indices": [0], "values": [4], "size": 3}]},
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
    assert without_columns(b'{"instances": [[1, "ada', NAMES, {"email"}) is None
    assert without_columns(b"\xff", NAMES, {"email"}) is None


def test_numbers_stay_what_they_are() -> None:
    body = b'{"instances":[[9007199254740993,"x",1e-320]]}'
    kept = without_columns(body, NAMES, {"email"})
    assert kept is not None
    assert b"[9007199254740993,1e-320]" in kept


def test_the_items_of_a_model_of_one_column_go_only_if_they_are_to() -> None:
    body = b'{"instances":["a","b"]}'
    assert without_columns(body, ("text",), {"other"}) == body
    assert without_columns(body, ("text",), {"text"}) is None


_NAMES = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=5, unique=True)


@given(st.data())
def test_no_form_of_a_body_lets_a_value_through(data: st.DataObject) -> None:
    names = data.draw(_NAMES)
    without = data.draw(st.sets(st.sampled_from(names), min_size=1))
    rows = [
        [SECRET if name in without else i for name in names]
        for i in range(data.draw(st.integers(0, 3)))
    ]
    records = [dict(zip(names, row, strict=True)) for row in rows]
    body = data.draw(
        st.sampled_from(
            [
                {"instances": rows},
                {"inputs": rows},
                {"instances": records},
                {"dataframe_records": records},
                {"inputs": {name: [row[i] for row in rows] for i, name in enumerate(names)}},
                {"dataframe_split": {"columns": names, "data": rows}},
            ]
        )
    )
    kept = without_columns(msgspec.json.encode(body), names, without)
    assert kept is not None
    assert SECRET.encode() not in kept
    if len(without) < len(names) and rows:
        assert msgspec.json.encode(len(rows) - 1) in kept, "the other columns stay"
