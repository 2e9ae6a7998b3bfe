"""Predictors as graphs: trees and their ensembles bit for bit, linear models up to their labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mlserve_jupyter.artifacts.compiling.flow import Compiled, Flow, NotCompilable, Output
from mlserve_jupyter.artifacts.compiling.graph import Array
from mlserve_jupyter.artifacts.compiling.labels import first_of_largest, flat, leads, sign
from mlserve_jupyter.artifacts.compiling.lightgbm_models import lightgbm_model
from mlserve_jupyter.artifacts.compiling.transformers import full_name
from mlserve_jupyter.artifacts.compiling.trees import (
    Tree,
    add_ensemble,
    constant_tree,
    sklearn_tree,
)
from mlserve_jupyter.artifacts.compiling.xgboost_models import xgboost_model

MAX_COPIED_CLASSES = 2
"""A forest of so many classes is written once a class; one of more looks its leaves up."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)

# Fitted estimators are their library's, whose attributes have no types, hence ``Any``.


def predictor(model: Any, flow: Flow) -> Compiled:
    """Add a fitted predictor to a graph.

    Raises
    ------
    NotCompilable
        If it is none of those that are known.
    """
    convert = _CONVERTERS.get(full_name(model))
    if convert is None:
        raise NotCompilable(f"{type(model).__name__} has no exact graph")
    return convert(model, flow)


def _tree_classifier(model: Any, flow: Flow) -> Compiled:
    return _forest_classifier(model, flow, [model.tree_])


def _tree_regressor(model: Any, flow: Flow) -> Compiled:
    return _forest_regressor(model, flow, [model.tree_])


def _forest_classifier(model: Any, flow: Flow, trees: Sequence[Any] | None = None) -> Compiled:
    graph = flow.graph
    _require_one_output(model)
    found = [tree.tree_ for tree in model.estimators_] if trees is None else trees
    n_classes = int(model.n_classes_)
    if n_classes <= MAX_COPIED_CLASSES:
        ensemble = [
            sklearn_tree(tree, tree.value[:, 0, k], k) for k in range(n_classes) for tree in found
        ]
        total = add_ensemble(graph, flow.float32(), ensemble, n_classes)
    else:
        total, ensemble = _looked_up(found, flow, n_classes)
    proba = total
    if trees is None:
        proba = graph.node("Div", total, graph.constant(np.float64(len(found))))
    outputs = {
        "predict": first_of_largest(flow, proba, model.classes_),
        "predict_proba": Output(proba, n_classes),
    }
    return Compiled(outputs, flow, tuple(ensemble[: len(found)]), _FLOAT32_MAX)


def _looked_up(trees: Sequence[Any], flow: Flow, n_classes: int) -> tuple[str, list[Tree]]:
    """Sum the leaves' probabilities by way of their numbers, one output a tree."""
    graph = flow.graph
    numbered, values, n_leaves = [], [], 0
    for i, tree in enumerate(trees):
        is_leaf = tree.children_left < 0
        numbers = np.cumsum(is_leaf) - 1.0 + n_leaves
        numbered.append(sklearn_tree(tree, numbers, i))
        values.append(tree.value[is_leaf, 0, :n_classes])
        n_leaves += int(is_leaf.sum())
    leaves = add_ensemble(graph, flow.float32(), numbered, len(trees))
    table = graph.constant(np.concatenate(values))
    by_tree = graph.node("Gather", table, graph.node("Cast", leaves, to=7))
    # A cumulative sum adds one after the other; a reduction might not.
    sums = graph.node("CumSum", by_tree, graph.constant(np.int64(1)))
    last = graph.constant(np.int64(len(trees) - 1))
    return graph.node("Gather", sums, last, axis=1), numbered


def _forest_regressor(model: Any, flow: Flow, trees: Sequence[Any] | None = None) -> Compiled:
    graph = flow.graph
    _require_one_output(model)
    found = [tree.tree_ for tree in model.estimators_] if trees is None else trees
    ensemble = [sklearn_tree(tree, tree.value[:, 0, 0]) for tree in found]
    total = flat(flow, add_ensemble(graph, flow.float32(), ensemble, 1))
    if trees is None:
        total = graph.node("Div", total, graph.constant(np.float64(len(found))))
    return Compiled({"predict": Output(total, None)}, flow, tuple(ensemble), _FLOAT32_MAX)


def _gradient_boosting(model: Any, flow: Flow) -> Compiled:
    init = model.init_
    if not isinstance(init, str) and not full_name(init).startswith("sklearn.dummy.Dummy"):
        raise NotCompilable(f"it starts from a fitted {type(init).__name__}")
    start = model._raw_predict_init(np.zeros((1, model.n_features_in_), dtype=np.float32))[0]
    trees = [
        sklearn_tree(stage.tree_, model.learning_rate * stage.tree_.value[:, 0, 0], k)
        for row in model.estimators_
        for k, stage in enumerate(row)
    ]
    ensemble = [constant_tree(float(value), k) for k, value in enumerate(start)] + trees
    raw = add_ensemble(flow.graph, flow.float32(), ensemble, len(start))
    outputs = _boosted_outputs(model, flow, raw, len(start), "GreaterOrEqual", "softmax")
    return Compiled(outputs, flow, tuple(trees), _FLOAT32_MAX)


def _hist_gradient_boosting(model: Any, flow: Flow) -> Compiled:
    if getattr(model, "_preprocessor", None) is not None:
        raise NotCompilable("its categorical features are encoded outside the trees")
    start = np.asarray(model._baseline_prediction).ravel()
    trees = []
    for row in model._predictors:
        for k, stage in enumerate(row):
            nodes = stage.nodes
            if nodes["is_categorical"].any():
                raise NotCompilable("its trees split by categories")
            trees.append(
                Tree(
                    left=nodes["left"].astype(np.int64),
                    right=nodes["right"].astype(np.int64),
                    is_leaf=nodes["is_leaf"].astype(bool),
                    feature=nodes["feature_idx"].astype(np.int64),
                    threshold=nodes["num_threshold"],
                    missing_left=nodes["missing_go_to_left"].astype(bool),
                    value=nodes["value"],
                    target=k,
                )
            )
    ensemble = [constant_tree(float(value), k) for k, value in enumerate(start)] + trees
    raw = add_ensemble(flow.graph, flow.value, ensemble, len(start))
    outputs = _boosted_outputs(model, flow, raw, len(start), "Greater", "softmax_by_column")
    return Compiled(outputs, replace(flow, takes_nan=True), tuple(trees))


def _boosted_outputs(
    model: Any, flow: Flow, raw: str, n_targets: int, positive: str, softmax: str
) -> dict[str, Output]:
    """Return the methods of a boosted model over its raw sums.

    Parameters
    ----------
    positive
        The operator by which the second of two classes is told from zero.
    softmax
        How the probabilities of three or more classes are made of the sums.
    """
    link = type(model._loss.link).__name__
    if not hasattr(model, "classes_"):
        if link != "IdentityLink":
            raise NotCompilable(f"its predictions go through a {link}")
        return {"predict": Output(flat(flow, raw), None)}
    if n_targets > 1:
        outputs = {
            "predict": first_of_largest(flow, raw, model.classes_),
            "decision_function": Output(raw, n_targets),
        }
        if link == "MultinomialLogit":
            outputs["predict_proba"] = Output(raw, n_targets, finish=softmax)
        return outputs
    score = flat(flow, raw)
    outputs = {
        "predict": sign(flow, score, positive, model.classes_),
        "decision_function": Output(score, None),
    }
    if link == "LogitLink":
        outputs["predict_proba"] = Output(score, None, finish="sigmoid")
    return outputs


def _linear_classifier(model: Any, flow: Flow) -> Compiled:
    graph = flow.graph
    coef, intercept = _coefficients(model)
    scores = _scores(flow, coef, intercept)
    # The order in which products are added is that of a library of the machine. Any two orders
    # differ by less than this part of the sum of the products' sizes (Higham 2002, 3.1).
    size = _scores(flow, np.abs(coef), np.abs(intercept), absolute=True)
    doubt = graph.node("Mul", size, graph.constant(np.float64((coef.shape[1] + 4) * 2.0**-51)))
    if len(coef) == 1:
        certain = graph.node("Greater", graph.node("Abs", flat(flow, scores)), flat(flow, doubt))
        label = sign(flow, flat(flow, scores), "Greater", model.classes_)
        decision = Output(flat(flow, scores), None, is_exact=False)
    else:
        largest = graph.node("ReduceMax", doubt, graph.constant(np.array([1])), keepdims=1)
        # The largest score and the next may both be off.
        certain = leads(flow, scores, graph.node("Add", largest, largest))
        label = first_of_largest(flow, scores, model.classes_)
        decision = Output(scores, len(coef), is_exact=False)
    predict = Output(label.value, None, "int64", "labels", classes=model.classes_, certain=certain)
    outputs = {"predict": predict, "decision_function": decision}
    if full_name(model) == "sklearn.linear_model.LogisticRegression":
        finish = "sigmoid" if len(coef) == 1 else "softmax"
        outputs["predict_proba"] = Output(
            decision.value, decision.n_columns, finish=finish, is_exact=False
        )
    return Compiled(outputs, flow)


def _linear_regressor(model: Any, flow: Flow) -> Compiled:
    coef, intercept = _coefficients(model)
    value = _scores(flow, coef, intercept)
    is_flat = np.ndim(model.coef_) == 1
    n_columns = None if is_flat else len(coef)
    output = Output(flat(flow, value) if is_flat else value, n_columns, is_exact=False)
    return Compiled({"predict": output}, flow)


def _coefficients(model: Any) -> tuple[Array, Array]:
    coef = np.atleast_2d(model.coef_)
    intercept = np.broadcast_to(np.asarray(model.intercept_, dtype=coef.dtype), (len(coef),))
    if coef.dtype != np.float64:
        raise NotCompilable("it was fitted in single precision")
    return coef, intercept


def _scores(flow: Flow, coef: Array, intercept: Array, *, absolute: bool = False) -> str:
    graph = flow.graph
    value = graph.node("Abs", flow.value) if absolute else flow.value
    products = graph.node("MatMul", value, graph.constant(np.ascontiguousarray(coef.T)))
    return graph.node("Add", products, graph.constant(np.ascontiguousarray(intercept)))


def _require_one_output(model: Any) -> None:
    if model.n_outputs_ != 1:
        raise NotCompilable("it has several outputs")


_CONVERTERS: dict[str, Callable[[Any, Flow], Compiled]] = {
    "sklearn.tree.DecisionTreeClassifier": _tree_classifier,
    "sklearn.tree.DecisionTreeRegressor": _tree_regressor,
    "sklearn.tree.ExtraTreeClassifier": _tree_classifier,
    "sklearn.tree.ExtraTreeRegressor": _tree_regressor,
    "sklearn.ensemble.RandomForestClassifier": _forest_classifier,
    "sklearn.ensemble.RandomForestRegressor": _forest_regressor,
    "sklearn.ensemble.ExtraTreesClassifier": _forest_classifier,
    "sklearn.ensemble.ExtraTreesRegressor": _forest_regressor,
    "sklearn.ensemble.GradientBoostingClassifier": _gradient_boosting,
    "sklearn.ensemble.GradientBoostingRegressor": _gradient_boosting,
    "sklearn.ensemble.gradient_boosting.HistGradientBoostingClassifier": _hist_gradient_boosting,
    "sklearn.ensemble.gradient_boosting.HistGradientBoostingRegressor": _hist_gradient_boosting,
    "sklearn.linear_model.LogisticRegression": _linear_classifier,
    "sklearn.linear_model.RidgeClassifier": _linear_classifier,
    "sklearn.linear_model.SGDClassifier": _linear_classifier,
    "sklearn.linear_model.Perceptron": _linear_classifier,
    "sklearn.svm.LinearSVC": _linear_classifier,
    "sklearn.linear_model.LinearRegression": _linear_regressor,
    "sklearn.linear_model.Ridge": _linear_regressor,
    "sklearn.linear_model.Lasso": _linear_regressor,
    "sklearn.linear_model.ElasticNet": _linear_regressor,
    "sklearn.linear_model.SGDRegressor": _linear_regressor,
    "sklearn.svm.LinearSVR": _linear_regressor,
    "lightgbm.sklearn.LGBMClassifier": lightgbm_model,
    "lightgbm.sklearn.LGBMRegressor": lightgbm_model,
    "xgboost.sklearn.XGBClassifier": xgboost_model,
    "xgboost.sklearn.XGBRegressor": xgboost_model,
    "xgboost.sklearn.XGBRFClassifier": xgboost_model,
    "xgboost.sklearn.XGBRFRegressor": xgboost_model,
}
