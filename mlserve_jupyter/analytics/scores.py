"""Scores of answers against what was true, a row at a time and in bounded memory."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mlserve_jupyter.api.labels import Label
from mlserve_jupyter.api.number_checks import NON_FINITE
from mlserve_jupyter.api.profile import MAX_CLASSES, Task
from mlserve_jupyter.api.quality import Classification, ClassScore, Regression, Scores

_LEAST_PROBABILITY = 1e-15


class Scorer(ABC):
    """Scores the answers of calls.

    Attributes
    ----------
    n_calls, n_rows
        What was scored.
    """

    def __init__(self) -> None:
        self.n_calls = 0
        self.n_rows = 0

    def add(self, predictions: Any, labels: Sequence[Label]) -> bool:
        """Score a call; rows whose label is None are left out.

        Parameters
        ----------
        predictions
            The JSON value of the answer (hence ``Any``).
        labels
            One a row.

        Returns
        -------
        bool
            False where the call cannot be scored; then nothing of it is.
        """
        if not isinstance(predictions, list) or len(predictions) != len(labels):
            return False
        pairs = []
        for predicted, true in zip(predictions, labels, strict=True):
            if true is None:
                continue
            pair = self._read(predicted, true)
            if pair is None:
                return False
            pairs.append(pair)
        for pair in pairs:
            self._score(*pair)
        self.n_calls += 1
        self.n_rows += len(pairs)
        return True

    @abstractmethod
    def scores(self) -> Scores:
        """Return what the scores are so far."""

    @abstractmethod
    def _read(self, predicted: Any, true: Label) -> tuple[Any, Any] | None: ...

    @abstractmethod
    def _score(self, predicted: Any, true: Any) -> None: ...


def scorer_of(task: Task, classes: Sequence[Label] = ()) -> Scorer:
    """Return a scorer.

    Parameters
    ----------
    task
        Whether classes or numbers are scored.
    classes
        What the columns of probabilities stand for.
    """
    return RegressionScorer() if task == "regression" else ClassificationScorer(classes)


class ClassificationScorer(Scorer):
    """Scores classes, or the probabilities of each: then the most probable one is the answer."""

    def __init__(self, classes: Sequence[Label] = ()) -> None:
        super().__init__()
        self._classes = [_class(label) for label in classes]
        self._positions = {label: i for i, label in enumerate(self._classes)}
        self._n_right: Counter[Label] = Counter()
        self._seen: set[Label] = set()
        self._n_true: Counter[Label] = Counter()
        self._n_predicted: Counter[Label] = Counter()
        self._n_all_right = 0
        self._log_loss = 0.0
        self._n_probabilities = 0

    def scores(self) -> Scores:
        """Return accuracy and F1, and the log loss of probabilities."""
        if not self.n_rows:
            return Scores(n_calls=self.n_calls, n_rows=0, classification=None, regression=None)
        classes = self._class_scores()
        found = Classification(
            accuracy=self._n_all_right / self.n_rows,
            f1_macro=_mean([(each.f1, 1) for each in classes]),
            f1_weighted=_mean([(each.f1, each.n_true) for each in classes]),
            log_loss=self._log_loss / self.n_rows if self._n_probabilities == self.n_rows else None,
            classes=classes,
        )
        return Scores(
            n_calls=self.n_calls, n_rows=self.n_rows, classification=found, regression=None
        )

    def _read(self, predicted: Any, true: Label) -> tuple[Any, Any] | None:
        true = _class(true)
        if not isinstance(predicted, list):
            return None if isinstance(predicted, dict) else (_class(predicted), true)
        if not self._classes or len(predicted) != len(self._classes):
            return None
        if not all(isinstance(each, int | float) for each in predicted):
            return None
        return predicted, true

    def _score(self, predicted: Any, true: Any) -> None:
        if isinstance(predicted, list):
            place = self._positions.get(true)
            given = 0.0 if place is None else float(predicted[place])
            self._log_loss -= math.log(min(max(given, _LEAST_PROBABILITY), 1.0))
            self._n_probabilities += 1
            predicted = self._classes[max(range(len(predicted)), key=predicted.__getitem__)]
        if predicted == true:
            self._n_all_right += 1
        if len(self._seen) <= MAX_CLASSES:
            self._seen |= {predicted, true}
        if len(self._seen) > MAX_CLASSES:
            return
        self._n_true[true] += 1
        self._n_predicted[predicted] += 1
        if predicted == true:
            self._n_right[true] += 1

    def _class_scores(self) -> list[ClassScore]:
        if len(self._seen) > MAX_CLASSES:
            return []
        found = []
        labels = self._n_true | self._n_predicted
        for label in labels:
            right, n_true, n_predicted = (
                self._n_right[label],
                self._n_true[label],
                self._n_predicted[label],
            )
            found.append(
                ClassScore(
                    label=label,
                    precision=right / n_predicted if n_predicted else 0.0,
                    recall=right / n_true if n_true else 0.0,
                    f1=2 * right / (n_true + n_predicted),
                    n_true=n_true,
                    n_predicted=n_predicted,
                )
            )
        return sorted(found, key=lambda each: (-each.n_true, str(each.label)))


class RegressionScorer(Scorer):
    """Scores numbers."""

    def __init__(self) -> None:
        super().__init__()
        self._sum = 0.0
        self._sum_of_abs = 0.0
        self._sum_of_squares = 0.0
        # Welford's, since numbers that are large and close together would cancel out.
        self._mean_true = 0.0
        self._spread_true = 0.0
        self._n = 0

    def scores(self) -> Scores:
        """Return the errors."""
        if not self.n_rows:
            return Scores(n_calls=self.n_calls, n_rows=0, classification=None, regression=None)
        n = self.n_rows
        found = Regression(
            mean_error=self._sum / n,
            mae=self._sum_of_abs / n,
            rmse=math.sqrt(self._sum_of_squares / n),
            r2=1 - self._sum_of_squares / self._spread_true if self._spread_true > 0 else None,
        )
        return Scores(n_calls=self.n_calls, n_rows=n, classification=None, regression=found)

    def _read(self, predicted: Any, true: Label) -> tuple[Any, Any] | None:
        numbers = []
        for value in (predicted, true):
            value = NON_FINITE.get(value) if isinstance(value, str) else value
            if not isinstance(value, int | float) or not abs(value) < 1e150:
                return None
            numbers.append(float(value))
        return numbers[0], numbers[1]

    def _score(self, predicted: Any, true: Any) -> None:
        error = predicted - true
        self._sum += error
        self._sum_of_abs += abs(error)
        self._sum_of_squares += error * error
        self._n += 1
        before = true - self._mean_true
        self._mean_true += before / self._n
        self._spread_true += before * (true - self._mean_true)


def _class(value: Any) -> Any:
    """Return a class in one form: 1.0 is 1 (any, hence ``Any``)."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _mean(weighted: Sequence[tuple[float, int]]) -> float | None:
    weight = sum(each for _, each in weighted)
    return math.fsum(value * each for value, each in weighted) / weight if weight else None
