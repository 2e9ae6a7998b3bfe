"""The notebook's variables: expressions, names and what is said of those that are missing."""

from __future__ import annotations

import pytest

from mlserve_jupyter.errors import InvalidName, NotebookError
from mlserve_jupyter.magics.namespace import evaluate, model_name, names_of


def test_an_expression_is_evaluated_in_the_notebook() -> None:
    assert evaluate("[x for x in rows if x > limit]", {"rows": [1, 2, 3], "limit": 1}) == [2, 3]


def test_a_variable_that_does_not_exist_proposes_the_nearest() -> None:
    with pytest.raises(NotebookError, match="no `clff` in this notebook.*did you mean clf?"):
        evaluate("clff", {"clf": 1})


@pytest.mark.parametrize(
    ("expression", "said"),
    [("clf[", "not a Python expression"), ("1 / 0", "ZeroDivisionError: division by zero")],
)
def test_an_expression_that_fails_is_said_in_one_line(expression: str, said: str) -> None:
    with pytest.raises(NotebookError, match=said):
        evaluate(expression, {})


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("clf", "clf"),
        ("my_clf", "my_clf"),
        ("Clf", "clf"),
        ("_best_", "best"),
        ("m" * 80, "m" * 64),
    ],
)
def test_a_variable_gives_a_valid_name(variable: str, name: str) -> None:
    assert model_name(variable) == name


def test_a_variable_that_gives_no_name_asks_for_one() -> None:
    with pytest.raises(InvalidName, match="--name"):
        model_name("模型")


def test_the_names_of_an_object_leave_ipythons_own_out() -> None:
    obj = object()
    assert names_of(obj, {"_": obj, "clf": obj, "other": 1, "best": obj}) == ["clf", "best"]
