from __future__ import annotations

import json

import msgspec
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mlserve_jupyter.api.signature import MAX_NAMED_FEATURES, InputSpec
from mlserve_jupyter.artifacts.infer import choose_rows, encode_body, infer_inputs
from mlserve_jupyter.errors import SampleUnusable
from tests.artifacts.equality import round_trip


def only_column(values):
    return infer_inputs(pd.DataFrame({"v": values})).columns[0]


def test_the_whole_sample_counts_and_not_its_first_row():
    column = only_column([1.0] * 500 + [np.nan, -7.5])
    assert (column.nullable, column.minimum, column.maximum) == (True, -7.5, 1.0)
    mixed = only_column(pd.Series(["a"] * 500 + [1], dtype=object))
    assert mixed.kind == "any"


@pytest.mark.parametrize(
    ("values", "kind", "dtype", "nullable"),
    [
        ([1, 2], "integer", "int64", False),
        ([True, False], "boolean", "bool", False),
        (["a", None], "string", "str", True),
        (pd.Series(["a", None], dtype=object), "string", "object", True),
        (pd.Series(["a", None], dtype="string"), "string", "string", True),
        (pd.Series([1, None], dtype="Int64"), "integer", "Int64", True),
        (pd.Series([1.5, 2], dtype="Float32"), "float", "Float32", False),
        (pd.to_datetime(["2024-05-01"]).astype("datetime64[ns]"), "datetime", "datetime64[ns]", 0),
        (pd.to_timedelta([1, None], unit="ns"), "timedelta", "timedelta64[ns]", True),
        (pd.Categorical(["b", None], categories=["b", "a"]), "category", "category", True),
    ],
)
def test_a_column_is_described_by_its_dtype(values, kind, dtype, nullable):
    column = only_column(values)
    assert (column.kind, column.dtype, column.nullable) == (kind, dtype, bool(nullable))


def test_ranges_are_given_in_their_json_form():
    times = only_column(pd.to_datetime(["2024-05-01T12:00", None, "1999-01-01T00:00"]))
    assert (times.minimum, times.maximum) == ("1999-01-01T00:00:00", "2024-05-01T12:00:00")
    assert only_column([np.inf, 1.0]).maximum == "Infinity"
    assert only_column(np.array([2**64 - 1], dtype="uint64")).maximum == 2**64 - 1


def test_categories_keep_their_order_and_dtype():
    column = only_column(pd.Categorical([3, 1], categories=[3, 1, 2], ordered=True))
    assert column.categories == (3, 1, 2)
    assert (column.categories_dtype, column.ordered) == ("int64", True)


def test_a_signature_survives_json():
    spec = infer_inputs(
        pd.DataFrame(
            {
                "c": pd.Categorical([1.5, 2.0]),
                "t": pd.to_datetime(["2024-05-01", None], utc=True),
                7: [2**62, 1],
            }
        )
    )
    assert msgspec.json.decode(msgspec.json.encode(spec), type=InputSpec) == spec


def test_features_of_an_array_take_the_names_that_the_model_knows():
    names = np.array(["a", "b"], dtype=object)
    spec = infer_inputs(np.ones((2, 2)), names)
    assert [column.name for column in spec.columns] == ["a", "b"]
    assert [column.name for column in infer_inputs(np.ones((2, 2))).columns] == ["x0", "x1"]


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_very_wide_samples_have_one_column_for_all(form):
    spec = infer_inputs(form(np.eye(2, MAX_NAMED_FEATURES + 1)))
    assert len(spec.columns) == 1
    assert spec.shape == (None, MAX_NAMED_FEATURES + 1)


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column 'a'"),
        (pd.DataFrame([[1, 2]], columns=["0", 0]), "more than one column '0'"),
        (pd.DataFrame([[1]], columns=[("a", "b")]), "column label ('a', 'b')"),
        (pd.DataFrame([[1]], columns=[1.5]), "column label 1.5"),
        (pd.DataFrame({"a": []}), "no rows"),
        (pd.DataFrame(index=[1]), "no columns"),
        (pd.DataFrame({"p": pd.period_range("2024", periods=2)}), "dtype period[D"),
        (pd.DataFrame({"c": pd.cut(pd.Series([1, 2, 3]), 2)}), "column 'c'"),
        (pd.DataFrame({"o": [object()]}), "an object of the type builtins.object"),
        (pd.DataFrame({"o": [1 + 2j]}), "complex128"),
        (pd.DataFrame({"o": [["a", {1: 2}]]}), "keys that are no strings"),
        (pd.DataFrame({"t": np.array(["12000-01-01"], "M8[s]")}), "years must be from 1 to 9999"),
        (np.zeros(2, dtype=[("a", int)]), "structured array"),
        (np.ma.masked_array([1, 2], [0, 1]), "masked array"),
        (np.float64(3), "float64"),
        (np.array(3.0), "a single value"),
        (np.ones((0, 2)), "no rows"),
        (np.ones((2, 2), dtype=complex), "complex128"),
        (np.ones(2, dtype=np.longdouble), "convert it to float64"),
        (np.array(["2024-05"], dtype="datetime64[M]"), "datetime64[ns]"),
        (sparse.csr_matrix(np.ones((1, 1), dtype=complex)), "complex128"),
        ([], "no rows"),
        ("a text", "wrap it in a list"),
        ({"a": 1}, "wrap it in a list"),
        (iter([1]), "list_iterator"),
        ([lambda: 1], "function"),
    ],
    ids=str,
)
def test_a_sample_that_no_request_could_carry_is_refused_by_name(sample, said):
    with pytest.raises(SampleUnusable) as caught:
        infer_inputs(sample)
    assert said.lower() in caught.value.message.lower()


def test_a_sample_of_another_width_than_the_model_is_refused():
    with pytest.raises(SampleUnusable, match="fitted on 3 features and the sample has 2"):
        infer_inputs(np.ones((1, 2)), ["a", "b", "c"])


@pytest.mark.parametrize(
    "sample", [["\ud800"], pd.DataFrame({"a": pd.Series(["\ud800"], dtype=object)})]
)
def test_text_that_utf8_cannot_carry_is_refused(sample):
    with pytest.raises(SampleUnusable, match="surrogate"):
        encode_body(sample)


def test_chosen_rows_hold_each_columns_ends_and_missing_values():
    n = 5000
    frame = pd.DataFrame(
        {
            "number": np.r_[np.zeros(n - 3), -9, 9, np.nan],
            "text": ["a"] * (n - 1) + ["the longest"],
            "kind": pd.Categorical(["x"] * (n - 1) + ["rare"]),
            "when": pd.date_range("2024", periods=n),
            "maybe": pd.array([True] * (n - 9) + [None] * 9, dtype="boolean"),
        }
    )
    chosen = choose_rows(frame, infer_inputs(frame))
    assert len(chosen) == 64
    assert chosen["number"].min() == -9
    assert chosen["number"].max() == 9
    assert chosen["number"].isna().any()
    assert "the longest" in set(chosen["text"])
    assert set(chosen["kind"]) == {"x", "rare"}
    assert {frame["when"].min(), frame["when"].max()} <= set(chosen["when"])
    assert chosen["maybe"].isna().any()
    assert chosen.index.is_monotonic_increasing
    assert chosen.index[len(chosen) // 2] < n - 1


@pytest.mark.parametrize(
    "sample",
    [
        np.random.default_rng(0).normal(size=(300, 200)),
        np.random.default_rng(0).normal(size=300),
        np.random.default_rng(0).normal(size=(300, 3, 3)),
        np.array([["a", None]] * 299 + [["bb", 1]], dtype=object),
        sparse.csc_array(np.tri(300, 9)),
        sparse.coo_matrix(np.eye(300, 4)),
        pd.Series(["a"] * 300),
        ["a"] * 300,
        [[1, 2]] * 300,
        [{"a": 1}] * 300,
    ],
    ids=lambda sample: type(sample).__name__,
)
def test_chosen_rows_are_of_the_samples_type_and_as_many_as_asked_for(sample):
    spec = infer_inputs(sample)
    chosen = choose_rows(sample, spec, max_rows=20)
    assert type(chosen) is type(sample)
    assert (chosen.shape[0] if hasattr(chosen, "shape") else len(chosen)) == 20
    round_trip(chosen, spec)


def test_few_rows_are_all_chosen():
    assert choose_rows([1, 2, 3], infer_inputs([1, 2, 3])) == [1, 2, 3]


def test_a_request_for_other_data_than_the_sample_goes_by_column_name():
    spec = infer_inputs(pd.DataFrame({"a": [1], "b": pd.Series(["x"], dtype=object)}))
    body = json.loads(
        encode_body(pd.DataFrame({"b": ["y", np.nan], "a": [2, 3], "z": [0, 0]}), spec)
    )
    assert body["dataframe_split"] == {
        "columns": ["b", "a", "z"],
        "data": [["y", 2, 0], [None, 3, 0]],
    }


def test_missing_objects_are_null_and_never_the_text_nan():
    spec = infer_inputs(pd.DataFrame({"a": pd.Series(["x", None], dtype="str")}))
    body = encode_body(pd.DataFrame({"a": pd.Series(["x", np.nan], dtype=object)}), spec)
    assert json.loads(body)["dataframe_split"]["data"] == [["x"], [None]]
