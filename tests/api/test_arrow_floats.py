"""Plain Arrow streams are read in place, and exactly as pyarrow reads them."""

from __future__ import annotations

import random
import struct
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlserve_jupyter.api.arrow_floats import FloatColumns, read_float_columns
from mlserve_jupyter.api.decode import InputDecoder
from mlserve_jupyter.artifacts.infer import infer_inputs
from mlserve_jupyter.artifacts.inputs import build_input
from mlserve_jupyter.errors import MLServeError, SignatureMismatch
from tests.artifacts.equality import assert_identical
from tests.columnar import ARROW, stream


def frame_of(found: FloatColumns) -> pd.DataFrame:
    numbers = [np.frombuffer(column, found.code) for column in found.columns]
    return pd.DataFrame(dict(zip(found.names, numbers, strict=True)))


def random_frame(n_rows: int, n_columns: int, dtype: str = "float64") -> pd.DataFrame:
    values = np.random.default_rng(n_rows).normal(size=(n_rows, n_columns)).astype(dtype)
    return pd.DataFrame(values, columns=[f"c{i}" for i in range(n_columns)])


@given(
    n_rows=st.integers(1, 300),
    n_columns=st.integers(1, 40),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_what_pyarrow_writes_is_read_in_place(n_rows: int, n_columns: int, dtype: str) -> None:
    sent = random_frame(n_rows, n_columns, dtype)
    body = stream(sent)
    found = read_float_columns(body)
    assert found is not None
    pd.testing.assert_frame_equal(frame_of(found), sent, check_exact=True)
    assert all(column.obj is body for column in found.columns)


def test_names_of_any_language_are_read() -> None:
    sent = pd.DataFrame({"Länge": [1.0], "宽": [2.0], "": [3.0]})
    found = read_float_columns(stream(sent))
    assert found is not None
    assert found.names == ("Länge", "宽", "")


def compressed(frame: pd.DataFrame) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def in_batches(frame: pd.DataFrame, n_rows: int) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=n_rows)
    return bytes(sink.getvalue())


FRAME = random_frame(6, 3)
LEFT_TO_PYARROW = {
    "an integer column": stream(FRAME.assign(c1=1)),
    "two widths": stream(FRAME.astype({"c1": "float32"})),
    "half floats": stream(pa.table({"a": pa.array(np.zeros(2, np.float16))})),
    "a missing value": stream(pa.table({"a": [1.0, None]})),
    "a dictionary": stream(pa.table({"a": pa.array([1.0, 2.0]).dictionary_encode()})),
    "lists": stream(pa.table({"a": [[1.0], [2.0]]})),
    "an index of pandas": stream(pa.table({"a": [1.0], "__index_level_0__": [0.0]})),
    "no rows": stream(FRAME[:0]),
    "no columns": stream(pa.table({})),
    "several batches": in_batches(FRAME, 2),
    "compressed": compressed(random_frame(500, 3)),
    "a Parquet file's magic": b"PAR1" + bytes(64),
    "nothing": b"",
    "something after the end": stream(FRAME) + b"x",
    "a column of 1,000 names": stream(random_frame(1, 1000)),
}  # fmt: skip


@pytest.mark.parametrize("what", LEFT_TO_PYARROW)
def test_anything_else_is_left_to_pyarrow(what: str) -> None:
    assert read_float_columns(LEFT_TO_PYARROW[what]) is None


def test_a_stream_cut_off_anywhere_is_left_to_pyarrow() -> None:
    body = stream(FRAME)
    whole = len(body) - 8  # the mark of the end may be missing
    assert read_float_columns(body[:whole]) is not None
    assert all(read_float_columns(body[:n]) is None for n in range(whole))


def test_columns_that_share_their_bytes_are_left_to_pyarrow() -> None:
    body = bytearray(stream(random_frame(100, 4)))
    buffers = [struct.pack("<qq", 800 * i, 800) for i in range(4)]
    for each in buffers[1:]:
        place = body.index(each)
        body[place : place + 16] = buffers[0]
    shrunk = body.index(struct.pack("<q", 3200))  # the size of the message's body
    body[shrunk : shrunk + 8] = struct.pack("<q", 800)
    cut = len(body) - 8 - 2400
    assert read_float_columns(bytes(body[:cut])) is None


@settings(deadline=None, max_examples=3000)
@given(seed=st.integers(0, 2**32))
def test_a_damaged_stream_is_never_read_otherwise_than_pyarrow_does(seed: int) -> None:
    chance = random.Random(seed)
    body = bytearray(stream(FRAME))
    for _ in range(chance.randint(1, 4)):
        body[chance.randrange(len(body))] = chance.choice((0, 1, 4, 8, 255, chance.randrange(256)))
    found = read_float_columns(bytes(body))
    if found is None:
        return
    try:
        read = pa.ipc.open_stream(bytes(body)).read_all()
        read.validate(full=True)
    except (pa.ArrowException, OSError, ValueError):
        return  # pyarrow also looks at what is not needed here, such as pandas' remarks
    assert found.names == tuple(read.column_names)
    for ours, theirs in zip(found.columns, read.columns, strict=True):
        kept = theirs.combine_chunks().to_numpy(zero_copy_only=False)
        assert bytes(ours) == kept.astype(found.code).tobytes()


def decoders(sample: Any, **options: Any) -> tuple[Any, InputDecoder]:
    spec = infer_inputs(sample)
    return spec, InputDecoder(spec, **options)


@pytest.mark.parametrize(
    "sample",
    [
        FRAME,
        FRAME.astype("float32"),
        FRAME.to_numpy(),
        np.asfortranarray(FRAME.to_numpy()),
        FRAME.mask(FRAME > 0.5),
    ],
    ids=["frame", "frame of float32", "array", "array in columns", "frame of missing values"],
)
def test_the_model_gets_the_very_input_that_it_gets_through_pyarrow(sample: Any) -> None:
    spec, decoder = decoders(sample)
    names = [column.name for column in spec.columns]
    values = np.asarray(sample)[::-1] * 3
    sent = {name: values[:, names.index(name)] for name in reversed(names)}
    body = stream(sent)  # a frame's NaN would become nulls
    at_speed = decoder.decode_at_speed(body, ARROW)
    assert at_speed is not None
    through_pyarrow = decoder.decode_packed(body, ARROW)
    assert_identical(build_input(spec, at_speed), build_input(spec, through_pyarrow))


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param({name: np.array([np.nan]) for name in FRAME}, id="NaN, unlike the sample"),
        pytest.param(FRAME.astype("float32"), id="another width"),
    ],
)
def test_values_that_need_a_closer_look_are_left_to_pyarrow(sent: Any) -> None:
    _, decoder = decoders(FRAME)
    assert decoder.decode_at_speed(stream(sent), ARROW) is None


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(FRAME.assign(c9=1.0), id="an unknown column"),
        pytest.param(FRAME[["c0", "c1"]], id="a column that is missing"),
    ],
)
def test_columns_that_do_not_fit_are_refused_in_the_same_words(sent: pd.DataFrame) -> None:
    _, decoder = decoders(FRAME)
    with pytest.raises(SignatureMismatch) as at_speed:
        decoder.decode_at_speed(stream(sent), ARROW)
    with pytest.raises(MLServeError) as through_pyarrow:
        decoder.decode_packed(stream(sent), ARROW)
    assert at_speed.value.message == through_pyarrow.value.message


def test_extra_columns_may_be_dropped() -> None:
    spec, decoder = decoders(FRAME, extra_columns="drop")
    batch = decoder.decode_at_speed(stream(FRAME.assign(c9=1.0)), ARROW)
    assert batch is not None
    assert_identical(build_input(spec, batch), FRAME)
