"""XGBoost's models as graphs: their trees compare and add in single precision, one by one."""

from __future__ import annotations

import json
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
from mlserve_jupyter.artifacts.compiling.trees import Tree, add_ensemble, constant_tree

_IDENTITIES = frozenset({
    "reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:squaredlogerror",
    "reg:quantileerror",
})  # fmt: skip

_TIE = 1e-5
"""Two scores that are nearer to each other than this may have equal probabilities."""

_SINGLE_MAX = float(np.finfo(np.float32).max)

# A fitted model is XGBoost's, and so is its file: neither has types, hence ``Any``.


def xgboost_model(model: Any, flow: Flow) -> Compiled:
    """Add a fitted ``XGBClassifier`` or ``XGBRegressor``, or one of forests, to a graph.

    Raises
    ------
    NotCompilable
        Saying what it does that a graph does not.
    """
    learner = json.loads(model.get_booster().save_raw("json"))["learner"]
    objective = learner["objective"]["name"]
    is_classifier = hasattr(model, "classes_")
    expected = {"binary:logistic", "multi:softprob"} if is_classifier else _IDENTITIES
    if objective not in expected:
        raise NotCompilable(f"its predictions go through the objective {objective!r}")
    if learner["gradient_booster"]["name"] != "gbtree":
        raise NotCompilable(f"its booster is {learner['gradient_booster']['name']!r}")
    if model.missing is not None and not np.isnan(model.missing):
        raise NotCompilable(f"it takes {model.missing!r} for a missing value")
    start = _starting_scores(learner, objective)
    trees = _trees(learner["gradient_booster"]["model"], _n_rounds(model))
    ensemble = [constant_tree(value, target) for target, value in enumerate(start)] + trees
    graph = flow.graph
    single = graph.node("Cast", flow.value, to=1)
    total = add_ensemble(graph, single, ensemble, len(start), "float32")
    scores = graph.node("Cast", total, to=11)
    if not is_classifier:
        outputs = {"predict": Output(flat(flow, scores), None)}
    elif objective == "binary:logistic":
        outputs = _binary(model, flow, flat(flow, scores))
    else:
        outputs = _multiclass(model, flow, scores, len(start))
    return Compiled(outputs, replace(flow, takes_nan=True), tuple(trees), _SINGLE_MAX)


def _binary(model: Any, flow: Flow, score: str) -> dict[str, Output]:
    label = sign(flow, score, "Greater", model.classes_)
    return {
        "predict": replace(label, certain=is_far_from_zero(flow, score, _TIE)),
        # Its exponential is the C library's in single precision.
        "predict_proba": Output(score, None, finish="sigmoid", is_exact=False),
    }


def _multiclass(model: Any, flow: Flow, scores: str, n_targets: int) -> dict[str, Output]:
    label = first_of_largest(flow, scores, model.classes_)
    return {
        "predict": replace(label, certain=is_apart(flow, scores, _TIE)),
        "predict_proba": Output(scores, n_targets, finish="softmax", is_exact=False),
    }


def _starting_scores(learner: dict[str, Any], objective: str) -> list[float]:
    """Return what each output's sum starts from: the base score, as a margin."""
    parameters = learner["learner_model_param"]
    if int(parameters["num_target"]) > 1:
        raise NotCompilable("it has several outputs")
    n_targets = max(int(parameters["num_class"]), 1)
    base = json.loads(parameters["base_score"])
    scores = np.array(base, dtype=np.float32).ravel()
    if objective == "binary:logistic":
        scores = -np.log(np.float32(1) / scores - np.float32(1))
    return [float(value) for value in np.broadcast_to(scores, n_targets)]


def _n_rounds(model: Any) -> int | None:
    """Return how many rounds answer where the fit has stopped early, else None for all."""
    best = model.get_booster().attributes().get("best_iteration")
    return None if best is None else int(best) + 1


def _trees(content: dict[str, Any], n_rounds: int | None) -> list[Tree]:
    n_trees = None if n_rounds is None else content["iteration_indptr"][n_rounds]
    targets = content["tree_info"]
    return [_tree(tree, targets[i]) for i, tree in enumerate(content["trees"][:n_trees])]


def _tree(found: dict[str, Any], target: int) -> Tree:
    """Return a tree of the file, its nodes in the order in which a walk first meets them."""
    if int(found["tree_param"]["size_leaf_vector"]) > 1:
        raise NotCompilable("its leaves hold several values")
    if any(found["split_type"]):
        raise NotCompilable("its trees split by categories")
    children = np.array([found["left_children"], found["right_children"]])
    order = [0]
    for node in order:
        order += [child for child in children[:, node].tolist() if child >= 0]
    position = np.zeros(children.shape[1], dtype=np.int64)
    position[order] = np.arange(len(order))
    left, right = position[children[:, order]]
    is_leaf = children[0, order] < 0
    splits = np.array(found["split_conditions"], dtype=np.float32)[order]
    return Tree(
        left=left,
        right=right,
        is_leaf=is_leaf,
        feature=np.array(found["split_indices"])[order],
        # A row goes left that is under the threshold: at most the number before it.
        threshold=np.nextafter(splits, np.float32(-np.inf)),
        missing_left=np.array(found["default_left"], dtype=bool)[order],
        value=splits,
        target=target,
    )
