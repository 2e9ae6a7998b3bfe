"""What a deploy learns of how the values of its sample are distributed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from mlserve_jupyter.api.profile import (
    Counter,
    FeatureProfile,
    Profile,
    check_profile,
    output_columns,
)
from mlserve_jupyter.artifacts.infer import infer_inputs
from mlserve_jupyter.artifacts.profile import (
    MAX_OUTPUT_ROWS,
    MAX_ROWS,
    profile_inputs,
    profile_outputs,
    sample_rows,
)
from mlserve_jupyter.errors import InvalidRequest

random = np.random.default_rng(5)


def profiled(sample: Any) -> dict[str, FeatureProfile]:
    found = profile_inputs(sample, infer_inputs(sample))
    check_profile(Profile(n_rows=1, features=found))
    return {each.name: each for each in found}


def test_numbers_are_counted_by_deciles() -> None:
    values = np.arange(1000.0)
    found = profiled(pd.DataFrame({"a": random.permutation(values)}))["a"]
    assert found.kind == "number"
    assert found.edges[1:-1] == [99.5, 199.5, 299.5, 399.5, 499.5, 599.5, 699.5, 799.5, 899.5]
    assert found.counts == [0, *[100] * 10, 0]


def test_few_numbers_are_counted_each() -> None:
    found = profiled(pd.DataFrame({"a": [3] * 5 + [1] * 2 + [2, 2, 2]}))["a"]
    assert found.edges[1:-1] == [1.5, 2.5]
    assert found.counts == [0, 2, 3, 5, 0]


@pytest.mark.parametrize("value", [0.0, 5.0, -1e-300, 1e308, float("inf")])
def test_a_constant_has_a_bin_of_its_own(value: float) -> None:
    found = profiled(np.full((40, 1), value))["x0"]
    assert found.counts == [0, 40, 0]
    counter = Counter(found)
    counter.add([value if value < 1e308 else "Infinity", -2e9, None])
    assert counter.counts == [1, 1, 0, 1]


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1.5, None, 2.5] * 20),
        pd.Series([1, None, 2] * 20, dtype="Int64"),
        pd.Series([1.5, None, 2.5] * 20, dtype="object"),
        pd.Series([True, None, False] * 20, dtype="boolean"),
        pd.Series(["a", None, "b"] * 20),
        pd.Series(["a", None, "b"] * 20, dtype="category"),
    ],
    ids=str,
)
def test_what_is_missing_is_counted_by_itself(values: pd.Series[Any]) -> None:
    found = profiled(pd.DataFrame({"a": values}))["a"]
    assert found.n_missing == 20
    assert sum(found.counts) == 40


def test_texts_are_categories_where_they_are_few_and_lengths_where_they_are_many() -> None:
    found = profiled(
        pd.DataFrame({"few": ["x", "y"] * 50, "many": [f"text {i}" for i in range(100)]})
    )
    assert (found["few"].kind, found["few"].categories) == ("category", ["x", "y"])
    assert found["many"].kind == "length"
    assert found["many"].counts == [0, 10, 90, 0]


def test_times_and_nested_values_are_not_counted() -> None:
    frame = pd.DataFrame(
        {"when": pd.date_range("2026-01-01", periods=40), "what": [[1, 2]] * 40, "n": range(40)}
    )
    assert profiled(frame).keys() == {"n"}
    assert profiled(np.zeros((40, 8, 8))) == {}


def test_a_list_of_texts_is_counted_by_length() -> None:
    [found] = profiled([f"a text that says {i}" for i in range(60)]).values()
    assert found.kind == "length"


def test_sparse_columns_count_their_zeros() -> None:
    matrix = scipy.sparse.csr_matrix(np.diag(np.arange(1.0, 41)))
    found = profiled(matrix)["x3"]
    assert found.counts == [0, 39, 1, 0]


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_values_that_were_rounded_on_their_way_fall_into_the_same_bins(dtype: str) -> None:
    values = (np.arange(100) % 10 / 10).astype(dtype)
    found = profiled(values.reshape(-1, 1))["x0"]
    counter = Counter(found)
    counter.add(np.round(values.astype(float), 3).tolist())
    assert counter.counts == [*found.counts, 0]


def test_the_sample_counts_as_it_was_counted() -> None:
    frame = pd.DataFrame(
        {
            "n": random.normal(size=500).round(2),
            "i": random.integers(0, 5, 500),
            "c": random.choice(["a", "b", "é"], 500),
            "t": ["x" * n for n in random.integers(0, 90, 500)],
            "b": random.random(500) < 0.3,
        }
    )
    for name, found in profiled(frame).items():
        counter = Counter(found)
        counter.add(frame[name].tolist())
        assert counter.counts == [*found.counts, 0], name


def test_rows_are_chosen_at_random_and_always_the_same() -> None:
    frame = pd.DataFrame({"a": np.arange(50_000)})
    first, second = sample_rows(frame, MAX_ROWS), sample_rows(frame, MAX_ROWS)
    assert first.equals(second)
    assert len(first) == MAX_ROWS
    assert abs(first["a"].mean() - 25_000) < 1000
    assert first["a"].is_monotonic_increasing


def test_answers_are_counted_by_what_they_are() -> None:
    sample = np.arange(3000.0).reshape(-1, 1)
    asked: list[int] = []

    def ask(rows: Any) -> Any:
        asked.append(len(rows))
        return np.where(rows[:, 0] % 3 == 0, "yes", "no")

    [found] = profile_outputs(ask, sample, "predict")
    assert (found.name, found.kind) == ("predict", "category")
    assert sum(found.counts) == MAX_OUTPUT_ROWS
    assert asked == [100, MAX_OUTPUT_ROWS]
    assert [p.name for p in profile_outputs(lambda x: np.hstack([x, 1 - x]), sample, "p")] == [
        "p[0]",
        "p[1]",
    ]
    assert profile_outputs(lambda x: x[:, 0] * 1.5, sample, "predict")[0].kind == "number"
    assert profile_outputs(lambda x: [{"a": 1}] * len(x), sample, "predict") == []
    assert profile_outputs(lambda x: float(x.sum()), sample, "predict") == []


def test_outputs_of_another_form_have_no_columns() -> None:
    for value in (None, 1.0, {}, [], [[]], [[1], [1, 2]], [[[1]]], [1, [2]], [{}]):
        assert output_columns(value, "predict") == []


@pytest.mark.parametrize(
    "feature",
    [
        FeatureProfile(name="a", kind="number", edges=[1.0, 0.0], counts=[1, 1, 1]),
        FeatureProfile(name="a", kind="number", edges=[0.0, 0.0], counts=[1, 1, 1]),
        FeatureProfile(name="a", kind="number", edges=[float("nan")], counts=[1, 1]),
        FeatureProfile(name="a", kind="number", edges=[0.0], counts=[1]),
        FeatureProfile(name="a", kind="number", edges=[], counts=[1]),
        FeatureProfile(name="a", kind="category", categories=["x", "x"], counts=[1, 1, 1]),
        FeatureProfile(name="a", kind="category", categories=["x"], edges=[1.0], counts=[1, 1]),
    ],
)
def test_a_histogram_that_does_not_hold_together_is_refused(feature: FeatureProfile) -> None:
    with pytest.raises(InvalidRequest, match="'a'"):
        check_profile(Profile(n_rows=1, features=[feature]))
