"""Rows by which a graph is held against its model: the sample, every threshold, the extremes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mlserve_jupyter.api.signature import InputBatch, InputSpec
from mlserve_jupyter.artifacts.compiling.flow import Compiled, Flow
from mlserve_jupyter.artifacts.compiling.graph import Array
from mlserve_jupyter.artifacts.compiling.trees import Tree

MAX_ROWS = 20_000
"""Rows in all; a forest with more thresholds has them spread over all its trees."""

MAX_SAMPLE_ROWS = 2_000
MAX_EXTREME_COLUMNS = 200

EXACT_INTEGERS = 2.0**53
"""Integers beyond this are left to the model, as double precision cannot hold them."""

_EXTREMES = (
    0.0, -0.0, 5e-324, -5e-324, 1e-45, -1e-45, 1.17549435e-38, 1.0, -1.0,
    float(np.finfo(np.float32).max), -float(np.finfo(np.float32).max), 1e300, -1e300,
)  # fmt: skip


def probe_rows(inputs: InputSpec, batch: InputBatch, compiled: Compiled) -> Array:
    """Return rows of shape ``(n_rows, n_features)``, in double precision.

    Rows that a compiled model never sees, as they are left to the model itself, are not among
    them: values beyond ``compiled.max_abs``, the infinities, and NaN where it takes none.
    """
    sample = table_of(batch)
    dtypes = [column.dtype for column in inputs.columns]
    if len(dtypes) != sample.shape[1]:
        dtypes = [inputs.dtype or "float64"] * sample.shape[1]
    base = sample[np.isfinite(sample).all(axis=1)]
    if not len(base):
        base = np.nan_to_num(sample[:1])
    extreme = np.array(list(_extreme_rows(base, compiled.flow.takes_nan)))
    n_free = MAX_ROWS - min(len(sample), MAX_SAMPLE_ROWS) - len(extreme)
    near = np.array(list(_threshold_rows(base, compiled, n_free))).reshape(-1, sample.shape[1])
    rows = np.concatenate([sample[:MAX_SAMPLE_ROWS], extreme, near])[:MAX_ROWS]
    for j, dtype in enumerate(dtypes):
        rows[:, j] = _as_held(rows[:, j], dtype)
    usual = (np.abs(rows) <= compiled.max_abs) | np.isnan(rows)
    if not compiled.flow.takes_nan:
        usual &= ~np.isnan(rows)
    return np.asarray(rows[usual.all(axis=1)])


def table_of(batch: InputBatch) -> Array:
    """Return a batch of numbers as an array of shape ``(n_rows, n_features)``."""
    if batch.columns is not None:
        return np.asarray(np.array(batch.columns, dtype=np.float64).T)
    return np.array(batch.rows, dtype=np.float64)


def batch_of(inputs: InputSpec, rows: Array) -> InputBatch:
    """Return rows as a caller's batch would be decoded."""
    n_rows = len(rows)
    columns = [_plain(rows[:, j], column.dtype) for j, column in enumerate(inputs.columns)]
    if inputs.container == "dataframe":
        return InputBatch(n_rows=n_rows, columns=columns)
    return InputBatch(n_rows=n_rows, rows=_plain(rows, inputs.dtype or "float64"))


def _plain(values: Array, dtype: str) -> list[float]:
    plain: list[float] = (values if dtype.startswith("float") else values.astype(dtype)).tolist()
    return plain


def _as_held(values: Array, dtype: str) -> Array:
    """Return values as a column of ``dtype`` holds them, integers within :data:`EXACT_INTEGERS`."""
    with np.errstate(over="ignore"):
        if dtype.startswith("float"):
            return np.asarray(values.astype(dtype).astype(np.float64))
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    bound = EXACT_INTEGERS
    whole = np.rint(np.nan_to_num(values))
    return np.asarray(np.clip(whole, max(low, -bound), min(high, bound)))


def _extreme_rows(base: Array, takes_nan: bool) -> Iterator[Array]:
    values = (*_EXTREMES, np.nan) if takes_nan else _EXTREMES
    n_features = base.shape[1]
    for value in values:
        yield np.full(n_features, value)
        for j in range(min(n_features, MAX_EXTREME_COLUMNS)):
            row = base[j % len(base)].copy()
            row[j] = value
            yield row


def _threshold_rows(base: Array, compiled: Compiled, n_rows: int) -> Iterator[Array]:
    """Yield rows that reach a node and lie at, just under and just over its threshold."""
    inner = [np.flatnonzero(~tree.is_leaf) for tree in compiled.trees]
    total = sum(map(len, inner))
    if not total:
        return
    share = min(1.0, max(n_rows, 0) / (total * 7))
    made = 0
    for t, (tree, nodes) in enumerate(zip(compiled.trees, inner, strict=True)):
        parents = _parents(tree)
        wanted = max(1, round(len(nodes) * share)) if len(nodes) else 0
        for i, node in enumerate(nodes[np.linspace(0, len(nodes) - 1, wanted).astype(int)]):
            row = _to_node(base[(t + i) % len(base)], tree, parents, int(node), compiled.flow)
            threshold = float(tree.threshold[node])
            column = int(tree.feature[node])
            source = int(compiled.flow.source[column])
            for value in _around(_traced_back(threshold, column, compiled.flow)):
                near = row.copy()
                near[source] = value
                yield near
                made += 1
            if made >= n_rows:
                return


def _around(value: float) -> Sequence[float]:
    """Return a value and its neighbours in double and in single precision."""
    with np.errstate(over="ignore"):
        single = np.float32(value)
    return (
        value,
        float(np.nextafter(value, -np.inf)),
        float(np.nextafter(value, np.inf)),
        float(single),
        float(np.nextafter(single, np.float32(-np.inf))),
        float(np.nextafter(single, np.float32(np.inf))),
        # Half-way between two of single precision, where the cast decides.
        (float(single) + float(np.nextafter(single, np.float32(np.inf)))) / 2,
    )


def _traced_back(value: float, column: int, flow: Flow) -> float:
    return value * float(flow.scale[column]) + float(flow.offset[column])


def _parents(tree: Tree) -> Array:
    parents = np.full(len(tree.left), -1)
    inner = np.flatnonzero(~tree.is_leaf)
    parents[tree.left[inner]] = inner
    parents[tree.right[inner]] = inner
    return parents


def _to_node(row: Array, tree: Tree, parents: Array, node: int, flow: Flow) -> Array:
    """Return a row that differs from ``row`` as little as it takes to arrive at ``node``."""
    path = [node]
    while parents[path[-1]] >= 0:
        path.append(int(parents[path[-1]]))
    path.reverse()
    low: dict[int, float] = {}
    high: dict[int, float] = {}
    for above, below in zip(path, path[1:], strict=False):
        column, threshold = int(tree.feature[above]), float(tree.threshold[above])
        if tree.left[above] == below:
            high[column] = min(high.get(column, np.inf), threshold)
        else:
            low[column] = max(low.get(column, -np.inf), threshold)
    row = row.copy()
    for column in {*low, *high}:
        source = int(flow.source[column])
        ends = sorted(
            _traced_back(bound, column, flow)
            for bound in (low.get(column, -np.inf), high.get(column, np.inf))
        )
        if not ends[0] < row[source] <= ends[1]:
            row[source] = _between(*ends)
    return row


def _between(low: float, high: float) -> float:
    if np.isinf(low):
        return high if np.isfinite(high) else 0.0
    if np.isinf(high):
        return low + max(abs(low), 1.0)
    return low + (high - low) / 2
