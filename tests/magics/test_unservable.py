"""What is said of objects that cannot be served."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import DBSCAN, AgglomerativeClustering
from sklearn.linear_model import LinearRegression

from mlserve_jupyter.errors import NotServable
from mlserve_jupyter.magics.preparation import prepare

ROWS = np.arange(6.0).reshape(3, 2)
FITTED = LinearRegression().fit(ROWS, [1, 2, 3])


def two(a: Any, b: Any) -> Any:
    return a


def none() -> int:
    return 1


def by_name(*, rows: Any) -> Any:
    return rows


class Encoder:
    def encode(self, X: Any) -> Any:
        return X

    def embed(self, words: Any) -> Any:
        return words


class Empty:
    pass


@pytest.mark.parametrize(
    ("obj", "said"),
    [
        (two, r"`two` takes 2 arguments \(a, b\).*wrap it, such as `lambda X: two\(X, …\)`"),
        (lambda a, b: a, r"this lambda takes 2 arguments \(a, b\)"),
        (partial(two), r"takes 2 arguments \(a, b\)"),
        (none, "`none` takes no rows"),
        (by_name, r"`rows` by its name only.*`lambda X: by_name\(rows=X\)`"),
        ([1, 2], "A list has no method to serve, it is data"),
        ([FITTED], r"A list has no method.*one by one.*\[0\]"),
        ({"a": 1}, "A dict has no method to serve, it is data"),
        ({"ridge": FITTED}, r"A dict.*behind \['ridge'\]"),
        (None, "This is None"),
        (pd.DataFrame(ROWS), "A DataFrame has no method to serve, it is data"),
        (ROWS, "An ndarray has no method to serve, it is data"),
        (math, "`math` is a module"),
        (3, "An int has no"),
        (AgglomerativeClustering().fit(ROWS), "^An AgglomerativeClustering only labels"),
        (DBSCAN().fit(ROWS), "A DBSCAN only labels.*KMeans"),
        (Encoder(), "An Encoder has none.*--method; it has embed, encode"),
        (Empty(), "An Empty has no method to serve"),
        (LinearRegression, "LinearRegression is a class"),
    ],
)
def test_each_is_told_what_it_is_and_what_fits(obj: Any, said: str) -> None:
    with pytest.raises(NotServable, match=said) as caught:
        prepare(obj, {}, sample=ROWS)
    assert "\n" not in str(caught.value)


def test_an_unknown_method_is_served_where_it_is_named() -> None:
    prepared = prepare(Encoder(), {}, sample=ROWS, method="embed")
    assert prepared.method == "embed"


def test_a_call_can_be_asked_for_beside_well_known_methods() -> None:
    class Both:
        def __call__(self, X: Any) -> Any:
            return len(X)

        def predict(self, X: Any) -> Any:
            return X[:, 0]

    assert prepare(Both(), {}, sample=ROWS).methods == ["predict"]
    asked = prepare(Both(), {}, sample=ROWS, method="__call__")
    assert asked.method == "__call__"
    assert asked.methods == ["__call__", "predict"]
