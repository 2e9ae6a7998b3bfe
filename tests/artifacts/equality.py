"""Equality bit for bit, dtypes, labels and memory order included."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from mlserve_jupyter.api.decode import InputDecoder
from mlserve_jupyter.api.signature import InputSpec
from mlserve_jupyter.artifacts.infer import encode_body, infer_inputs
from mlserve_jupyter.artifacts.inputs import build_input


def round_trip(sample: Any, spec: InputSpec | None = None) -> Any:
    """Send a sample through everything that a request goes through."""
    spec = spec or infer_inputs(sample)
    batch = InputDecoder(spec).decode(encode_body(sample, spec), "application/json")
    return build_input(spec, batch)


def assert_identical(got: Any, expected: Any) -> None:
    """Assert that two objects are the same in every bit that a model could see."""
    assert type(got) is type(expected)
    if isinstance(expected, pd.DataFrame):
        assert list(got.columns) == list(expected.columns)
        assert list(got.dtypes) == list(expected.dtypes)
        for j in range(expected.shape[1]):
            assert_identical(got.iloc[:, j], expected.iloc[:, j])
    elif isinstance(expected, pd.Series):
        assert got.dtype == expected.dtype
        assert got.name == expected.name
        if expected.dtype == object:
            assert_identical(list(got), list(expected))
        else:
            pd.testing.assert_series_equal(got, expected.reset_index(drop=True), check_exact=True)
        if isinstance(expected.dtype, np.dtype) and expected.dtype.kind == "f":
            assert_identical(got.to_numpy(), expected.to_numpy())
    elif sparse.issparse(expected):
        assert got.dtype == expected.dtype
        assert got.shape == expected.shape
        assert_identical(got.tocsr().data, expected.tocsr().data)
        np.testing.assert_array_equal(got.tocsr().indices, expected.tocsr().indices)
    elif isinstance(expected, np.ndarray):
        assert got.dtype == expected.dtype
        assert got.shape == expected.shape
        if expected.dtype == object:
            assert_identical(got.ravel().tolist(), expected.ravel().tolist())
        elif expected.dtype.kind == "f":
            np.testing.assert_array_equal(got, expected)
            np.testing.assert_array_equal(
                np.signbit(got), np.signbit(expected) & ~np.isnan(expected)
            )
        else:
            np.testing.assert_array_equal(got, expected)
    elif isinstance(expected, list):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_identical(one, other)
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        assert_identical(list(got.values()), list(expected.values()))
    elif isinstance(expected, float) and math.isnan(expected):
        assert math.isnan(got)
    elif expected is pd.NA or expected is pd.NaT:
        assert got is expected
    else:
        assert got == expected
        assert str(got) == str(expected)
