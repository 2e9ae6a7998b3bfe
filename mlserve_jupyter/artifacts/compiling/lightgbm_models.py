"""LightGBM's models as graphs: their trees compare and add in double precision, one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from mlserve_jupyter.artifacts.compiling.flow import Compiled, Flow, NotCompilable, Output
from mlserve_jupyter.artifacts.compiling.labels import (
    first_of_largest,
    flat,
    is_apart,
    is_far_from_zero,
    sign,
)
from mlserve_jupyter.artifacts.compiling.trees import Tree, add_ensemble

_ZERO = float(np.float32(1e-35))
"""What is not larger than this is zero to LightGBM (``kZeroThreshold`` in its ``meta.h``)."""

_LARGEST = float(np.nextafter(1e300, 0))
"""The dump shows larger thresholds as 1e300 (``Common::AvoidInf``), whatever they are."""

_IDENTITIES = frozenset({"regression", "regression_l1", "huber", "fair", "quantile", "mape"})

_TIE = 1e-12
"""Two scores that are nearer to each other than this may have equal probabilities."""

# A fitted model is LightGBM's, and so is the dump of it: neither has types, hence ``Any``.


def lightgbm_model(model: Any, flow: Flow) -> Compiled:
    """Add a fitted ``LGBMClassifier`` or ``LGBMRegressor`` to a graph.

    Raises
    ------
    NotCompilable
        Saying what it does that a graph does not.
    """
    dump = model.booster_.dump_model()
    objective = str(dump.get("objective", "custom")).split(" ")
    is_classifier = hasattr(model, "classes_")
    expected = {"binary", "multiclass"} if is_classifier else _IDENTITIES
    if objective[0] not in expected or "sqrt" in objective:
        raise NotCompilable(f"its predictions go through the objective {' '.join(objective)!r}")
    if dump.get("average_output"):
        raise NotCompilable("its trees are averaged")
    n_targets = int(dump["num_tree_per_iteration"])
    trees = [_tree(found, i % n_targets) for i, found in enumerate(dump["tree_info"])]
    total = add_ensemble(flow.graph, _without_tiny_numbers(flow), trees, n_targets)
    if not is_classifier:
        outputs = {"predict": Output(flat(flow, total), None)}
    elif objective[0] == "binary":
        outputs = _binary(model, flow, flat(flow, total), objective)
    else:
        outputs = _multiclass(model, flow, total, n_targets)
    return Compiled(outputs, replace(flow, takes_nan=True), tuple(trees), _LARGEST)


def _binary(model: Any, flow: Flow, score: str, objective: list[str]) -> dict[str, Output]:
    slope = next((float(p[8:]) for p in objective if p.startswith("sigmoid:")), 1.0)
    score = flow.graph.node("Mul", score, flow.graph.constant(np.float64(slope)))
    label = sign(flow, score, "Greater", model.classes_)
    return {
        "predict": replace(label, certain=is_far_from_zero(flow, score, _TIE)),
        "predict_proba": Output(score, None, finish="sigmoid"),
    }


def _multiclass(model: Any, flow: Flow, scores: str, n_targets: int) -> dict[str, Output]:
    label = first_of_largest(flow, scores, model.classes_)
    return {
        "predict": replace(label, certain=is_apart(flow, scores, _TIE)),
        # Its exponentials are the C++ library's, one by one; numpy's may differ in the last bit.
        "predict_proba": Output(scores, n_targets, finish="softmax", is_exact=False),
    }


def _without_tiny_numbers(flow: Flow) -> str:
    graph = flow.graph
    tiny = graph.node(
        "LessOrEqual", graph.node("Abs", flow.value), graph.constant(np.float64(_ZERO))
    )
    return graph.node("Where", tiny, graph.constant(np.float64(0)), flow.value)


def _tree(found: dict[str, Any], target: int) -> Tree:
    """Return a tree of the dump, its nodes in the order in which a walk first meets them."""
    nodes: list[dict[str, Any]] = []
    left: list[int] = []
    right: list[int] = []
    waiting = [(found["tree_structure"], -1, left)]
    while waiting:
        node, parent, side = waiting.pop()
        if parent >= 0:
            side[parent] = len(nodes)
        if "split_index" in node:
            waiting.append((node["right_child"], len(nodes), right))
            waiting.append((node["left_child"], len(nodes), left))
        nodes.append(node)
        left.append(-1)
        right.append(-1)
    is_leaf = np.array(["split_index" not in node for node in nodes])
    return Tree(
        left=np.array(left),
        right=np.array(right),
        is_leaf=is_leaf,
        feature=np.array([node.get("split_feature", 0) for node in nodes]),
        threshold=np.array([_threshold(node) for node in nodes]),
        missing_left=np.array([_missing_left(node) for node in nodes]),
        value=np.array([node.get("leaf_value", 0.0) for node in nodes]),
        target=target,
    )


def _threshold(node: dict[str, Any]) -> float:
    if "leaf_const" in node:
        raise NotCompilable("its leaves are linear models")
    if node.get("decision_type", "<=") != "<=":
        raise NotCompilable("its trees split by categories")
    return float(node.get("threshold", 0.0))


def _missing_left(node: dict[str, Any]) -> bool:
    kind = node.get("missing_type", "None")
    if kind == "Zero":
        raise NotCompilable("it takes zeros for missing values")
    if kind == "NaN":
        return bool(node["default_left"])
    return bool(_threshold(node) >= 0)  # where none was missing, it counts as zero
