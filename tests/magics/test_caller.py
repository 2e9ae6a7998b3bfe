"""Which variable a call hands over, read from the line that calls."""

from __future__ import annotations

import linecache
from typing import Any

import pytest

from mlserve_jupyter.errors import InvalidName
from mlserve_jupyter.magics.caller import calling_frame, name_of_argument, variables_of


def handed(obj: Any, name: str | None = None, **options: Any) -> str:
    """Stand for a public function: say which variable it was called with."""
    frame = calling_frame().f_back
    assert frame is not None
    return name_of_argument(obj, frame, variables_of(frame))


class Model:
    pass


first = second = Model()


def test_the_name_is_that_of_the_argument_and_of_no_other_variable() -> None:
    assert handed(second) == "second"
    assert handed(first) == "first"
    assert handed(obj=second) == "second"
    assert handed(second, sample=[1]) == "second"


def test_a_variable_of_a_function_is_found() -> None:
    inner = Model()
    assert handed(inner) == "inner"


def test_an_expression_has_the_name_of_the_one_variable_that_holds_it() -> None:
    only = Model()
    models = {"a": only}
    assert handed(models["a"]) == "only"


def test_an_expression_that_several_variables_hold_asks_for_a_name() -> None:
    models = [first]
    with pytest.raises(InvalidName, match=r"Several variables hold this Model \(first, second\)"):
        handed(models[0])


def test_an_expression_that_no_variable_holds_asks_for_a_name() -> None:
    with pytest.raises(InvalidName, match="not a variable of the notebook.*--name"):
        handed(Model())


def test_the_variable_of_a_loop_asks_for_a_name() -> None:
    for key, model in {"a": Model()}.items():
        with pytest.raises(InvalidName, match="`model` is the variable of a loop"):
            handed(model)
        assert key == "a"
    with pytest.raises(InvalidName, match="`m` is the variable of a loop"):
        [handed(m) for m in [Model()]]


def test_a_variable_that_is_made_in_a_loop_keeps_its_name() -> None:
    for _ in range(1):
        made = Model()
        assert handed(made) == "made"


def test_where_the_source_is_unknown_the_variables_decide() -> None:
    linecache.clearcache()
    space: dict[str, Any] = {"handed": handed, "a": Model()}
    exec(compile("name = handed(a)", "<nowhere>", "exec"), space)
    assert space["name"] == "a"
    space["b"] = space["a"]
    with pytest.raises(InvalidName, match=r"Several variables.*\(a, b\)"):
        exec(compile("name = handed(b)", "<nowhere>", "exec"), space)
