"""Finds the sample from which a deploy learns what a model takes.

Without ``--sample``, the variables of the notebook are looked through for one that fits what the
estimator says of itself: its ``feature_names_in_``, else its ``n_features_in_``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from mlserve_jupyter.errors import SampleUnusable
from mlserve_jupyter.magics.calling import call_on_copy, in_short
from mlserve_jupyter.magics.display import with_article
from mlserve_jupyter.magics.namespace import variables

PREFERRED_NAMES = ("X_train", "X", "X_test", "X_valid", "X_val", "features", "data", "df", "texts")
"""Names that variables with inputs usually have, the best first."""

_TRIED_ROWS = 3
_MAX_TRIED = 12


@dataclass(frozen=True)
class FoundSample:
    """A sample and where it comes from.

    Attributes
    ----------
    data
        Rows as the model takes them, ``(n_rows, …)`` (a frame, an array, a list…, hence ``Any``).
    source
        How it was found, in words.
    warnings
        What the notebook's owner should know about it.
    """

    data: Any
    source: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Expected:
    """What an estimator says of its input."""

    names: list[str] | None
    n_features: int | None


def find_sample(model: Any, method: str, namespace: Mapping[str, Any]) -> FoundSample:
    """Find rows that ``model.<method>`` accepts.

    Parameters
    ----------
    model
        The object that is deployed (a user's, hence ``Any``).
    method
        The method that has to accept them.
    namespace
        The notebook's variables.

    Raises
    ------
    SampleUnusable
        Nothing fits; the message says how to give a sample.
    """
    expected = _expected(model)
    tried = 0
    first_refusal: str | None = None
    for name, data, source in _candidates(expected, namespace):
        if data is model:
            continue
        if tried == _MAX_TRIED:
            break
        tried += 1
        if _answers_row_by_row(model, method, data):
            return FoundSample(data, source.format(name=name))
        said = refusal(model, method, data) if first_refusal is None else None
        if said is not None:
            first_refusal = f"`{name}` was tried, and it raised {said}"
    if expected.n_features is None:
        if first_refusal is not None:
            raise SampleUnusable(
                f"No variable of this notebook fits this {type(model).__name__}: {first_refusal}. "
                f"Mend it, or give rows as `{method}` takes them, such as `--sample X`."
            )
        raise SampleUnusable(
            f"No variable of this notebook fits this {type(model).__name__}: give rows as "
            f"`{method}` takes them, such as `--sample X`."
        )
    return _zeros(model, method, expected)


def check_sample(model: Any, method: str, data: Any) -> None:
    """Check that ``model.<method>`` accepts the first rows of ``data`` (both a user's).

    Raises
    ------
    SampleUnusable
        With what the model said.
    """
    if n_rows(data) is None:
        raise SampleUnusable(
            f"{with_article(type(data).__name__)} is not a sample: give a DataFrame, a Series, "
            "an array, a sparse matrix or a list of rows."
        )
    if n_rows(data) == 0:
        raise SampleUnusable("The sample has no rows: give some that the model can be tried on.")
    said = refusal(model, method, data)
    if said is not None:
        raise SampleUnusable(
            f"The sample does not fit: `{method}` of this {type(model).__name__} says: {said}"
        )


def refusal(model: Any, method: str, data: Any) -> str | None:
    """Call ``model.<method>`` with a few rows and return what it says against them, if anything."""
    try:
        call_on_copy(model, method, head(data, _TRIED_ROWS))
    except Exception as error:  # whatever a user's model raises is its answer
        return in_short(error)
    return None


def _answers_row_by_row(model: Any, method: str, data: Any) -> bool:
    """Whether a method takes a few rows and gives one answer for each.

    A text vectorizer also takes a DataFrame, whose column names it reads as texts.
    """
    width = data.shape[1] if len(getattr(data, "shape", ())) == 2 else 0
    few = head(data, _TRIED_ROWS if width != _TRIED_ROWS else _TRIED_ROWS - 1)
    try:
        answer = call_on_copy(model, method, few)
    except Exception:  # it does not fit, whatever a user's model says
        return False
    if isinstance(answer, tuple) and answer:
        answer = answer[0]
    return n_rows(answer) in (None, n_rows(few))


def head(data: Any, rows: int) -> Any:
    """Return the first rows of a frame, an array, a sparse matrix or a list, of the same type."""
    if hasattr(data, "iloc"):
        return data.iloc[:rows]
    if hasattr(data, "tocsr"):
        return type(data)(data.tocsr()[:rows])
    return data[:rows]


def n_rows(data: Any) -> int | None:
    """Return the number of rows of a sample; None for something that has none."""
    if hasattr(data, "shape"):
        return int(data.shape[0]) if data.shape else None
    return len(data) if isinstance(data, list | tuple) else None


def feature_names(model: Any) -> list[str] | None:
    """Return the names of the columns that an estimator was fitted on, where it knows them."""
    try:
        names = getattr(model, "feature_names_in_", None)
    except Exception:  # a property of a user's class may raise anything
        return None
    return None if names is None else list(names)


def _expected(model: Any) -> _Expected:
    names = feature_names(model)
    if names is not None:
        return _Expected(names, len(names))
    try:
        n_features = getattr(model, "n_features_in_", None)
    except Exception:  # as above
        return _Expected(None, None)
    return _Expected(None, int(n_features) if isinstance(n_features, Integral) else None)


def _candidates(
    expected: _Expected, namespace: Mapping[str, Any]
) -> Iterator[tuple[str, Any, str]]:
    """Give name, data and the words for the source of what might fit, the best first."""
    named = sorted(_samples(namespace), key=_preference)
    frames = [(name, data) for name, data in named if _is_frame(data)]
    if expected.names is not None:
        names = expected.names
        for name, data in frames:
            if list(data.columns) == names:
                yield name, data, "the DataFrame `{name}`"
        for name, data in frames:
            if len(data.columns) > len(names) and set(names) <= set(data.columns):
                yield name, data[names], "the model's columns of the DataFrame `{name}`"
    elif expected.n_features is not None:
        for name, data in named:
            shape: tuple[int, ...] = getattr(data, "shape", ())
            if len(shape) == 2 and shape[1] == expected.n_features:
                kind = "DataFrame" if _is_frame(data) else "array"
                yield name, data, f"the {kind} `{{name}}`"
    else:
        # Nothing is known of the input, as with text and with plain functions. Only variables that
        # are called like inputs are tried, since trying calls the model.
        for name, data in named:
            if name in PREFERRED_NAMES:
                yield name, data, "the variable `{name}`"


def _samples(namespace: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give the variables that hold rows, without IPython's own, each object once."""
    seen: set[int] = set()
    for name, value in variables(namespace):
        if id(value) not in seen and is_rows(value):
            seen.add(id(value))
            yield name, value


def is_rows(value: Any) -> bool:
    """Whether a variable holds rows: a frame, a series, an array, a sparse matrix, a list."""
    if isinstance(value, type):
        return False
    if isinstance(value, list):
        return bool(value)
    shape = getattr(value, "shape", None)
    if not isinstance(shape, tuple) or not shape or shape[0] == 0:
        return False
    return _is_of(value, "pandas") or _is_of(value, "numpy") or _is_of(value, "scipy")


def _is_of(value: Any, package: str) -> bool:
    return package in sys.modules and any(
        base.__module__.partition(".")[0] == package for base in type(value).__mro__
    )


def _is_frame(value: Any) -> bool:
    return _is_of(value, "pandas") and hasattr(value, "columns")


def _preference(named: tuple[str, Any]) -> tuple[int, int]:
    name, data = named
    place = PREFERRED_NAMES.index(name) if name in PREFERRED_NAMES else len(PREFERRED_NAMES)
    return place, -(n_rows(data) or 0)


def _zeros(model: Any, method: str, expected: _Expected) -> FoundSample:
    """Make one row of zeros, where only the number or the names of the columns are known."""
    import numpy as np

    n_features = expected.n_features or 0
    data: Any = np.zeros((1, n_features))
    if expected.names is not None and "pandas" in sys.modules:
        data = sys.modules["pandas"].DataFrame(data, columns=expected.names)
    said = refusal(model, method, data)
    if said is not None:
        raise SampleUnusable(
            f"No variable of this notebook has the {n_features} columns that this "
            f"{type(model).__name__} takes, and it does not take numbers in all of them ({said}): "
            "give rows as it takes them, such as `--sample X`."
        )
    return FoundSample(
        data,
        "one row of zeros",
        (
            f"No variable of this notebook has the {n_features} columns that the model takes: "
            "all are taken as float64, and the deploy is verified with one row of zeros. Give "
            "real rows with --sample to have types and missing values right.",
        ),
    )
