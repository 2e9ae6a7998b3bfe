"""Scores of answers, against scikit-learn's and by hand."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from mlserve_jupyter.analytics.scores import scorer_of
from mlserve_jupyter.api.profile import MAX_CLASSES
from mlserve_jupyter.api.quality import Classification, Regression

SEEDS = range(20)


def classified(predicted: list[Any], true: list[Any], classes: Any = ()) -> Classification:
    scorer = scorer_of("classification", classes)
    for start in range(0, len(true), 7):
        assert scorer.add(predicted[start : start + 7], true[start : start + 7])
    found = scorer.scores().classification
    assert found is not None
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_classes_are_scored_as_scikit_learn_does(seed: int) -> None:
    chance = random.Random(seed)
    names = ["a", "b", "c", "never answered", "never true"]
    true = [chance.choice(names[:4]) for _ in range(300)]
    predicted = [t if chance.random() < 0.6 else chance.choice(names[:3]) for t in true]
    predicted = [p if p != names[3] else "a" for p in predicted[:-1]] + [names[4]]
    found = classified(predicted, true)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(true, predicted))
    for average, score in (("macro", found.f1_macro), ("weighted", found.f1_weighted)):
        theirs = metrics.f1_score(true, predicted, average=average, zero_division=0)
        assert score == pytest.approx(theirs)
    theirs = metrics.precision_recall_fscore_support(
        true, predicted, labels=[each.label for each in found.classes], zero_division=0
    )
    ours = [(each.precision, each.recall, each.f1, each.n_true) for each in found.classes]
    np.testing.assert_allclose(np.array(ours).T, theirs)
    assert found.log_loss is None


@pytest.mark.parametrize("seed", SEEDS)
def test_probabilities_are_scored_by_the_most_probable_class(seed: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet([1, 1, 1], 200)
    true = generator.choice([3, 5, 9], 200).tolist()
    found = classified(probabilities.tolist(), true, [3, 5, 9])
    answered = np.array([3, 5, 9])[probabilities.argmax(axis=1)]
    assert found.accuracy == pytest.approx(metrics.accuracy_score(true, answered))
    assert found.log_loss == pytest.approx(metrics.log_loss(true, probabilities))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("far", [0.0, 1e9])
def test_numbers_are_scored_as_scikit_learn_does(seed: int, far: float) -> None:
    generator = np.random.default_rng(seed)
    true = generator.normal(far, 3, 500)
    predicted = true + generator.normal(0.5, 1, 500)
    scorer = scorer_of("regression")
    for start in range(0, 500, 9):
        assert scorer.add(predicted[start : start + 9].tolist(), true[start : start + 9].tolist())
    found = scorer.scores().regression
    assert found is not None
    assert found.mae == pytest.approx(metrics.mean_absolute_error(true, predicted))
    assert found.rmse == pytest.approx(metrics.mean_squared_error(true, predicted) ** 0.5)
    assert found.r2 == pytest.approx(metrics.r2_score(true, predicted), abs=1e-6)
    assert found.mean_error == pytest.approx(float(np.mean(predicted - true)))


def test_the_errors_of_three_numbers_are_what_they_are_by_hand() -> None:
    scorer = scorer_of("regression")
    assert scorer.add([1, 2.5, 6], [1, 2, 3])
    scores = scorer.scores()
    assert (scores.n_calls, scores.n_rows) == (1, 3)
    assert scores.regression == Regression(
        mean_error=3.5 / 3, mae=3.5 / 3, rmse=(9.25 / 3) ** 0.5, r2=1 - 9.25 / 2
    )


def test_of_numbers_that_are_all_the_same_there_is_no_r2() -> None:
    scorer = scorer_of("regression")
    assert scorer.add([1, 2], [1.5, 1.5])
    found = scorer.scores().regression
    assert found is not None
    assert found.r2 is None


def test_rows_without_a_label_are_left_out() -> None:
    scorer = scorer_of("classification")
    assert scorer.add([0, 1, 1], [0, None, 0])
    scores = scorer.scores()
    assert scores.n_rows == 2
    assert scores.classification is not None
    assert scores.classification.accuracy == 0.5


def test_whole_floats_and_integers_are_one_class() -> None:
    assert classified([0.0, 1, 1.0], [0, 1.0, 1]).accuracy == 1
    assert classified([True, False], [1, 0]).accuracy == 1
    assert classified(["1"], [1]).accuracy == 0


@pytest.mark.parametrize(
    ("task", "predicted", "true"),
    [
        ("regression", [1.0], [1.0, 2.0]),
        ("regression", [1.0], ["one"]),
        ("regression", ["NaN"], [1.0]),
        ("regression", [[1.0, 2.0]], [1.0]),
        ("regression", [1e200], [1.0]),
        ("regression", None, [1.0]),
        ("classification", {"a": 1}, ["a"]),
        ("classification", [{"a": 1}], ["a"]),
        ("classification", [[0.5, 0.5]], ["a"]),
    ],
)
def test_calls_that_cannot_be_scored_leave_no_trace(task: Any, predicted: Any, true: Any) -> None:
    scorer = scorer_of(task)
    assert not scorer.add(predicted, true)
    assert (scorer.n_calls, scorer.n_rows) == (0, 0)
    assert scorer.scores().classification is None
    assert scorer.scores().regression is None


def test_of_more_classes_than_are_told_apart_the_accuracy_remains() -> None:
    n = MAX_CLASSES + 10
    found = classified([*range(n), 0], [*range(n), 1])
    assert found.accuracy == pytest.approx(n / (n + 1))
    assert found.f1_macro is None
    assert found.classes == []
