"""Says of an object that cannot be served what it is, and what fits instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from mlserve_jupyter.errors import NotServable
from mlserve_jupyter.magics.display import with_article
from mlserve_jupyter.magics.sampling import is_rows

_SHOWN_METHODS = 8


def why_not_servable(obj: Any) -> NotServable:
    """Return the error for an object (any, hence ``Any``) that has no method to serve."""
    name = type(obj).__name__
    if isinstance(obj, type):
        return NotServable(
            f"{obj.__name__} is a class: make an instance, fit it and deploy that, such as "
            f"`clf = {obj.__name__}().fit(X, y)`."
        )
    if obj is None:
        return NotServable(
            "This is None and not a model: a function without `return` gives it, and so do methods "
            "that change a thing in place. Deploy the fitted model itself."
        )
    if isinstance(obj, ModuleType):
        return NotServable(
            f"`{obj.__name__}` is a module: deploy a model, or a function of it, such as "
            f"`{obj.__name__}.predict --name my-model`."
        )
    if isinstance(obj, list | tuple | Mapping):
        return NotServable(_of_several(obj, name))
    if is_rows(obj):
        return NotServable(
            f"{with_article(name)} has no method to serve, it is data: deploy the model, and give "
            "this as the sample, such as `%mlserve deploy clf --sample X`."
        )
    if inspect.isroutine(obj) or (callable(obj) and not _public_methods(obj)):
        return NotServable(_wrong_arguments(obj))
    if hasattr(type(obj), "fit_predict"):
        return NotServable(
            f"{with_article(name)} only labels the rows that it is fitted on and has no `predict` "
            "for others: deploy a model that has, such as KMeans, or a classifier that is fitted "
            "on its `labels_`."
        )
    methods = _public_methods(obj)
    if methods:
        listed = ", ".join(methods[:_SHOWN_METHODS])
        return NotServable(
            f"{with_article(name)} has none of the well-known methods, such as `predict` or "
            f"`transform`: choose one with --method; it has {listed}."
        )
    return NotServable(
        f"{with_article(name)} has no method to serve, such as `predict` or `transform`: deploy a "
        "fitted model, or a function of one argument, the rows."
    )


def _of_several(obj: Any, name: str) -> str:
    """Propose a member of a list or a dict that could be served."""
    from mlserve_jupyter.artifacts.methods import default_method, servable_methods

    members = obj.items() if isinstance(obj, Mapping) else enumerate(obj)
    for key, member in members:
        if not is_rows(member) and default_method(servable_methods(member)) is not None:
            return (
                f"{with_article(name)} has no method to serve: deploy its members one by one, such "
                f"as the one behind [{key!r}], each with its --name."
            )
    return (
        f"{with_article(name)} has no method to serve, it is data: deploy the model, and give rows "
        "with --sample."
    )


def _wrong_arguments(function: Callable[..., Any]) -> str:
    """Say which arguments a function takes, and how to make it one that takes rows."""
    name = getattr(function, "__name__", type(function).__name__)
    shown = "this lambda" if name == "<lambda>" else f"`{name}`"
    call = "f" if name == "<lambda>" else name
    parameters = inspect.signature(function).parameters.values()
    required = [
        each.name
        for each in parameters
        if each.default is inspect.Parameter.empty
        and each.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]
    if not required:
        return (
            f"{shown} takes no rows: a function that is served takes one argument for them, such "
            "as `def score(X): …`."
        )
    if len(required) == 1:
        return (
            f"{shown} takes `{required[0]}` by its name only: wrap it, such as "
            f"`lambda X: {call}({required[0]}=X)`."
        )
    return (
        f"{shown} takes {len(required)} arguments ({', '.join(required)}), and a function that is "
        f"served takes one, the rows: wrap it, such as `lambda X: {call}(X, …)`."
    )


def _public_methods(obj: Any) -> list[str]:
    """List what could be served if its owner named it."""
    from mlserve_jupyter.artifacts.methods import can_be_asked

    return [
        name
        for name in sorted(set(dir(type(obj))))
        if not name.startswith("_") and can_be_asked(obj, name)
    ]
