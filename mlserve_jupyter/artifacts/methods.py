"""Which public methods of a fitted object can be served: they take data, and give data."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

_KNOWN = (
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "score_samples",
    "transform",
    "inverse_transform",
    "kneighbors",
    "kneighbors_graph",
    "radius_neighbors",
    "radius_neighbors_graph",
    "apply",
    "decision_path",
)
"""Methods that take data whatever their parameter is called, in the order in which they appear."""

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


def servable_methods(obj: Any) -> list[str]:
    """List the methods of an object (any, hence ``Any``) that take one data argument.

    Fitting, scoring, parameters and generators are left out; so is what the object does not have
    in its present state, such as ``predict_proba`` of an ``SVC(probability=False)``. A plain
    function, or an object with nothing else to call, has ``__call__``.

    Returns
    -------
    list of str
        ``predict`` first where it is there, then the other well-known ones, then the rest by name.
    """
    if isinstance(obj, type):
        return []
    if inspect.isroutine(obj):
        return ["__call__"] if _takes_data(obj, any_name=True) else []
    names = [name for name in _KNOWN if _is_servable(obj, name, any_name=True)]
    others = sorted(set(dir(type(obj))) - set(_KNOWN))
    names += [name for name in others if _is_servable(obj, name, any_name=False)]
    if not names and callable(obj) and _takes_data(obj, any_name=True):
        return ["__call__"]
    return names


def _is_servable(obj: Any, name: str, *, any_name: bool) -> bool:
    if name in _NEVER or name.startswith(_NEVER_PREFIXES):
        return False
    declared = inspect.getattr_static(type(obj), name, None)
    if isinstance(declared, (property, type)):
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
