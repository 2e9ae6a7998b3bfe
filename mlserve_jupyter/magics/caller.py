"""The line that calls: its variables, and which of them it hands over to be deployed."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

from mlserve_jupyter.errors import InvalidName
from mlserve_jupyter.magics.namespace import names_of

_MACHINERY = ("mlserve_jupyter", "IPython", "ipykernel", "decorator")
_SHOWN_NAMES = 5


def calling_frame() -> FrameType:
    """Return the frame of the notebook's own code from which this package was called."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_machinery(frame):
        frame = frame.f_back
    return frame


def variables_of(frame: FrameType) -> dict[str, Any]:
    """Return the variables that a frame sees; whatever they hold, hence ``Any``."""
    if frame.f_locals is frame.f_globals:
        return frame.f_globals
    return {**frame.f_globals, **frame.f_locals}


def name_of_argument(obj: Any, frame: FrameType, variables: Mapping[str, Any]) -> str:
    """Return the variable by which a frame's present call hands ``obj`` over (any: ``Any``).

    Where the call cannot be read, or holds another expression than a variable, the one variable
    that holds the object.

    Raises
    ------
    InvalidName
        The variable is that of a loop, several hold the object, or none does.
    """
    call = _call(frame)
    if call is not None:
        given = call.args[:1] or [word.value for word in call.keywords if word.arg == "obj"]
        if given and isinstance(given[0], ast.Name):
            refuse_loop_variable(given[0].id, frame)
            return given[0].id
    return only_name_of(obj, variables)


def only_name_of(obj: Any, variables: Mapping[str, Any]) -> str:
    """Return the one variable that holds an object (any, hence ``Any``).

    Raises
    ------
    InvalidName
        Several hold it, or none does.
    """
    names = names_of(obj, variables)
    kind = type(obj).__name__
    if not names:
        raise InvalidName(
            f"This {kind} is not a variable of the notebook: name the endpoint, such as "
            "`--name my-model` (`name=` in Python)."
        )
    if len(names) > 1:
        shown = ", ".join(names[:_SHOWN_NAMES]) + (", …" if len(names) > _SHOWN_NAMES else "")
        raise InvalidName(
            f"Several variables hold this {kind} ({shown}): name the endpoint, such as "
            f"`--name {names[0]}` (`name=` in Python)."
        )
    return names[0]


def refuse_loop_variable(name: str, frame: FrameType) -> None:
    """Refuse the variable of a loop that is running, since every turn would have its name.

    Raises
    ------
    InvalidName
        It is one.
    """
    if name in _loop_variables(_call(frame)):
        raise InvalidName(
            f"`{name}` is the variable of a loop, so that all its models would be versions of one: "
            "name each, such as `--name {key}` (`name=key` in Python)."
        )


def _is_machinery(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _MACHINERY


def _call(frame: FrameType) -> ast.Call | None:
    """Find the call that a frame is in, in its source; None where there is none to read."""
    try:
        from executing import Source
    except ImportError:  # it comes with IPython
        return None
    node = Source.executing(frame).node
    return node if isinstance(node, ast.Call) else None


def _loop_variables(node: ast.AST | None) -> set[str]:
    """Name the variables of the loops around a node, as far as its function goes."""
    names: set[str] = set()
    while node is not None and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        for target in _targets(node):
            names.update(each.id for each in ast.walk(target) if isinstance(each, ast.Name))
        node = getattr(node, "parent", None)
    return names


def _targets(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.For | ast.AsyncFor):
        yield node.target
    elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        for generator in node.generators:
            yield generator.target
