"""The variables of the notebook: expressions that name them, and the names of objects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mlserve_jupyter.errors import InvalidName, NotebookError
from mlserve_jupyter.magics.arguments import nearest
from mlserve_jupyter.settings import check_name

IPYTHONS_OWN = frozenset({"In", "Out", "exit", "quit", "open", "get_ipython"})
"""Names that IPython puts into every notebook, besides those that begin with an underscore."""

Namespace = Mapping[str, Any]
"""Variables by name; whatever a user's notebook holds, hence ``Any``."""


def evaluate(expression: str, namespace: dict[str, Any]) -> Any:
    """Evaluate Python in the notebook's namespace (anything may come out, hence ``Any``).

    Raises
    ------
    NotebookError
        With what Python said.
    """
    try:
        return eval(compile(expression, "<%mlserve>", "eval"), namespace)
    except NameError as error:
        name = getattr(error, "name", None) or expression
        visible = [name for name, _ in variables(namespace)]
        raise NotebookError(
            f"There is no `{name}` in this notebook{nearest(name, visible)}: run the cell that "
            "makes it."
        ) from error
    except SyntaxError as error:
        raise NotebookError(f"`{expression}` is not a Python expression: {error.msg}.") from error
    except Exception as error:
        raise NotebookError(
            f"`{expression}` cannot be evaluated: {type(error).__name__}: {error}"
        ) from error


def variables(namespace: Namespace) -> list[tuple[str, Any]]:
    """List the notebook's own variables."""
    return [
        (name, value)
        for name, value in list(namespace.items())
        if not name.startswith("_") and name not in IPYTHONS_OWN
    ]


def names_of(obj: Any, namespace: Namespace) -> list[str]:
    """List the variables that hold ``obj``, without those that begin with an underscore."""
    return [
        name
        for name, value in namespace.items()
        if value is obj and name.isidentifier() and not name.startswith("_")
    ]


def model_name(variable: str) -> str:
    """Turn a variable's name into a model's name: ``Clf`` → ``clf``.

    Raises
    ------
    InvalidName
        Nothing is left of it.
    """
    name = re.sub(r"[^a-z0-9._-]+", "-", variable.lower()).strip("._-")[:64].strip("._-")
    try:
        return check_name(name)
    except InvalidName as error:
        raise InvalidName(
            f"The variable's name {variable!r} does not make a model's name: give one, such as "
            "`--name my-model`."
        ) from error
