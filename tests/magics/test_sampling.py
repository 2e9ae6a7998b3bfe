"""The search for a sample among the variables of a notebook."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mlserve_jupyter.errors import SampleUnusable
from mlserve_jupyter.magics.sampling import check_sample, find_sample, head, n_rows

FRAME = pd.DataFrame({"a": np.arange(6.0), "b": np.arange(6.0)[::-1], "c": 1.0})
Y = np.array([0, 1, 0, 1, 0, 1])


def fitted_on_frame() -> Any:
    return LogisticRegression().fit(FRAME[["a", "b"]], Y)


def test_a_frame_with_the_very_columns_is_found() -> None:
    namespace = {"everything": FRAME, "two": FRAME[["a", "b"]], "y": Y}
    found = find_sample(fitted_on_frame(), "predict", namespace)
    assert found.data is namespace["two"]
    assert found.source == "the DataFrame `two`"
    assert found.warnings == ()


def test_the_usual_names_come_first() -> None:
    two = FRAME[["a", "b"]]
    namespace = {"backup": pd.concat([two, two]), "X_test": two.copy(), "X_train": two.copy()}
    assert find_sample(fitted_on_frame(), "predict", namespace).data is namespace["X_train"]
    del namespace["X_train"]
    assert find_sample(fitted_on_frame(), "predict", namespace).data is namespace["X_test"]


def test_otherwise_the_biggest_comes_first() -> None:
    two = FRAME[["a", "b"]]
    namespace = {"few": two.head(2), "many": two, "some": two.head(4)}
    assert find_sample(fitted_on_frame(), "predict", namespace).data is two


def test_a_frame_that_also_has_the_target_gives_the_models_columns() -> None:
    found = find_sample(fitted_on_frame(), "predict", {"df": FRAME})
    assert list(found.data.columns) == ["a", "b"]
    assert found.source == "the model's columns of the DataFrame `df`"


def test_an_array_of_the_right_width_is_found() -> None:
    model = LinearRegression().fit(FRAME.to_numpy(), Y)
    namespace = {"y": Y, "narrow": np.ones((9, 2)), "values": np.ones((3, 3)), "_": np.ones((4, 3))}
    found = find_sample(model, "predict", namespace)
    assert found.data is namespace["values"]
    assert found.source == "the array `values`"


def test_a_sparse_matrix_is_found() -> None:
    counts = sp.csr_matrix(np.eye(4, 3))
    model = MultinomialNB().fit(counts, [0, 1, 0, 1])
    assert find_sample(model, "predict", {"counts": counts}).data is counts


def test_texts_are_found_by_trying_variables_with_the_names_of_inputs() -> None:
    texts = ["good wine", "bad wine", "good cheese", "bad cheese"]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0])
    found = find_sample(model, "predict", {"labels": [1, 0], "texts": texts})
    assert found.data is texts


@pytest.mark.parametrize("n_columns", [1, 2, 3])
def test_a_frame_is_not_taken_for_texts(n_columns: int) -> None:
    texts = ["good wine", "bad wine", "good cheese", "bad cheese"]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0])
    columns = [f"c{number}" for number in range(n_columns)]
    namespace = {"X_train": pd.DataFrame(1.0, index=range(6), columns=columns), "texts": texts}
    assert find_sample(model, "predict", namespace).data is texts


def test_a_variable_that_the_model_refuses_is_passed_over() -> None:
    words = pd.DataFrame({"colour": ["red", "white", "red"]})
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["colour"])), LinearRegression()
    ).fit(words, [1, 2, 3])
    wrong = pd.DataFrame({"colour": [object()] * 9})
    found = find_sample(model, "predict", {"X": wrong, "words": words})
    assert found.data is words


def test_without_any_variable_the_columns_are_taken_as_numbers_and_it_is_said() -> None:
    model = LinearRegression().fit(FRAME.to_numpy(), Y)
    found = find_sample(model, "predict", {"y": Y})
    assert found.data.tolist() == [[0.0, 0.0, 0.0]]
    assert "--sample" in found.warnings[0]
    assert "float64" in found.warnings[0]


def test_zeros_keep_the_names_of_the_columns() -> None:
    assert list(find_sample(fitted_on_frame(), "predict", {}).data.columns) == ["a", "b"]


def test_where_zeros_do_not_fit_a_sample_is_asked_for() -> None:
    words = pd.DataFrame({"colour": ["red", "white"]})
    model = OneHotEncoder().fit(words)
    with pytest.raises(SampleUnusable, match="--sample X"):
        find_sample(model, "transform", {})


def test_a_function_of_unknown_input_asks_for_a_sample() -> None:
    with pytest.raises(SampleUnusable, match="--sample X"):
        find_sample(len, "__call__", {"numbers": 3})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (FRAME[["a"]], "does not fit"),
        (FRAME[["a", "b"]].head(0), "no rows"),
        (3, "An int is not a sample"),
        ("text", "A str is not a sample"),
    ],
)
def test_a_sample_that_cannot_be_used_is_refused_with_the_reason(data: Any, said: str) -> None:
    with pytest.raises(SampleUnusable, match=said):
        check_sample(fitted_on_frame(), "predict", data)


@pytest.mark.parametrize(
    "data",
    [
        FRAME,
        FRAME["a"],
        FRAME.to_numpy(),
        [1, 2, 3, 4],
        sp.csr_matrix(np.eye(4)),
        sp.coo_array(np.eye(4)),
    ],
)
def test_the_head_of_rows_is_of_the_same_type(data: Any) -> None:
    assert type(head(data, 2)) is type(data)
    assert n_rows(head(data, 2)) == 2


def test_what_the_model_raises_on_the_variable_that_was_tried_is_said() -> None:
    with pytest.raises(SampleUnusable, match="`X` was tried, and it raised ZeroDivisionError"):
        find_sample(lambda x: 1 / 0, "__call__", {"X": [[1.0], [2.0]]})
