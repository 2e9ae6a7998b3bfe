"""Which public methods of a fitted object can be served: they take data, and give data."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

_KNOWN = (
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "score_samples",
    "transform",
    "kneighbors",
    "kneighbors_graph",
    "radius_neighbors",
    "radius_neighbors_graph",
    "apply",
    "decision_path",
)
"""Methods that are known to take data, in the order in which they appear."""

_OFTEN_OTHERWISE = frozenset({"apply"})
"""Of those, what other libraries use for something else, such as PyTorch's ``apply(fn)``."""

_DATA_NAMES = frozenset({"X", "x", "raw_documents", "data", "inputs"})
_NEVER = frozenset({"score", "partial_fit", "split", "aic", "bic", "perplexity", "gibbs", "cost"})
_NEVER_PREFIXES = (
    "_",
    "fit",
    "set_",
    "get_",
    "staged_",
    "partial_",
    "reweight_",
    "correct_",
    "build_",
)
_ONLY_IF_ASKED = frozenset({"inverse_transform"})
"""What takes the answers of another method, and not the model's own input."""


def servable_methods(obj: Any) -> list[str]:
    """List the methods of an object (any, hence ``Any``) that take one data argument.

    Fitting, scoring, parameters and generators are left out; so is what the object does not have
    in its present state, such as ``predict_proba`` of an ``SVC(probability=False)``, and what an
    object merely holds, such as the ``func`` of a ``functools.partial``. A function, and an object
    that can be called and has no well-known method, have ``__call__``.

    Returns
    -------
    list of str
        ``predict`` first where it is there, then the other well-known ones or ``__call__``, then
        the rest by name.
    """
    if isinstance(obj, type):
        return []
    if inspect.isroutine(obj) or isinstance(obj, functools.partial):
        return ["__call__"] if _takes_data(obj, any_name=True) else []
    names = [
        name for name in _KNOWN if _is_servable(obj, name, any_name=name not in _OFTEN_OTHERWISE)
    ]
    if not names and can_be_asked(obj, "__call__"):
        names = ["__call__"]
    others = sorted(set(dir(type(obj))) - set(_KNOWN) - _ONLY_IF_ASKED)
    return names + [name for name in others if _is_servable(obj, name, any_name=False)]


def default_method(methods: Sequence[str]) -> str | None:
    """Choose the method that answers a call that names none; None where somebody has to say it.

    Parameters
    ----------
    methods
        As :func:`servable_methods` gives them.
    """
    if methods and (methods[0] in _KNOWN or methods[0] == "__call__"):
        return methods[0]
    return None


def can_be_asked(obj: Any, name: str) -> bool:
    """Whether an object (any, hence ``Any``) has this method to serve where its owner names it.

    Its parameter may have any name; fitting and what the object merely holds are out all the same.
    """
    if name == "__call__":
        return callable(obj) and not isinstance(obj, type) and _takes_data(obj, any_name=True)
    if inspect.isroutine(obj) or isinstance(obj, functools.partial):
        return False
    return _is_servable(obj, name, any_name=True)


def _is_servable(obj: Any, name: str, *, any_name: bool) -> bool:
    if name in _NEVER or name.startswith(_NEVER_PREFIXES):
        return False
    declared = inspect.getattr_static(type(obj), name, None)
    if declared is None and name not in _KNOWN and name in getattr(obj, "__dict__", ()):
        return False
    if isinstance(declared, (type, functools.cached_property)) or inspect.isdatadescriptor(
        declared
    ):
        return False
    # Methods that depend on the fitted state raise AttributeError where they are not available.
    method = getattr(obj, name, None)
    if not callable(method) or isinstance(method, type):
        return False
    if inspect.isgeneratorfunction(inspect.unwrap(method)):
        return False
    return _takes_data(method, any_name=any_name)


def _takes_data(method: Callable[..., Any], *, any_name: bool) -> bool:
    try:
        parameters = list(inspect.signature(method).parameters.values())
    except (TypeError, ValueError):
        # Compiled code without a signature: trust the well-known names only.
        return any_name
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    if not parameters or parameters[0].kind not in positional:
        return False
    first, rest = parameters[0], parameters[1:]
    if not any_name and first.name not in _DATA_NAMES:
        return False
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(
        parameter.default is not inspect.Parameter.empty or parameter.kind in variadic
        for parameter in rest
    )
