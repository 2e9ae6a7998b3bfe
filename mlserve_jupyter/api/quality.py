"""Wire types of quality: how good a model's answers were where it is known what was true."""

from __future__ import annotations

from datetime import datetime

import msgspec

from mlserve_jupyter.api.labels import Label
from mlserve_jupyter.api.profile import Task


class ClassScore(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of one class.

    Attributes
    ----------
    label
        The class.
    precision
        Of the rows that were answered with it, the share that were of it; 0.0 where none was.
    recall
        Of the rows that were of it, the share that were answered with it; 0.0 where none was.
    f1
        ``2 * precision * recall / (precision + recall)``; 0.0 where both are.
    n_true, n_predicted
        Rows that were of it, and that were answered with it.
    """

    label: Label
    precision: float
    recall: float
    f1: float
    n_true: int
    n_predicted: int


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """How often classes were right.

    Attributes
    ----------
    accuracy
        Share of the rows whose answer was right.
    f1_macro, f1_weighted
        Mean of the classes' F1, and the same weighted by ``n_true``; None where there are more
        classes than are told apart.
    log_loss
        Mean of ``-ln(p)``, where ``p`` is the probability that the model gave to what was true, at
        least 1e-15; None where its answers are no probabilities.
    classes
        By falling ``n_true``; empty where there are more than are told apart.
    """

    accuracy: float
    f1_macro: float | None
    f1_weighted: float | None
    log_loss: float | None
    classes: list[ClassScore]


class Regression(msgspec.Struct, frozen=True, kw_only=True):
    """How far numbers were off; an error is the answer minus what was true.

    Attributes
    ----------
    mean_error
        Mean of the errors: the bias.
    mae
        Mean of their absolute values.
    rmse
        Square root of the mean of their squares.
    r2
        ``1 - sum(error ** 2) / sum((true - mean(true)) ** 2)``; None where all that was true is
        the same.
    """

    mean_error: float
    mae: float
    rmse: float
    r2: float | None


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """How good some answers were.

    Attributes
    ----------
    n_calls, n_rows
        Calls and rows that were scored.
    classification, regression
        One of them, by what the model is for; None both where nothing was scored.
    """

    n_calls: int
    n_rows: int
    classification: Classification | None
    regression: Regression | None


class DayScores(Scores, frozen=True, kw_only=True):
    """The answers of one day, in UTC.

    Attributes
    ----------
    at
        When the day begins.
    """

    at: datetime


class VersionQuality(Scores, frozen=True, kw_only=True):
    """The answers of one method of a version.

    Attributes
    ----------
    version, method
        Which.
    task
        Whether classes or numbers were scored: as the model says of itself, else numbers where its
        method gives floats.
    n_not_scored
        Labelled calls that could not be: the number of labels is not that of the answers, the
        answers are not logged or are not one value (or probability of each class) a row, or
        numbers were labelled with texts.
    days
        In order, without those in which nothing was scored.
    """

    version: int
    method: str
    task: Task
    n_not_scored: int
    days: list[DayScores]


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """How good a model's answers were where they have labels.

    Attributes
    ----------
    model
        Which.
    since, until
        Calls that came at ``since`` or later, and before ``until``.
    n_labelled
        Calls of any time that have labels, also where they are not in the log.
    n_calls
        Labelled calls of the range that are in the log.
    is_cut
        Whether there were more than are scored at once; then the newest are.
    versions
        Newest first.
    """

    model: str
    since: datetime
    until: datetime
    n_labelled: int
    n_calls: int
    is_cut: bool
    versions: list[VersionQuality]
