"""In a kernel: how the values of the sample, and the model's answers to it, are distributed.

What a version is asked later is held against this, see ``analytics/drift.py``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from mlserve_jupyter.api.profile import (
    MAX_ABS,
    MAX_FEATURES,
    FeatureKind,
    FeatureProfile,
    number_of,
    output_columns,
    text_of,
)
from mlserve_jupyter.api.signature import Column, InputSpec
from mlserve_jupyter.artifacts.columns import bare_array, json_column, missing_mask
from mlserve_jupyter.artifacts.wire import NotRepresentable, container_value, is_sparse

MIN_ROWS = 30
"""A smaller sample says too little of what is usual."""

MAX_ROWS = 10_000
MAX_OUTPUT_ROWS = 1000
MAX_CATEGORIES = 50
N_QUANTILES = 10
OUTPUT_BUDGET_S = 1.0

_FIRST_ROWS = 100
_MARGIN = 1e-6
_SEED = 20_260_501


def sample_rows(sample: Any, max_rows: int) -> Any:
    """Choose rows at random, always the same ones, in their own order.

    Parameters
    ----------
    sample
        Rows as a model takes them (a frame, an array, a list…, hence ``Any``).
    max_rows
        At most so many.

    Returns
    -------
    same type as ``sample``
    """
    n_rows = sample.shape[0] if hasattr(sample, "shape") else len(sample)
    if n_rows <= max_rows:
        return sample
    chosen = np.sort(np.random.default_rng(_SEED).choice(n_rows, max_rows, replace=False))
    if isinstance(sample, list | tuple):
        return [sample[i] for i in chosen.tolist()]
    if hasattr(sample, "iloc"):
        return sample.iloc[chosen]
    if is_sparse(sample):
        return sample.tocsr()[chosen].asformat(sample.format)
    return sample[chosen]


def profile_inputs(sample: Any, spec: InputSpec) -> list[FeatureProfile]:
    """Count the values of the columns; those without a form that is counted are left out.

    Counted are numbers, booleans, categories, and texts (themselves where there are at most
    ``MAX_CATEGORIES``, else their lengths), of the first ``MAX_FEATURES`` columns. Times, nested
    values and the pixels of images are not.

    Parameters
    ----------
    sample
        As ``infer_inputs`` took it (hence ``Any``).
    spec
        Its signature.
    """
    rows = sample_rows(sample, MAX_ROWS)
    found = (_profile_column(column, values) for column, values in _columns(rows, spec))
    return [profile for profile in found if profile is not None]


def profile_outputs(ask: Callable[[Any], Any], sample: Any, method: str) -> list[FeatureProfile]:
    """Count a method's answers to rows of the sample, as many as it answers in about a second.

    Parameters
    ----------
    ask
        Calls the method with rows (both a user's, hence ``Any``).
    sample
        See :func:`profile_inputs`.
    method
        Its name, which the output goes by.

    Returns
    -------
    list
        Empty where the answers are no numbers, texts or booleans, one or a few a row.
    """
    rows = sample_rows(sample, _FIRST_ROWS)
    started = time.perf_counter()
    answer = ask(rows)
    duration_s = max(time.perf_counter() - started, 1e-6)
    more = int(min(MAX_OUTPUT_ROWS, _FIRST_ROWS * OUTPUT_BUDGET_S / duration_s))
    if more > _FIRST_ROWS:
        rows = sample_rows(sample, more)
        answer = ask(rows)
    n_rows = rows.shape[0] if hasattr(rows, "shape") else len(rows)
    columns = output_columns(_json_of(answer), method)
    return [_profile_values(name, values) for name, values in columns if len(values) == n_rows]


def _json_of(answer: Any) -> Any:
    """Return an answer in its JSON form (both any, hence ``Any``); None where it has none."""
    try:
        return container_value(answer)
    except NotRepresentable:
        return None


def _columns(rows: Any, spec: InputSpec) -> Iterator[tuple[Column, Any]]:
    """Give the first columns with their values, an array or a Series each (hence ``Any``)."""
    columns = spec.columns[:MAX_FEATURES]
    if spec.container == "dataframe":
        for j, column in enumerate(columns):
            yield column, rows.iloc[:, j]
    elif spec.container == "list":
        values = np.empty(len(rows), dtype=object)
        values[:] = rows
        yield columns[0], values
    elif len(spec.shape) == 1:
        yield columns[0], rows
    elif len(spec.shape) == 2 and len(spec.columns) == spec.shape[1]:
        if spec.container == "sparse":
            table = rows.tocsr()[:, : len(columns)].toarray()
        else:
            table = np.asarray(rows)
        for j, column in enumerate(columns):
            yield column, table[:, j]


def _profile_column(column: Column, values: Any) -> FeatureProfile | None:
    """Count one column; None for a kind that is not counted."""
    if column.item is not None or column.kind not in (
        "float",
        "integer",
        "boolean",
        "string",
        "category",
    ):
        return None
    array = bare_array(values)
    if isinstance(array, np.ndarray) and array.dtype.kind in "fiu":
        missing = missing_mask(array)
        margin = float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0
        present = array[~missing].astype(float)
        return _numbers(column.name, present, int(missing.sum()), margin=margin)
    listed = json_column(values, column)
    if column.kind in ("float", "integer"):
        return _number_values(column.name, listed)
    present = [value for value in listed if value is not None]
    n_missing = len(listed) - len(present)
    if column.kind == "string" and len(set(present)) > MAX_CATEGORIES:
        lengths = np.array([len(text) for text in present], dtype=float)
        return _numbers(column.name, lengths, n_missing, kind="length")
    return _categories(column.name, present, n_missing)


def _profile_values(name: str, values: Sequence[Any]) -> FeatureProfile:
    """Count answers in their JSON form, any, hence ``Any``."""
    present = [value for value in values if value is not None]
    n_missing = len(values) - len(present)
    if all(isinstance(value, str) for value in present) and any(
        number_of(value) is None for value in present
    ):
        if len(set(present)) > MAX_CATEGORIES:
            lengths = np.array([len(text) for text in present], dtype=float)
            return _numbers(name, lengths, n_missing, kind="length")
        return _categories(name, present, n_missing)
    if all(isinstance(value, int) for value in present) and len(set(present)) <= MAX_CATEGORIES:
        return _categories(name, present, n_missing)
    return _number_values(name, values)


def _number_values(name: str, values: Sequence[Any]) -> FeatureProfile:
    numbers = [number for value in values if (number := number_of(value)) is not None]
    return _numbers(name, np.array(numbers, dtype=float), len(values) - len(numbers))


def _numbers(
    name: str,
    values: np.ndarray[Any, Any],
    n_missing: int,
    *,
    kind: FeatureKind = "number",
    margin: float = 0.0,
) -> FeatureProfile:
    """Count numbers of shape ``(n,)``: each value alone where they are few, else by deciles.

    Edges lie halfway between two values that the sample has, so that a value which was rounded on
    its way falls into the same bin; ``margin`` is how far it may be off, as a share of the largest.
    """
    values = np.clip(values, -MAX_ABS, MAX_ABS)
    distinct = np.unique(values)
    if len(distinct) == 0:
        return FeatureProfile(name=name, kind=kind, edges=[0.0], counts=[0, 0], n_missing=n_missing)
    last = np.arange(len(distinct) - 1)
    if len(distinct) > N_QUANTILES:
        shares = np.arange(1, N_QUANTILES) / N_QUANTILES
        at_quantiles = np.quantile(values, shares, method="inverted_cdf")
        last = np.unique(np.searchsorted(distinct, at_quantiles))
        last = last[last < len(distinct) - 1]
    between = distinct[last] / 2 + distinct[last + 1] / 2
    scale = max(float(distinct[-1] - distinct[0]), float(np.abs(distinct).max()), 1e-9)
    margin = max(margin, _MARGIN) * scale
    edges = np.unique([distinct[0] - margin, *between, distinct[-1] + margin])
    bins = np.searchsorted(edges, values, side="left")
    return FeatureProfile(
        name=name,
        kind=kind,
        edges=edges.tolist(),
        counts=np.bincount(bins, minlength=len(edges) + 1).tolist(),
        n_missing=n_missing,
    )


def _categories(name: str, values: Sequence[Any], n_missing: int) -> FeatureProfile:
    """Count categories: the most frequent ones each alone, and all others together."""
    found = Counter(text_of(value) for value in values)
    kept = found.most_common(MAX_CATEGORIES)
    others = len(values) - sum(n for _, n in kept)
    return FeatureProfile(
        name=name,
        kind="category",
        categories=[category for category, _ in kept],
        counts=[*(n for _, n in kept), others],
        n_missing=n_missing,
    )
