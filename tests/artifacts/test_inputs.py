from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from mlserve_jupyter.api.decode import InputDecoder
from mlserve_jupyter.api.signature import Column, InputBatch, InputSpec
from mlserve_jupyter.artifacts.infer import encode_body, infer_inputs
from mlserve_jupyter.artifacts.inputs import build_input, concat_batches
from tests.artifacts.equality import assert_identical

SAMPLES = [
    pd.DataFrame({"a": [1, 2, 3], "b": pd.Categorical(["x", None, "y"])}),
    pd.Series(["a", "b", "c"], name="s"),
    np.arange(6.0).reshape(3, 2),
    np.arange(12).reshape(3, 2, 2),
    np.array(["a", "b", "c"]),
    sparse.csr_matrix(np.eye(3)),
    ["a", "b", "c"],
]


def rows_of(sample, start, stop):
    if hasattr(sample, "iloc"):
        return sample.iloc[start:stop]
    return sample[start:stop]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_joined_batches_build_the_whole(sample):
    spec = infer_inputs(sample)
    decoder = InputDecoder(spec)
    batches = [
        decoder.decode(encode_body(rows_of(sample, start, stop), spec), "application/json")
        for start, stop in ((0, 1), (1, 3))
    ]
    joined = concat_batches(batches)
    assert joined.n_rows == 3
    assert_identical(build_input(spec, joined), sample)


def test_a_longer_text_than_the_samples_longest_is_not_cut_off():
    spec = infer_inputs(np.array(["a", "bb"]))
    built = build_input(spec, InputBatch(n_rows=1, columns=[["longer"]]))
    assert built.tolist() == ["longer"]


def test_the_fewest_rows_keep_every_dtype():
    frame = pd.DataFrame(
        {"a": pd.array([None, 1], dtype="Int64"), "b": pd.Series([None, "x"], dtype=object)}
    )
    spec = infer_inputs(frame)
    built = build_input(spec, InputBatch(n_rows=1, columns=[[None], [None]]))
    assert list(built.dtypes) == list(frame.dtypes)
    assert built["b"][0] is None


def test_a_batch_without_rows_keeps_every_dtype():
    frame = pd.DataFrame({"a": [1], "b": ["x"], "c": pd.to_datetime(["2024-05-01"])})
    built = build_input(infer_inputs(frame), InputBatch(n_rows=0, columns=[[], [], []]))
    assert len(built) == 0
    assert list(built.dtypes) == list(frame.dtypes)


def test_frames_are_indexed_from_zero():
    frame = pd.DataFrame({"a": [1, 2]}, index=["p", "q"])
    spec = infer_inputs(frame)
    built = build_input(spec, InputBatch(n_rows=2, columns=[[1, 2]]))
    assert isinstance(built.index, pd.RangeIndex)


def test_dense_rows_of_a_sparse_model_store_no_zeros():
    spec = InputSpec(
        container="sparse",
        shape=(None, 3),
        columns=tuple(Column(name=f"x{i}", kind="float", dtype="float64") for i in range(3)),
        dtype="float64",
        sparse_class="csr_array",
    )
    built = build_input(spec, InputBatch(n_rows=1, rows=[[0.0, 2.0, 0.0]]))
    assert isinstance(built, sparse.csr_array)
    assert built.nnz == 1
