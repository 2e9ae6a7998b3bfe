"""Arrow and Parquet bodies: what comes out is what was sent, and what does not fit says where."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mlserve_jupyter.api.decode import InputDecoder
from mlserve_jupyter.api.packed import sealed
from mlserve_jupyter.artifacts.infer import encode_body, infer_inputs
from mlserve_jupyter.artifacts.inputs import build_input
from mlserve_jupyter.errors import (
    InvalidBody,
    MLServeError,
    SignatureMismatch,
    TooLarge,
    UnsupportedMediaType,
)
from tests.artifacts.equality import assert_identical
from tests.artifacts.test_round_trip import COLUMNS
from tests.columnar import ARROW, PARQUET, parquet_file, stream

NOT_IN_ARROW = {
    "big-endian", "mixed", "mixed with bools", "large integers", "category of objects", "sparse",
    # One kind of missing value, one scale and one time zone a column.
    "object, two markers", "object, three markers", "decimals", "datetimes", "Timestamps",
}  # fmt: skip
FRAME = pd.DataFrame(
    {
        "share": [0.5, 1.5, 2.5],
        "n": np.array([1, 2, 3], dtype="int8"),
        "city": pd.Categorical(["Bern", "Genf", "Bern"]),
        "when": pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-03"]),
        "text": ["a", "b", "c"],
        "ok": [True, False, True],
    }
)
FORMS = [(ARROW, stream), (PARQUET, parquet_file)]


def sent(sample: Any, body: bytes, media_type: str = ARROW, **options: Any) -> Any:
    """Return what the model would be called with."""
    spec = infer_inputs(sample)
    batch = InputDecoder(spec, **options).decode_packed(bytearray(body), media_type)
    return build_input(spec, sealed(batch).opened())


def refusal(sample: Any, body: bytes, media_type: str = ARROW) -> MLServeError:
    with pytest.raises(MLServeError) as caught:
        sent(sample, body, media_type)
    return caught.value


@pytest.mark.parametrize(("media_type", "write"), FORMS, ids=["arrow", "parquet"])
@pytest.mark.parametrize("name", [name for name in COLUMNS if name not in NOT_IN_ARROW])
def test_a_column_comes_back_bit_for_bit(name: str, media_type: str, write: Any) -> None:
    frame = pd.DataFrame({name: COLUMNS[name], "other": [1, 2, 3]}).set_axis([7, 8, 9])
    assert_identical(sent(frame, write(frame), media_type), frame)


@pytest.mark.parametrize(("media_type", "write"), FORMS, ids=["arrow", "parquet"])
def test_columns_come_in_any_order_and_an_index_is_ignored(media_type: str, write: Any) -> None:
    shuffled = FRAME[["ok", "when", "share", "text", "city", "n"]].set_axis(["x", "y", "z"])
    assert_identical(sent(FRAME, write(shuffled), media_type), FRAME)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "bool"])
def test_arrays_and_frames_of_one_dtype_lie_in_memory_as_the_sample(order: Any, dtype: str) -> None:
    array = np.asarray(np.arange(12).reshape(4, 3) % 5, dtype=dtype, order=order)
    frame = pd.DataFrame(array, columns=["a", "b", "c"], copy=False)
    named = {f"x{j}": array[:, j] for j in range(3)}
    lists = {"rows": pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), 3)}
    for sample, body in ((frame, stream(frame)), (array, stream(named)), (array, stream(lists))):
        got = sent(sample, body)
        assert_identical(got, sample)
        assert np.asarray(got).flags.f_contiguous == np.asarray(sample).flags.f_contiguous


def test_missing_floats_come_as_nulls_or_as_nan() -> None:
    frame = pd.DataFrame({"a": [0.1, np.nan], "b": [np.nan, 2.0]})
    for table in (pa.Table.from_pandas(frame), pa.table({n: frame[n].to_numpy() for n in frame})):
        assert_identical(sent(frame, stream(table)), frame)


@pytest.mark.parametrize(
    "column",
    [
        pa.array(np.arange(24.0).reshape(2, 12).tolist(), pa.list_(pa.float64(), 12)),
        pa.array(np.arange(24.0).reshape(2, 3, 4).tolist()),
        pa.array(np.arange(24.0).reshape(2, 3, 4).tolist(), pa.list_(pa.list_(pa.float64(), 4), 3)),
        pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(24.0).reshape(2, 3, 4)),
    ],
    ids=["flat", "lists", "lists of fixed size", "tensors"],
)
def test_arrays_of_more_dimensions_come_in_one_column(column: Any) -> None:
    sample = np.arange(24.0).reshape(2, 3, 4)
    if column.type == pa.list_(pa.float64(), 12):
        assert refusal(sample, stream({"x": column})).details["row"] == 0
    else:
        assert_identical(sent(sample, stream({"x": column})), sample)


def test_series_and_lists_come_in_one_column() -> None:
    series = pd.Series([1.5, 2.5], name="a")
    assert_identical(sent(series, stream({"a": [1.5, 2.5]})), series)
    texts = ["one text", "another"]
    assert sent(texts, stream({"anything": texts})) == texts
    records = [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    assert sent(records, stream({"row": pa.array(records)})) == records


def test_a_model_of_sparse_rows_says_to_send_json() -> None:
    from scipy import sparse

    found = refusal(sparse.csr_matrix(np.eye(2)), stream({"x0": [1.0], "x1": [0.0]}))
    assert isinstance(found, UnsupportedMediaType)


MISFITS = [
    ("share", [0.5, None], pa.array([0.5, None])),
    ("share", [0.5, "NaN"], pa.array([0.5, float("nan")])),
    ("share", ["much", "more"], pa.array(["much", "more"])),
    ("share", [True, False], pa.array([True, False])),
    ("n", [1, 200], pa.array([1, 200])),
    ("n", [1, 1.5], pa.array([1, 1.5])),
    ("n", [1, None], pa.array([1, None])),
    ("n", ["1", "2"], pa.array(["1", "2"])),
    ("city", ["Bern", "Basel"], pa.array(["Bern", "Basel"])),
    ("city", ["Bern", "Basel"], pa.array(["Bern", "Basel"]).dictionary_encode()),
    ("city", ["Bern", None], pa.array(["Bern", None]).dictionary_encode()),
    ("when", ["2026-01-01", None], pa.array([pd.Timestamp("2026-01-01"), None], pa.date32())),
    ("when", [5, 6], pa.array([5, 6])),
    ("text", [1, 2], pa.array([1, 2])),
    ("text", ["a", None], pa.array(["a", None])),
    ("ok", [0, 1], pa.array([0, 1])),
]


@pytest.mark.parametrize(("column", "as_json", "array"), MISFITS)
def test_what_does_not_fit_is_refused_in_the_words_of_json(
    column: str, as_json: list[Any], array: pa.Array
) -> None:
    rows = json.loads(encode_body(FRAME.head(2)))["dataframe_split"]
    position = rows["columns"].index(column)
    for row, value in zip(rows["data"], as_json, strict=True):
        row[position] = value
    with pytest.raises(SignatureMismatch) as expected:
        InputDecoder(infer_inputs(FRAME)).decode(
            json.dumps({"dataframe_split": rows}).encode(), "application/json"
        )
    table = pa.Table.from_pandas(FRAME.head(2)).set_column(position, column, array)
    for media_type, write in FORMS:
        found = refusal(FRAME, write(table), media_type)
        assert (found.message, found.details) == (expected.value.message, expected.value.details)


def test_columns_that_are_missing_unknown_or_there_twice_are_named() -> None:
    assert "column 'n' is missing" in refusal(FRAME, stream(FRAME.drop(columns="n"))).message
    assert "column 'more' is not one" in refusal(FRAME, stream(FRAME.assign(more=1))).message
    table = pa.Table.from_pandas(FRAME)
    twice = table.append_column("n", table.column("n"))
    assert "column 'n' came twice" in refusal(FRAME, stream(twice)).message
    got = sent(FRAME, stream(FRAME.assign(more=1)), extra_columns="drop")
    assert_identical(got, FRAME)


def test_ragged_and_wrong_lists_name_the_row() -> None:
    sample = np.arange(6.0).reshape(2, 3)
    found = refusal(sample, stream({"x": pa.array([[1.0, 2.0, 3.0], [1.0, 2.0]])}))
    assert (found.details["row"], found.code) == (1, "signature_mismatch")
    found = refusal(sample, stream({"x": pa.array([[1.0, 2.0, 3.0], [1.0, None, 3.0]])}))
    assert (found.details["row"], found.details["column"]) == (1, "x1")


def test_datetimes_come_in_any_unit_that_loses_nothing() -> None:
    sample = pd.DataFrame({"t": pd.to_datetime(["2026-01-01T10:00"]).astype("datetime64[ms]")})
    for unit in ("s", "ms", "us", "ns"):
        column = pa.array(sample["t"]).cast(pa.timestamp(unit))
        assert_identical(sent(sample, stream({"t": column})), sample)
    odd = pa.array([1], pa.int64()).cast(pa.timestamp("ns"))
    assert refusal(sample, stream({"t": odd})).details["column"] == "t"
    aware = pa.array(sample["t"]).cast(pa.timestamp("ms")).cast(pa.timestamp("ms", "UTC"))
    assert "without an offset" in refusal(sample, stream({"t": aware})).message


def test_no_rows_are_refused() -> None:
    assert "no rows" in refusal(FRAME, stream(FRAME.head(0))).message


@pytest.mark.parametrize(("media_type", "write"), FORMS, ids=["arrow", "parquet"])
def test_every_cut_of_a_body_is_refused_as_one(media_type: str, write: Any) -> None:
    body = write(FRAME)
    for end in range(0, len(body) - 9, 37):
        try:
            got = sent(FRAME, body[:end], media_type)
        except (InvalidBody, SignatureMismatch):
            continue
        # Only the mark of the end is gone, and the rows are all there.
        assert_identical(got, FRAME)


@pytest.mark.parametrize(("media_type", "write"), FORMS, ids=["arrow", "parquet"])
def test_damaged_bytes_never_become_rows_that_break_the_rules(media_type: str, write: Any) -> None:
    body = bytearray(write(FRAME))
    for position in range(0, len(body), 53):
        damaged = bytearray(body)
        damaged[position] ^= 0xFF
        with contextlib.suppress(InvalidBody, SignatureMismatch, TooLarge):
            assert len(sent(FRAME, bytes(damaged), media_type)) == len(FRAME)


def test_a_footer_that_lies_about_its_rows_is_refused() -> None:
    body = bytearray(parquet_file({"x": np.arange(1000.0)}))
    (length,) = struct.unpack("<I", body[-8:-4])
    footer = len(body) - 8 - length
    # 1000 as thrift's zigzag varint, where the footer counts rows and values.
    assert body[footer:].count(b"\xd0\x0f") >= 2
    body[footer:] = body[footer:].replace(b"\xd0\x0f", b"\xfe\x7f")
    found = refusal(pd.DataFrame({"x": [1.5]}), bytes(body), PARQUET)
    assert isinstance(found, (InvalidBody, TooLarge))


def test_bodies_that_grow_in_memory_are_refused() -> None:
    sample = pd.DataFrame({"x": [1.5, np.nan]})
    zeros = pa.table({"x": np.zeros(2_000_000)})
    for body, media_type in (
        (parquet_file(zeros), PARQUET),
        (stream(zeros, compression="zstd"), ARROW),
        (stream(pa.table({"x": pa.nulls(2_000_000)})), ARROW),
    ):
        assert len(body) < 200_000
        with pytest.raises(TooLarge):
            sent(sample, body, media_type, max_decoded_bytes=2**20)
    assert len(sent(sample, stream({"x": np.zeros(10)}), max_decoded_bytes=2**20)) == 10


def test_an_extension_type_that_would_be_unpickled_runs_nothing(tmp_path: Any) -> None:
    witness = tmp_path / "ran"
    payload = f"cos\nsystem\n(S'touch {witness}'\ntR.".encode()
    field = pa.field(
        "x",
        pa.float64(),
        metadata={
            b"ARROW:extension:name": b"arrow.py_extension_type",
            b"ARROW:extension:metadata": payload,
        },
    )
    table = pa.table([pa.array([1.5])], schema=pa.schema([field]))
    sample = pd.DataFrame({"x": [1.5]})
    assert_identical(sent(sample, stream(table)), sample)
    assert_identical(sent(sample, parquet_file(table), PARQUET), sample)
    assert not witness.exists()
