"""Which labels are refused for the answers of their call."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import pytest

from mlserve_jupyter.analytics import label_checks
from mlserve_jupyter.errors import LabelRejected


class Answered(NamedTuple):
    """A row of the log."""

    request_id: str
    outputs: str


def check(answers: Any, task: Any, labels: list[Any]) -> None:
    row = Answered("r1", msgspec.json.encode(answers).decode())
    label_checks._check(row, task, labels)


@pytest.mark.parametrize(
    ("answers", "task", "labels"),
    [
        ([1.5, 2.0], "regression", [1, None]),
        ([1.5], "regression", ["NaN"]),
        (["a", "b"], "classification", ["c", None]),
        ([1, 0], "classification", [True, 1.0]),
        ([True], "classification", [1]),
        (["a", 1], "classification", [2, "b"]),
        ([[0.1, 0.9]], "classification", ["a"]),
        ({"a": [1]}, "classification", ["a", "b"]),
    ],
)
def test_labels_in_the_form_of_the_answers_are_taken(
    answers: Any, task: str, labels: list[Any]
) -> None:
    check(answers, task, labels)


@pytest.mark.parametrize(
    ("answers", "task", "labels", "words"),
    [
        ([1.5, 2.0], "regression", [1.5], "2 values, and there are 1 labels"),
        ([[0.1, 0.9]], "classification", ["a", "b"], "1 values, and there are 2 labels"),
        ([1.5, 2.0], "regression", [None, "much"], "Label 1 of the call r1 is 'much'.*a number"),
        (["a"], "classification", [1], "with a text"),
        ([1], "classification", ["a"], "a number, true or false"),
    ],
)
def test_labels_in_another_form_are_refused(
    answers: Any, task: str, labels: list[Any], words: str
) -> None:
    with pytest.raises(LabelRejected, match=words):
        check(answers, task, labels)
