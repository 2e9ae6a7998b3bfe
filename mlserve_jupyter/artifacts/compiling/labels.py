"""From scores to labels, and for which rows the label is certain."""

from __future__ import annotations

import numpy as np

from mlserve_jupyter.artifacts.compiling.flow import Flow, Output
from mlserve_jupyter.artifacts.compiling.graph import Array


def first_of_largest(flow: Flow, scores: str, classes: Array) -> Output:
    """Give each row the class of its largest score, of shape ``(n_rows, n_classes)``."""
    label = flow.graph.node("ArgMax", scores, axis=1, keepdims=0, select_last_index=0)
    return Output(label, None, "int64", "labels", classes=classes)


def sign(flow: Flow, score: str, positive: str, classes: Array) -> Output:
    """Give the second of two classes to rows whose score is ``positive`` (an operator) to zero."""
    zero = flow.graph.constant(np.float64(0))
    label = flow.graph.node("Cast", flow.graph.node(positive, score, zero), to=7)
    return Output(label, None, "int64", "labels", classes=classes)


def flat(flow: Flow, value: str) -> str:
    """Return a value of one column in the shape ``(n_rows,)``."""
    return flow.graph.node("Reshape", value, flow.graph.constant(np.array([-1])))


def is_far_from_zero(flow: Flow, score: str, distance: float) -> str:
    """Tell for each row whether its score is further from zero than ``distance``."""
    bound = flow.graph.constant(np.float64(distance))
    return flow.graph.node("Greater", flow.graph.node("Abs", score), bound)


def is_apart(flow: Flow, scores: str, distance: float) -> str:
    """Tell for each row whether its largest score is so by more than ``distance``."""
    return leads(flow, scores, flow.graph.constant(np.float64(distance)))


def leads(flow: Flow, scores: str, margin: str) -> str:
    """Tell for each row whether its largest score is so by more than the margin."""
    graph = flow.graph
    axis = graph.constant(np.array([1]))
    best = graph.node("ReduceMax", scores, axis, keepdims=1)
    lead = graph.node("Sub", best, scores)
    # Exactly one column, the best itself, may lie within the margin.
    near = graph.node("Cast", graph.node("LessOrEqual", lead, margin), to=7)
    count = graph.node("ReduceSum", near, axis, keepdims=0)
    return graph.node("Equal", count, graph.constant(np.int64(1)))
