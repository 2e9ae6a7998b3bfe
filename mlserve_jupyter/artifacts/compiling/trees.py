"""Ensembles of decision trees as one ``TreeEnsemble`` operator, sums and all bit for bit.

The operator compares and adds tree after tree, as the libraries do, and in the precision that they
do it in. Its splits are the model's own thresholds; where scikit-learn casts its input to float32
first, so does the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlserve_jupyter.artifacts.compiling.graph import Array, GraphBuilder

_LEQ = 0
_SUM = 1
_NONE = 0


@dataclass(frozen=True)
class Tree:
    """One tree; all arrays have one entry a node, the root's first.

    Attributes
    ----------
    left, right
        Where a row goes that is at most, or over, the threshold; unused at a leaf.
    is_leaf, feature, threshold, missing_left
        Of each node.
    value
        What the tree adds, of a leaf.
    target
        Which output it adds to.
    """

    left: Array
    right: Array
    is_leaf: Array
    feature: Array
    threshold: Array
    missing_left: Array
    value: Array
    target: int = 0


def constant_tree(value: float, target: int) -> Tree:
    """Return a tree that adds the same to every row: what a sum starts from."""
    return Tree(
        left=np.array([0]),
        right=np.array([0]),
        is_leaf=np.array([True]),
        feature=np.array([0]),
        threshold=np.array([0.0]),
        missing_left=np.array([True]),
        value=np.array([value]),
        target=target,
    )


def add_ensemble(
    graph: GraphBuilder, x: str, trees: Sequence[Tree], n_targets: int, precision: str = "float64"
) -> str:
    """Add the sum of ``trees`` to a graph; return its name, of shape ``(n_rows, n_targets)``.

    Parameters
    ----------
    x
        Name of the features, of the dtype ``precision``, in which it compares, adds and answers.
    """
    parts: dict[str, list[Array]] = {name: [] for name in _NODE_ATTRIBUTES}
    roots, n_nodes, n_leaves = [], 0, 0
    for tree in trees:
        roots.append(n_nodes)
        for name, values in _numbered(tree, n_nodes, n_leaves).items():
            parts[name].append(values)
        n_nodes += max(int((~tree.is_leaf).sum()), 1)
        n_leaves += int(tree.is_leaf.sum())
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    dtypes = {**_NODE_ATTRIBUTES, "nodes_splits": precision, "leaf_weights": precision}
    return graph.node(
        "TreeEnsemble",
        x,
        domain="ai.onnx.ml",
        n_targets=n_targets,
        aggregate_function=_SUM,
        post_transform=_NONE,
        tree_roots=np.array(roots, dtype=np.int64),
        **{name: joined[name].astype(dtype) for name, dtype in dtypes.items()},
        nodes_modes=np.full(n_nodes, _LEQ, dtype=np.uint8),
    )


_NODE_ATTRIBUTES = {
    "nodes_featureids": "int64",
    "nodes_splits": "float64",
    "nodes_truenodeids": "int64",
    "nodes_trueleafs": "int64",
    "nodes_falsenodeids": "int64",
    "nodes_falseleafs": "int64",
    "nodes_missing_value_tracks_true": "int64",
    "leaf_targetids": "int64",
    "leaf_weights": "float64",
}


def _numbered(tree: Tree, n_nodes: int, n_leaves: int) -> dict[str, Array]:
    """Give a tree's attributes; inner nodes and leaves are numbered apart, after others'."""
    leaf = tree.is_leaf
    number = np.where(leaf, np.cumsum(leaf) - 1 + n_leaves, np.cumsum(~leaf) - 1 + n_nodes)
    # A tree of one leaf has an inner node all the same; both its branches are that leaf.
    inner = np.flatnonzero(~leaf) if len(leaf) > 1 else np.array([0])
    left, right = tree.left[inner], tree.right[inner]
    return {
        "nodes_featureids": tree.feature[inner],
        "nodes_splits": tree.threshold[inner],
        "nodes_truenodeids": number[left],
        "nodes_trueleafs": leaf[left],
        "nodes_falsenodeids": number[right],
        "nodes_falseleafs": leaf[right],
        "nodes_missing_value_tracks_true": tree.missing_left[inner],
        "leaf_targetids": np.full(int(leaf.sum()), tree.target),
        "leaf_weights": tree.value[leaf],
    }


def sklearn_tree(tree: Any, values: Array, target: int = 0) -> Tree:
    """Return scikit-learn's own tree (``estimator.tree_``, compiled, hence ``Any``)."""
    left, right = tree.children_left, tree.children_right
    missing = getattr(tree, "missing_go_to_left", None)
    return Tree(
        left=left,
        right=right,
        is_leaf=left < 0,
        feature=tree.feature,
        threshold=tree.threshold,
        missing_left=np.zeros(len(left), dtype=bool) if missing is None else missing.astype(bool),
        value=values,
        target=target,
    )
