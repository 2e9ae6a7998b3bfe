from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mlserve_jupyter.artifacts.outputs import (
    decode_predictions,
    describe_output,
    encode_output,
    split_output,
)
from mlserve_jupyter.errors import ModelFailed
from tests.artifacts.equality import assert_identical

NAN = float("nan")

RESULTS = [
    (np.array([1, 2**63 - 1]), [1, 2**63 - 1]),
    (np.array([[0.1, NAN], [np.inf, -np.inf]]), [[0.1, "NaN"], ["Infinity", "-Infinity"]]),
    (np.array([0.1], dtype="float32"), [0.10000000149011612]),
    (np.array([True, False]), [True, False]),
    (np.array(["a", "é"]), ["a", "é"]),
    (np.array(["a", None, NAN, 1], dtype=object), ["a", None, "NaN", 1]),
    (np.array([b"a"]), [{"base64": "YQ=="}]),
    (np.array([1 + 2j]), [{"real": 1.0, "imag": 2.0}]),
    (np.array(["2024-05-01", "NaT"], "M8[D]"), ["2024-05-01", None]),
    (
        np.array(["2024-05-01T12:00:00.120000000"], "M8[ns]"),
        ["2024-05-01T12:00:00.12"],
    ),
    (np.array([[90, -1]], "m8[m]"), [["PT1H30M", "-PT1M"]]),
    (np.zeros((2, 0)), [[], []]),
    (pd.DataFrame({"a": [1, 2], "b": ["x", None]}), [[1, "x"], [2, None]]),
    (pd.DataFrame({"a": [1.5]}, index=["z"]), [[1.5]]),
    (pd.Series([1, None], dtype="Int64"), [1, None]),
    (pd.Series([0.5, None], dtype="Float64"), [0.5, None]),
    (pd.Series(["a", None], dtype="str"), ["a", None]),
    (pd.Series(["a", None], dtype="category"), ["a", None]),
    (
        pd.Series(pd.to_datetime(["2024-10-27T01:30Z"]).tz_convert("Europe/Berlin")),
        ["2024-10-27T02:30:00+01:00"],
    ),
    (pd.Series(pd.to_timedelta(["1D 00:00:00.5", None])), ["P1DT0.5S", None]),
    (
        sparse.csr_matrix([[0, 2.5], [0, 0]]),
        [{"indices": [1], "values": [2.5], "size": 2}, {"indices": [], "values": [], "size": 2}],
    ),
    (sparse.coo_array([[0, 1]]), [{"indices": [1], "values": [1], "size": 2}]),
    ((np.array([[0.5]]), np.array([[3]])), [[[0.5]], [[3]]]),
    ([np.array([[0.5]]), np.array([[1.0, 0.0]])], [[[0.5]], [[1.0, 0.0]]]),
    ({"a": np.float64(1.5), "b": [np.int64(2)], 3: None}, {"a": 1.5, "b": [2], "3": None}),
]


@pytest.mark.parametrize(("result", "expected"), RESULTS, ids=lambda value: type(value).__name__)
def test_results_take_the_documented_form(result, expected):
    assert json.loads(encode_output(result)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(NAN), "NaN"),
        (np.float32(0.5), 0.5),
        (np.int8(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.datetime64("2024-05-01"), "2024-05-01"),
        (np.timedelta64(5, "s"), "PT5S"),
        (np.array(4.5), 4.5),
        (None, None),
        (pd.NA, None),
        (pd.NaT, None),
        (pd.Timestamp("2024-05-01T12:00:00.000000001"), "2024-05-01T12:00:00.000000001"),
        (pd.Timedelta(1, "ns"), "PT0.000000001S"),
        (Decimal("1.50"), "1.50"),
        (dt.date(2024, 5, 1), "2024-05-01"),
        (dt.timedelta(seconds=-1), "-PT1S"),
        (b"\x00", {"base64": "AA=="}),
        (2**200, 2**200),
        ({1, 3, 2}, [1, 2, 3]),
        ((1, "a"), [1, "a"]),
        (-0.0, -0.0),
    ],
    ids=repr,
)
def test_scalars_take_the_documented_form(value, expected):
    assert json.loads(encode_output(value)) == expected


def test_the_sign_of_zero_is_kept():
    assert encode_output(np.array([-0.0])) == b"[-0.0]"


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (object(), "builtins.object"),
        ((i for i in [1]), "builtins.generator"),
        (np.array([object()], dtype=object), "builtins.object"),
        (np.zeros(1, dtype=[("a", int)]), "dtype [('a'"),
        (np.zeros(1, dtype=np.longdouble), "convert it to float64"),
        ({(1, 2): 3}, "key of the type tuple"),
        ({1: 2, "1": 3}, "two keys of the same text"),
        ("\ud800", "surrogate"),
        (pd.Series(pd.period_range("2024", periods=1)), "Period"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_result_without_a_json_form_is_refused_by_its_type(result, said):
    with pytest.raises(ModelFailed) as caught:
        encode_output(result)
    assert said in caught.value.message


def test_a_result_that_contains_itself_is_refused():
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ModelFailed, match="itself"):
        encode_output(endless)


EXACT = [
    np.array([1, 2], dtype="int8"),
    np.array([[0.1, NAN], [np.inf, 1]], dtype="float32"),
    np.array([], dtype="float64").reshape(2, 0),
    np.array(["a", "long"]),
    np.array([["a", None]] * 2, dtype=object),
    np.array(["2024-05-01", "NaT"], "M8[ns]"),
    np.array([1 + 2j, complex(NAN, 0)]),
    np.array([b"a", b"bc"]),
    np.arange(12).reshape(2, 2, 3),
    pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.array([1, None], dtype="Int64")}),
    pd.Series([0.5, None], dtype="Float64"),
    sparse.csc_matrix([[0, 2.5], [0, 0]]),
    sparse.csr_array([[0, 1], [3, 0]]),
    [{"a": 1.5}, {}],
    {"a": 1},
    3,
]


@pytest.mark.parametrize("result", EXACT, ids=lambda value: type(value).__name__)
def test_predictions_come_back_as_the_method_gave_them(result):
    spec = describe_output(result, 2)
    assert_identical(decode_predictions(json.loads(encode_output(result)), spec), result)


def test_predictions_of_other_sizes_than_the_sample_come_back():
    spec = describe_output(np.array([["a", "b"]] * 3), 3)
    assert decode_predictions([["a", "long text"]], spec).tolist() == [["a", "long text"]]
    assert decode_predictions([], describe_output(np.array([1, 2]), 2)).dtype == np.int64


def test_tuples_and_lists_of_arrays_come_back_as_such():
    result = (np.array([[0.5], [1.5]]), np.array([[3], [4]]))
    back = decode_predictions(json.loads(encode_output(result)), describe_output(result, 2))
    assert isinstance(back, tuple)
    assert_identical(list(back), list(result))


SPLIT = [
    np.arange(10.0).reshape(5, 2),
    pd.DataFrame({"a": range(5)}),
    pd.Series(list("abcde")),
    sparse.coo_matrix(np.eye(5)),
    ["a", "b", "c", "d", "e"],
    (np.arange(5), np.arange(10).reshape(5, 2)),
    [np.arange(5), np.arange(5)],
]


@pytest.mark.parametrize("result", SPLIT, ids=lambda value: type(value).__name__)
def test_a_joined_result_is_split_by_rows(result):
    pieces = split_output(result, [2, 1, 2])
    assert [type(piece) for piece in pieces] == [type(result)] * 3
    whole = json.loads(encode_output(result))
    parts = [json.loads(encode_output(piece)) for piece in pieces]
    if isinstance(result, (tuple, list)) and isinstance(result[0], np.ndarray):
        joined = [sum((part[i] for part in parts), []) for i in range(len(result))]
    else:
        joined = sum(parts, [])
    assert joined == whole


@pytest.mark.parametrize("result", [3.5, {"a": 1}, np.arange(4), [np.arange(2), np.arange(2)]])
def test_a_result_without_the_rows_is_not_split(result):
    with pytest.raises(ValueError, match="without 2 rows"):
        split_output(result, [1, 1])


def test_what_the_sample_showed_decides_between_rows_and_parts():
    spec = describe_output([np.arange(3), np.arange(3)], 3)
    assert spec.by_row
    pieces = split_output([np.array([1, 2]), np.array([3, 4])], [1, 1], spec)
    assert [[part.tolist() for part in piece] for piece in pieces] == [[[1], [3]], [[2], [4]]]


def test_a_worker_needs_neither_msgspec_nor_pandas():
    code = (
        "import sys\n"
        "import mlserve_jupyter.artifacts.inputs, mlserve_jupyter.artifacts.outputs\n"
        "print(sorted({'msgspec', 'pandas', 'scipy', 'tornado'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "result",
    [
        pd.Series([1.5, 2.5], name="price"),
        pd.Series([1, 2], name=7),
        pd.Series(pd.Categorical(["low", None], ["low", "high"], ordered=True), name="risk"),
        pd.Series(pd.Categorical([3, 1], [3, 2, 1])),
        pd.DataFrame({"risk": pd.Categorical(["low", "low"], ["low", "high"], ordered=True)}),
        pd.DataFrame({0: [1.5, 2.5], 1: [1, 2]}),
        pd.DataFrame({"a": [1, 2], 1: [3, 4]}),
    ],
)
def test_names_and_categories_come_back(result):
    back = decode_predictions(json.loads(encode_output(result)), describe_output(result, 2))
    assert type(back) is type(result)
    pd.testing.assert_frame_equal(pd.DataFrame(back), pd.DataFrame(result), check_column_type=False)


def test_a_category_that_the_sample_did_not_know_comes_back_all_the_same():
    known = describe_output(pd.Series(["a", "b"], dtype="category"), 2)
    assert decode_predictions(["a", "c", None], known).tolist()[:2] == ["a", "c"]
