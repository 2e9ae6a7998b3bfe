from __future__ import annotations

from functools import cached_property, partial

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from mlserve_jupyter.artifacts.methods import can_be_asked, default_method, servable_methods


class Booster:
    best = 3

    def predict(self, data, num_iteration=None, **options):
        return data

    def sample(self, n):
        return n

    def encode(self, X):
        return X

    def encode_pair(self, X, other):
        return X

    def staged_predict(self, X):
        yield X

    def stream(self, X):
        yield X

    @property
    def X_(self):
        raise RuntimeError("not to be touched")

    def _hidden(self, X):
        return X


class Network:
    def __call__(self, *args, **options):
        return args


def test_methods_are_those_that_take_data_in_a_known_order():
    model = LogisticRegression()
    assert servable_methods(model) == [
        "predict",
        "predict_proba",
        "predict_log_proba",
        "decision_function",
    ]


def test_what_is_not_available_is_not_listed():
    assert "predict_proba" not in servable_methods(make_pipeline(StandardScaler(), LinearSVC()))
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    assert "predict_proba" in servable_methods(pipeline)
    assert "transform" not in servable_methods(pipeline)
    assert "predict" not in servable_methods(LocalOutlierFactor())
    assert "predict" in servable_methods(LocalOutlierFactor(novelty=True))


@pytest.mark.parametrize(
    "model", [LinearRegression(), GradientBoostingClassifier(), GaussianMixture()]
)
def test_fitting_scoring_and_generators_are_never_listed(model):
    unwanted = {
        "fit",
        "fit_predict",
        "score",
        "set_params",
        "get_params",
        "staged_predict",
        "sample",
    }
    assert not unwanted & set(servable_methods(model))


def test_methods_whose_data_has_a_default_are_listed():
    assert servable_methods(NearestNeighbors())[:2] == ["kneighbors", "kneighbors_graph"]


def test_objects_of_other_libraries_with_the_same_shape_work():
    assert servable_methods(Booster()) == ["predict", "encode"]


def test_functions_and_callable_objects_are_called():
    assert servable_methods(lambda rows: rows) == ["__call__"]
    assert servable_methods(lambda rows, scale=2: rows) == ["__call__"]
    assert servable_methods(Network()) == ["__call__"]
    assert servable_methods(np.sum) == ["__call__"]


@pytest.mark.parametrize("thing", [Booster, 3, "text", [1], None, lambda: 1, lambda a, b: a])
def test_what_takes_no_data_has_no_methods(thing):
    assert servable_methods(thing) == []


def add(x, n):
    return x + n


class Scorer:
    """Is called, and has a method of the same shape beside it."""

    def __call__(self, X):
        return X

    def explain(self, X):
        return X

    @cached_property
    def helper(self):
        return add


class Encoder:
    """Has methods that nobody knows."""

    def __init__(self):
        self.held = len

    def encode(self, X):
        return X

    def embed(self, words):
        return words


class TorchLike(Network):
    """Has an ``apply`` that takes no data."""

    def apply(self, fn):
        return self

    def forward(self, x):
        return x


def test_a_partial_is_called_and_what_it_holds_never_is():
    scorer = partial(add, n=5)
    assert servable_methods(scorer) == ["__call__"]
    assert default_method(servable_methods(scorer)) == "__call__"
    assert not can_be_asked(scorer, "func")


def test_an_object_that_can_be_called_is_called_where_it_has_no_well_known_method():
    assert servable_methods(Scorer()) == ["__call__", "explain"]
    assert servable_methods(TorchLike()) == ["__call__", "forward"]
    assert can_be_asked(Scorer(), "__call__")
    assert not can_be_asked(Scorer(), "helper")


def test_an_unknown_method_is_never_the_default():
    assert servable_methods(Encoder()) == ["encode"]
    assert default_method(servable_methods(Encoder())) is None
    assert can_be_asked(Encoder(), "encode")
    assert can_be_asked(Encoder(), "embed")
    assert not can_be_asked(Encoder(), "held")
    assert not can_be_asked(Encoder(), "__call__")


def test_the_inverse_of_a_transformer_is_listed_for_nobody_and_can_be_asked():
    scaler = StandardScaler().fit([[1.0]])
    assert servable_methods(scaler) == ["transform"]
    assert can_be_asked(scaler, "inverse_transform")
