"""Models that work in place: what they are asked with is theirs, and never the notebook's."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from mlserve_jupyter.artifacts.outputs import encode_output
from mlserve_jupyter.magics.calling import in_short, own_copy
from mlserve_jupyter.magics.preparation import prepare


def centre(X: Any) -> Any:
    X -= X.mean()
    return X


def take_amounts(rows: Any) -> Any:
    return [row.pop("amount") for row in rows]


def empty_the_list(rows: Any) -> Any:
    return [rows.pop(0) for _ in range(len(rows))]


def add_ratio(df: Any) -> Any:
    df["ratio"] = df["a"] / (df["b"] + 1)
    df.pop("a")
    return df["ratio"].to_numpy()


def take_from_cells(df: Any) -> Any:
    return [cell.pop() for cell in df["items"]]


def scale_sparse(X: Any) -> Any:
    X.data *= 2
    return np.asarray(X.sum(axis=1)).ravel()


def array() -> Any:
    return np.arange(12.0).reshape(6, 2)


def frame() -> Any:
    return pd.DataFrame({"a": np.arange(6.0), "b": np.arange(6.0)[::-1]})


CASES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "array": (array, centre),
    "fortran array": (lambda: np.asfortranarray(array()), centre),
    "list of dicts": (lambda: [{"amount": n, "x": [n]} for n in range(6)], take_amounts),
    "list": (lambda: list("abcdef"), empty_the_list),
    "frame": (frame, add_ratio),
    "frame of lists": (
        lambda: pd.DataFrame({"items": [[n, n + 1] for n in range(6)]}),
        take_from_cells,
    ),
    "series": (lambda: frame()["a"], centre),
    "sparse": (lambda: sp.csr_matrix(np.eye(6)), scale_sparse),
}


def same(left: Any, right: Any) -> bool:
    if isinstance(left, pd.DataFrame | pd.Series):
        return bool(left.equals(right))
    return encode_output(left) == encode_output(right)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("is_given", [True, False])
def test_a_function_that_works_in_place_leaves_the_notebooks_data_alone(
    case: str, is_given: bool
) -> None:
    make, function = CASES[case]
    data, before = make(), make()
    prepared = prepare(function, {"X": data}, sample=data if is_given else None)
    assert same(data, before)
    assert bytes(prepared.sample.answers["__call__"]) == encode_output(function(make()))
    assert prepared.sample.deterministic == {"__call__": True}


@pytest.mark.parametrize("make", [array, frame])
def test_an_estimator_that_does_not_copy_leaves_the_notebooks_data_alone(
    make: Callable[[], Any],
) -> None:
    scaler = StandardScaler(copy=False).fit(make())
    X = make()
    prepared = prepare(scaler, {"X": X})
    assert same(X, make())
    assert bytes(prepared.sample.answers["transform"]) == encode_output(
        np.asarray(scaler.transform(make()))
    )


def test_a_sparse_estimator_that_does_not_copy_leaves_the_notebooks_data_alone() -> None:
    X = sp.csr_matrix(np.eye(6) * 3)
    prepare(MaxAbsScaler(copy=False).fit(X.copy()), {"X": X})
    assert same(X, sp.csr_matrix(np.eye(6) * 3))


def test_rows_of_one_method_are_not_those_of_the_next() -> None:
    class Greedy:
        def predict(self, X: Any) -> Any:
            X[:] = 0
            return X[:, 0]

        def transform(self, X: Any) -> Any:
            return X * 1

    prepared = prepare(Greedy(), {}, sample=array())
    assert bytes(prepared.sample.answers["transform"]) == encode_output(array())
    assert bytes(prepared.sample.body) == b'{"instances":' + encode_output(array()) + b"}"
    assert prepared.signature.inputs.example == {"instances": [[0.0, 1.0]]}


def test_an_answer_that_the_model_writes_over_is_read_in_time() -> None:
    class Buffered:
        def __init__(self) -> None:
            self.buffer = np.zeros(6)

        def predict(self, X: Any) -> Any:
            self.buffer += 1
            return self.buffer

    prepared = prepare(Buffered(), {}, sample=array())
    assert prepared.sample.deterministic == {"predict": False}


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_copy_lies_in_memory_as_the_rows_do(order: Any) -> None:
    values = np.asarray(array(), order=order)
    rows = pd.DataFrame(values, columns=["a", "b"], copy=False)
    assert own_copy(rows).to_numpy().flags.c_contiguous == rows.to_numpy().flags.c_contiguous
    assert own_copy(values).flags.c_contiguous == values.flags.c_contiguous


def test_a_copy_keeps_labels_dtypes_and_categories() -> None:
    rows = pd.DataFrame(
        {"c": pd.Categorical(["a", "b"], ordered=True), "t": pd.to_datetime(["2020", "2021"])},
        index=pd.Index(["p", "q"], name="key"),
    )
    pd.testing.assert_frame_equal(own_copy(rows), deepcopy(rows))
    assert own_copy(rows["c"]).name == "c"


def test_a_reason_is_one_line_without_the_array_that_it_prints() -> None:
    error = ValueError("cannot use [[0.1 0.2 0.3 0.4 0.5]\n [0.1 0.2 0.3 0.4 0.5]] here")
    assert "\n" not in in_short(error)
    assert in_short(ValueError(f"cannot use {np.arange(20.0).tolist()} here")) == (
        "ValueError: cannot use […] here"
    )
    assert in_short(ValueError("Expected 2D array:\narray=[1]")) == "ValueError: Expected 2D array"
    assert in_short(KeyError()) == "KeyError"


def test_a_reason_keeps_the_columns_that_scikit_learn_misses() -> None:
    fitted = StandardScaler().fit(pd.DataFrame({"alcohol": [1.0, 2], "ash": 3.0, "hue": 4.0}))
    rows = pd.DataFrame({"alcohol": [1.0], "Ash": 2.0})
    with pytest.raises(ValueError, match="feature names") as caught:
        fitted.transform(rows)
    assert in_short(caught.value) == (
        "ValueError: The feature names should match those that were passed during fit. "
        "Feature names unseen at fit time: Ash; "
        "Feature names seen at fit time, yet now missing: ash, hue"
    )
