from __future__ import annotations

import datetime as dt
from decimal import Decimal
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from mlserve_jupyter.artifacts.infer import choose_rows, infer_inputs
from tests.artifacts.equality import assert_identical, round_trip

NAN = float("nan")
BERLIN = "Europe/Berlin"
TIMES = pd.to_datetime(["2024-05-01T12:30:00.123456789", None, "1999-12-31"], format="ISO8601")

COLUMNS = {
    "float64": np.array([0.1, NAN, -0.0]),
    "infinities": np.array([np.inf, -np.inf, 5e-324]),
    "float32": np.array([0.1, 3.4028235e38, NAN], dtype="float32"),
    "float16": np.array([0.1, 65504, NAN], dtype="float16"),
    "big-endian": np.array([0.1, 2, 3], dtype=">f8"),
    "int64": np.array([2**63 - 1, -(2**63), 2**53 + 1]),
    "uint64": np.array([2**64 - 1, 0, 1], dtype="uint64"),
    "int8": np.array([-128, 127, 0], dtype="int8"),
    "bool": np.array([True, False, True]),
    "strings": ["a", 'quoted "b"\n', "é😀"],
    "str": pd.Series(["a", None, "NaN"], dtype="str"),
    "string": pd.Series(["a", None, ""], dtype="string"),
    "string[python]": pd.Series(["a", None, ""], dtype="string[python]"),
    "object strings": pd.Series(["a", None, "b"], dtype=object),
    "object strings, nan": pd.Series(["a", NAN, "b"], dtype=object),
    "object strings, NA": pd.Series(["a", pd.NA, "b"], dtype=object),
    "object, two markers": pd.Series(["a", None, NAN], dtype=object),
    "object, three markers": pd.Series([pd.NaT, None, pd.NA], dtype=object),
    "all missing": pd.Series([None, None, None], dtype=object),
    "mixed": pd.Series(["1", 1, 1.0], dtype=object),
    "mixed with bools": pd.Series([True, None, [1, {"a": NAN}]], dtype=object),
    "infinite objects": pd.Series([np.inf, 1.0, None], dtype=object),
    "large integers": pd.Series([2**70, 1, None], dtype=object),
    "bools and None": pd.Series([True, None, False], dtype=object),
    "decimals": pd.Series([Decimal("1.50"), None, Decimal("-2")], dtype=object),
    "dates": pd.Series([dt.date(2024, 5, 1), None, dt.date(1, 1, 1)], dtype=object),
    "clock": pd.Series([dt.time(12, 30), None, dt.time(0, 0, 0, 1)], dtype=object),
    "bytes": pd.Series([b"\x00\xff", None, b""], dtype=object),
    "datetimes": pd.Series(
        [dt.datetime(2024, 5, 1, 12, tzinfo=dt.timezone.utc), None, dt.datetime(1, 1, 1)],
        dtype=object,
    ),
    "timedelta objects": pd.Series([dt.timedelta(-1, 5, 7), None, dt.timedelta(0)], dtype=object),
    "Timestamps": pd.Series([pd.Timestamp("2024-05-01"), None, pd.Timestamp(1)], dtype=object),
    "Int64": pd.Series([2**63 - 1, None, 2**53 + 1], dtype="Int64"),
    "UInt8": pd.Series([255, None, 0], dtype="UInt8"),
    "Float64": pd.Series([0.1, None, np.inf], dtype="Float64"),
    "Float32": pd.Series([0.1, None, 1], dtype="Float32"),
    "boolean": pd.Series([True, None, False], dtype="boolean"),
    "datetime64[ns]": pd.Series(TIMES).astype("datetime64[ns]"),
    "datetime64[s]": pd.Series(TIMES).astype("datetime64[s]"),
    "datetime64[us]": pd.Series(TIMES).astype("datetime64[us]"),
    "UTC": pd.Series(TIMES.tz_localize("UTC")),
    "Berlin": pd.Series(
        pd.to_datetime(["2024-10-27T00:30Z", "2024-10-27T01:30Z", None]).tz_convert(BERLIN)
    ),
    "offset": pd.Series(TIMES.tz_localize("UTC+05:30")),
    "timedelta64[ns]": pd.Series(pd.to_timedelta([-1, None, 10**15 + 1], unit="ns")),
    "timedelta64[s]": pd.Series(pd.to_timedelta([-1, None, 5], unit="s")).astype("timedelta64[s]"),
    "category": pd.Categorical(["b", None, "a"], categories=["b", "a", "c"]),
    "ordered": pd.Categorical(["b", "a", "a"], categories=["b", "a"], ordered=True),
    "category of int": pd.Categorical([3, 1, 3]),
    "category of float": pd.Categorical([0.1, 1.0, None]),
    "category of bool": pd.Categorical([True, False, True]),
    "category of datetimes": pd.Categorical(TIMES),
    "category of Int64": pd.Categorical(pd.array([2**60 + 1, None, 1], dtype="Int64")),
    "category of objects": pd.Categorical(
        ["b", 1, "1"], categories=pd.Index(["b", 1, "1"], dtype=object)
    ),
    "sparse": pd.arrays.SparseArray([0.0, 1.5, 0.0], fill_value=NAN),
}
if find_spec("pyarrow") is not None:
    COLUMNS |= {
        "arrow int64": pd.Series([2**53 + 1, None, 1], dtype="int64[pyarrow]"),
        "arrow double": pd.Series([0.1, None, 1], dtype="double[pyarrow]"),
        "arrow bool": pd.Series([True, None, False], dtype="bool[pyarrow]"),
        "arrow large_string": pd.Series(["a", None, "b"], dtype="large_string[pyarrow]"),
        "arrow timestamp": pd.Series(TIMES).astype("timestamp[ns][pyarrow]"),
        "arrow aware timestamp": pd.Series(TIMES.tz_localize("UTC")).astype(
            "timestamp[ns, tz=UTC][pyarrow]"
        ),
        "arrow duration": pd.Series(pd.to_timedelta([1, None, 2])).astype("duration[ns][pyarrow]"),
    }


@pytest.mark.parametrize("name", COLUMNS)
def test_a_frame_column_comes_back_bit_for_bit(name):
    frame = pd.DataFrame({name: COLUMNS[name], "other": [1, 2, 3]}).set_axis([7, 8, 9])
    assert_identical(round_trip(frame), frame)


def test_all_columns_together_come_back_bit_for_bit():
    frame = pd.DataFrame(COLUMNS)
    assert_identical(round_trip(frame), frame)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_series_comes_back_bit_for_bit(name):
    series = pd.Series(COLUMNS[name], name="text")
    assert_identical(round_trip(series), series)


def test_a_series_without_a_name_keeps_none():
    assert round_trip(pd.Series([1, 2])).name is None


@pytest.mark.parametrize(
    "array",
    [
        np.array([1.5, NAN]),
        np.array([[1, 2], [3, 2**62 + 1]]),
        np.array([[0.1, NAN], [np.inf, -0.0]]),
        np.asfortranarray(np.arange(6.0).reshape(3, 2)),
        np.array([[True], [False]]),
        np.arange(24, dtype="uint8").reshape(2, 3, 2, 2),
        np.full((2, 2, 2), NAN, dtype="float32"),
        np.array(["a", "long text"]),
        np.array([["a", "b"], ["c", "dd"]]),
        np.array([b"ab", b"\xff"]),
        np.array([["a", 1], [None, 2.5]], dtype=object),
        np.array([[["a", None]], [["b", NAN]]], dtype=object),
        np.array(["2024-05-01", "NaT"], dtype="datetime64[D]"),
        np.array([["2024-05-01T01:02:03.5"]], dtype="datetime64[ms]"),
        np.array([[[90, -1]]], dtype="timedelta64[m]"),
        np.arange(4097.0).reshape(1, -1),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_an_array_comes_back_bit_for_bit(array):
    got = round_trip(array)
    assert_identical(got, array)
    assert got.flags.f_contiguous == array.flags.f_contiguous


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok", "dia", "bsr"])
@pytest.mark.parametrize("family", ["matrix", "array"])
def test_a_sparse_matrix_comes_back_with_its_class(form, family):
    dense = np.array([[0, 1.5, 0], [0, 0, 0], [2, 0, NAN]])
    matrix = getattr(sparse, f"{form}_{family}")(dense)
    assert_identical(round_trip(matrix), matrix)


def test_stored_zeros_of_a_sparse_matrix_stay_stored():
    matrix = sparse.csr_matrix(([0.0, 3.0], [1, 0], [0, 2]), shape=(1, 5000))
    got = round_trip(matrix)
    assert got.data.tolist() == [0.0, 3.0]
    assert got.indices.tolist() == [1, 0]


@pytest.mark.parametrize(
    "items",
    [
        ["one text", "another\x00"],
        [{"a": 1, "b": "x"}, {"c": NAN}],
        [["a", "b"], ["c"]],
        [["a", "b"], ["c", "d"]],
        [1, 2**70],
        [1.5, 2.5],
        [1, 2.5, None],
        [True, False],
    ],
    ids=str,
)
def test_a_list_comes_back_as_it_was(items):
    assert_identical(round_trip(items), items)


def test_rows_of_numbers_in_lists_become_the_array_that_estimators_see():
    assert_identical(round_trip([[1, 2], [3, 4]]), np.array([[1, 2], [3, 4]]))


@pytest.mark.parametrize("labels", [[0, 1], [5, 3], ["a", 7], ["x0", "ä\"'\\"]])
def test_labels_come_back_as_they_were(labels):
    frame = pd.DataFrame([[1.0, "a"], [2.0, "b"]], columns=labels)
    got = round_trip(frame)
    assert list(got.columns) == labels
    assert_identical(got, frame)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_frame_lies_in_memory_as_it_did(order):
    frame = pd.DataFrame(np.asarray(np.arange(12.0).reshape(4, 3), order=order), copy=False)
    assert round_trip(frame).to_numpy().flags.c_contiguous == (order == "C")


def test_chosen_rows_keep_the_order_in_memory():
    array = np.asfortranarray(np.random.default_rng(0).normal(size=(500, 3)))
    chosen = choose_rows(array, infer_inputs(array))
    assert chosen.shape == (64, 3)
    assert chosen.flags.f_contiguous


FLOATS = st.floats(allow_nan=True, allow_infinity=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
INT64 = st.integers(-(2**63), 2**63 - 1)
NS = st.integers(-(2**63) + 1, 2**63 - 1)
JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def series_of(values, dtype):
    return st.lists(values, min_size=1, max_size=6).map(lambda v: pd.Series(v, dtype=dtype))


SERIES = st.one_of(
    series_of(FLOATS, "float64"),
    series_of(st.floats(width=32), "float32"),
    series_of(INT64, "int64"),
    series_of(st.integers(0, 2**64 - 1), "uint64"),
    series_of(st.booleans(), "bool"),
    series_of(st.none() | INT64, "Int64"),
    series_of(st.none() | st.booleans(), "boolean"),
    series_of(st.none() | TEXT, "str"),
    series_of(st.none() | TEXT, "string"),
    series_of(st.none() | TEXT, object),
    series_of(JSONISH, object),
    series_of(NS, "datetime64[ns]"),
    series_of(st.integers(-(2**62), 2**62), "datetime64[ns, Europe/Berlin]"),
    series_of(NS, "timedelta64[ns]"),
    series_of(st.timedeltas(), object),
    series_of(st.datetimes(), object),
    series_of(st.none() | TEXT, "category"),
    series_of(st.none() | INT64, "category"),
)


def tagged(value):
    """Tell whether a free value is itself written as one of the wire's tags."""
    if isinstance(value, list):
        return any(tagged(item) for item in value)
    if isinstance(value, dict):
        return bool({"float", "missing", "base64"} & set(value)) or tagged(list(value.values()))
    return False


@settings(deadline=None, max_examples=300)
@given(SERIES)
def test_any_series_comes_back_bit_for_bit(series):
    if series.dtype == object and tagged(list(series)):
        return
    assert_identical(round_trip(series.rename("s")), series.rename("s"))


@settings(deadline=None, max_examples=100)
@given(st.lists(SERIES, min_size=1, max_size=5))
def test_any_frame_comes_back_bit_for_bit(columns):
    n_rows = min(map(len, columns))
    frame = pd.DataFrame({f"c{i}": values[:n_rows] for i, values in enumerate(columns)})
    assert_identical(round_trip(frame), frame)


@settings(deadline=None, max_examples=100)
@given(st.lists(FLOATS, min_size=1), st.sampled_from(["float64", "float32", "float16"]))
def test_any_float_comes_back_bit_for_bit(values, dtype):
    with np.errstate(over="ignore"):
        array = np.array(values).astype(dtype)
    assert_identical(round_trip(array), array)
