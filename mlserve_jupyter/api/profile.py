"""How the values of a column are distributed, as counts in fixed bins.

The kernel makes a version's profile of the sample at the deploy; what the version is asked later is
counted in the same bins, so that the two can be compared.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import msgspec

from mlserve_jupyter.api.labels import Label
from mlserve_jupyter.api.number_checks import NON_FINITE
from mlserve_jupyter.errors import InvalidRequest

FeatureKind = Literal["number", "length", "category"]
Task = Literal["classification", "regression"]

MAX_FEATURES = 200
MAX_OUTPUTS = 20
MAX_BINS = 64
MAX_CLASSES = 1000
MAX_CATEGORY_CHARACTERS = 256
MAX_BYTES = 2 * 2**20
"""Of a whole profile as JSON; every server keeps those of the versions that are asked in memory."""

MAX_ABS = 1e300
"""Numbers beyond it, the infinities among them, are counted as it."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Category = Annotated[str, msgspec.Meta(max_length=MAX_CATEGORY_CHARACTERS)]


class FeatureProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The values of one column.

    Attributes
    ----------
    name
        Of the column; of an output, that of the method, with ``[j]`` where it has several.
    kind
        ``number``: numbers; ``length``: how long texts are; ``category``: values themselves.
    edges
        Of ``number`` and ``length``: ascending. Bin 0 holds what is at most ``edges[0]``, bin ``i``
        what is above ``edges[i - 1]`` and at most ``edges[i]``, the last one what is above all.
        The first and the last bin are empty in the sample: they are for what is beyond its range.
    categories
        Of ``category``: the value of each bin, as text; one bin more is for all others.
    counts
        By bin.
    n_missing
        Values that were missing.
    """

    name: Annotated[str, msgspec.Meta(max_length=1000)]
    kind: FeatureKind
    edges: Annotated[list[float], msgspec.Meta(max_length=MAX_BINS)] = []
    categories: Annotated[list[_Category], msgspec.Meta(max_length=MAX_BINS)] = []
    counts: Annotated[list[_Count], msgspec.Meta(max_length=MAX_BINS + 1)]
    n_missing: _Count = 0

    @property
    def n_bins(self) -> int:
        """How many bins there are; missing values have none."""
        return len(self.categories if self.kind == "category" else self.edges) + 1


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a version's sample looked like.

    Attributes
    ----------
    n_rows
        Rows of the sample that were counted.
    features
        Columns of the input.
    method
        The method whose answers ``outputs`` describe.
    outputs
        What it gave on some of these rows; empty where its answers have no form that is counted.
    task
        What the model is for, as it says of itself; None where it does not.
    classes
        What the columns of its probabilities stand for, in order; empty where it has none.
    """

    n_rows: _Count
    features: Annotated[list[FeatureProfile], msgspec.Meta(max_length=MAX_FEATURES)] = []
    method: str = ""
    outputs: Annotated[list[FeatureProfile], msgspec.Meta(max_length=MAX_OUTPUTS)] = []
    task: Task | None = None
    classes: Annotated[list[Label], msgspec.Meta(max_length=MAX_CLASSES)] = []


class Counter:
    """Counts values in the bins of a profile.

    Attributes
    ----------
    counts
        By bin, and at the end those that are missing.
    """

    def __init__(self, profile: FeatureProfile) -> None:
        self._kind = profile.kind
        self._edges = profile.edges
        self._bins = {category: i for i, category in enumerate(profile.categories)}
        self._n_bins = profile.n_bins
        self.counts = [0] * (profile.n_bins + 1)

    def add(self, values: Iterable[Any]) -> None:
        """Count values in their JSON form (any, hence ``Any``)."""
        counts = self.counts
        if self._kind == "category":
            other = self._n_bins - 1
            for value in values:
                counts[
                    self._n_bins if value is None else self._bins.get(text_of(value), other)
                ] += 1
            return
        read = length_of if self._kind == "length" else number_of
        for value in values:
            number = read(value)
            counts[self._n_bins if number is None else bisect_left(self._edges, number)] += 1


def number_of(value: Any) -> float | None:
    """Read a JSON value as a number; None for a missing one and for what is none."""
    if isinstance(value, str):
        value = NON_FINITE.get(value)
    if not isinstance(value, int | float) or value != value:
        return None
    return float(min(max(value, -MAX_ABS), MAX_ABS))


def length_of(value: Any) -> float | None:
    """Return how long a text is; None for what is none."""
    return float(len(value)) if isinstance(value, str) else None


def text_of(value: Any) -> str:
    """Return the name of a category's bin; the whole number 3.0 is 3."""
    if isinstance(value, str):
        return value[:MAX_CATEGORY_CHARACTERS]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return msgspec.json.encode(value).decode()[:MAX_CATEGORY_CHARACTERS]


def output_columns(predictions: Any, method: str) -> list[tuple[str, list[Any]]]:
    """Return the values of a method's output by name, of one value or a short list a row.

    Parameters
    ----------
    predictions
        The JSON value of an answer (hence ``Any``).
    """
    if not isinstance(predictions, list) or not predictions:
        return []
    first = predictions[0]
    if not isinstance(first, list):
        return (
            []
            if any(isinstance(row, list | dict) for row in predictions)
            else [(method, predictions)]
        )
    width = len(first)
    if not 1 <= width <= MAX_OUTPUTS or isinstance(first[0], list | dict):
        return []
    if any(not isinstance(row, list) or len(row) != width for row in predictions):
        return []
    return [(f"{method}[{j}]", [row[j] for row in predictions]) for j in range(width)]


def within_bounds(profile: Profile) -> Profile:
    """Leave out the last columns of a profile that is too large."""
    n_bytes = len(msgspec.json.encode(profile))
    kept = list(profile.features)
    while n_bytes > MAX_BYTES and kept:
        n_bytes -= len(msgspec.json.encode(kept.pop())) + 1
    return msgspec.structs.replace(profile, features=kept)


def check_profile(profile: Profile) -> None:
    """Refuse a profile that is too large, or cannot be counted in.

    Raises
    ------
    InvalidRequest
        Naming the column.
    """
    if len(msgspec.json.encode(profile)) > MAX_BYTES:
        raise InvalidRequest(f"The baseline is larger than {MAX_BYTES // 2**20} MiB.")
    for group in (profile.features, profile.outputs):
        if len({feature.name for feature in group}) != len(group):
            raise InvalidRequest("The baseline has two histograms of one name.")
        for feature in group:
            if not _is_sound(feature):
                raise InvalidRequest(
                    f"The baseline's histogram of {feature.name[:80]!r} does not hold together."
                )


def _is_sound(feature: FeatureProfile) -> bool:
    if len(feature.counts) != feature.n_bins:
        return False
    if feature.kind == "category":
        return not feature.edges and len(set(feature.categories)) == len(feature.categories)
    return not feature.categories and bool(feature.edges) and _is_ascending(feature.edges)


def _is_ascending(edges: Sequence[float]) -> bool:
    pairs = zip(edges, edges[1:], strict=False)
    return all(map(math.isfinite, edges)) and all(low < high for low, high in pairs)
