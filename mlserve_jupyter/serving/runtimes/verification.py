"""Holds a compiled graph against the model's own answers, method by method."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from mlserve_jupyter.api.compiled import CompiledMethod, CompiledRecord, Finish
from mlserve_jupyter.api.signature import InputSpec
from mlserve_jupyter.serving.runtimes.graph_check import GraphRefused, check_graph
from mlserve_jupyter.serving.runtimes.session import CompiledModel, versions

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

TOLERANCE = 1e-6
"""What numbers may differ by, relative to the larger one or to 1 if that is more, where a deploy
asked for the compiled runtime; without being asked, only equal bits are good enough."""

N_ALONE = 200
"""Rows that are also answered one by one."""


class MethodReply(msgspec.Struct, frozen=True):
    """What a worker says of a method that it compiled.

    Attributes
    ----------
    is_exact
        Whether its numbers are the model's own by the way that they are computed.
    n_asked, n_bytes
        How many of the rows the model was asked, and the length of its answers' JSON.
    """

    name: str
    finish: Finish
    n_asked: int
    n_bytes: int
    classes: list[Any] | None = None
    has_certain: bool = False
    is_exact: bool = True


class CompileReply(msgspec.Struct, frozen=True):
    """What a worker says of a graph; the body has graph, rows, and per method flags and answers."""

    native: dict[str, str]
    methods: list[MethodReply] = []
    graph_bytes: int = 0
    n_rows: int = 0
    n_features: int = 0
    n_thresholds: int = 0
    takes_nan: bool = False
    max_abs: float = 0.0
    numpy: str = ""


@dataclass(frozen=True)
class VerifiedGraph:
    """A graph that may answer, and what the version's record will say of it.

    Attributes
    ----------
    graph
        Empty where nothing may be answered by it.
    record
        Without the file's sha256.
    """

    graph: bytes
    record: CompiledRecord


def verify_graph(
    reply: CompileReply, body: bytes, inputs: InputSpec, *, within_tolerance: bool
) -> VerifiedGraph:
    """Run a graph on the rows that came with it and keep the methods that answer as the model.

    Parameters
    ----------
    within_tolerance
        Whether numbers may differ by ``TOLERANCE``; equal bits are asked for otherwise.
    """
    if not reply.methods:
        return VerifiedGraph(b"", CompiledRecord(native=reply.native))
    try:
        return _verify(reply, body, inputs, within_tolerance)
    except GraphRefused as refusal:
        reason = str(refusal)
    except Exception as error:
        # ONNX Runtime raises exceptions of its own on a graph that it cannot run.
        reason = f"the graph cannot be run: {type(error).__name__}: {error}"
    names = [method.name for method in reply.methods]
    return VerifiedGraph(
        b"", CompiledRecord(native={**reply.native, **dict.fromkeys(names, reason)})
    )


def _verify(
    reply: CompileReply, body: bytes, inputs: InputSpec, within_tolerance: bool
) -> VerifiedGraph:
    import numpy as np

    graph = body[: reply.graph_bytes]
    if reply.n_features != inputs.shape[1]:
        raise GraphRefused("the graph is not for this input")
    check_graph(graph, reply.n_features)
    start = reply.graph_bytes
    n_bytes = reply.n_rows * reply.n_features * 8
    rows = np.frombuffer(body[start : start + n_bytes], dtype="<f8")
    rows = rows.reshape(reply.n_rows, reply.n_features)
    start += n_bytes
    planned = CompiledRecord(
        methods={
            method.name: CompiledMethod(
                finish=method.finish,
                classes=method.classes,
                has_certain=method.has_certain,
                is_exact=method.is_exact,
            )
            for method in reply.methods
        },
        takes_nan=reply.takes_nan,
        max_abs=reply.max_abs,
    )
    model = CompiledModel(graph, planned, inputs)
    native = dict(reply.native)
    kept: dict[str, CompiledMethod] = {}
    n_rows = reply.n_rows
    for method in reply.methods:
        taken = np.frombuffer(body[start : start + method.n_asked], dtype=bool)
        start += method.n_asked
        answers = json.loads(body[start : start + method.n_bytes])
        start += method.n_bytes
        found = _compare(model, planned.methods[method.name], method, rows, taken, answers)
        if isinstance(found, str):
            native[method.name] = found
        elif not within_tolerance and not (
            found.max_difference == 0 and method.is_exact and _same_functions(method, reply)
        ):
            native[method.name] = _inexact(found, method)
        else:
            kept[method.name] = found
            n_rows = min(n_rows, len(taken))
    record = msgspec.structs.replace(
        planned,
        methods=kept,
        native=native,
        n_rows=n_rows,
        n_thresholds=reply.n_thresholds,
        made_with=versions(),
    )
    return VerifiedGraph(graph if kept else b"", record)


def _compare(
    model: CompiledModel,
    plan: CompiledMethod,
    method: MethodReply,
    rows: Array,
    taken: Array,
    answers: list[Any],
) -> CompiledMethod | str:
    """Return the method with what was found, or why the graph may not answer it."""
    import numpy as np

    asked = rows[: len(taken)]
    values, certain = model.run(method.name, asked)
    sure = np.ones(len(taken), dtype=bool) if certain is None else certain
    if (sure & ~taken).any():
        return "the graph answers rows that the model refuses"
    alone = np.flatnonzero(sure)[:: max(1, int(sure.sum()) // N_ALONE)]
    for i in alone.tolist():
        value, _ = model.run(method.name, asked[i : i + 1])
        if value.tobytes() != values[i : i + 1].tobytes():
            return "the graph answers a row otherwise alone than among others"
    difference = _difference(model, plan, values[sure], answers, sure[taken])
    if difference is None:
        return f"{method.name} answers otherwise than the model"
    return msgspec.structs.replace(plan, max_difference=difference, n_left=int((~sure).sum()))


def _difference(
    model: CompiledModel, plan: CompiledMethod, values: Array, answers: list[Any], kept: Array
) -> float | None:
    """Return the largest relative difference; None where it is over the tolerance."""
    import numpy as np

    from mlserve_jupyter.artifacts.arrays import NON_FINITE

    expected = [answer for answer, is_kept in zip(answers, kept.tolist(), strict=True) if is_kept]
    if plan.finish == "labels":
        classes = plan.classes or []
        found = [classes[i] for i in values.tolist()]
        return 0.0 if _same(found, expected) else None

    def number(value: Any) -> Any:
        return (
            [number(item) for item in value]
            if isinstance(value, list)
            else (NON_FINITE.get(value, value) if isinstance(value, str) else value)
        )

    ours = model.finished(plan, values)
    theirs = np.array(number(expected), dtype=np.float64)
    if ours.shape != theirs.shape:
        return None
    if ours.tobytes() == np.ascontiguousarray(theirs).tobytes():
        return 0.0
    both_nan = np.isnan(ours) & np.isnan(theirs)
    with np.errstate(all="ignore"):
        gap = np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))
    gap = np.where(both_nan | (ours == theirs), 0.0, gap)
    if not (gap <= TOLERANCE).all():
        return None
    # Where only signs of zeros differ, the bits differ all the same.
    return max(float(gap.max()), 5e-324)


def _same(found: list[Any], expected: list[Any]) -> bool:
    return found == expected and [*map(type, found)] == [*map(type, expected)]


def _same_functions(method: MethodReply, reply: CompileReply) -> bool:
    """Tell whether numpy's functions, where they are used, are of one version here and there."""
    return not method.finish.startswith("softmax") or reply.numpy == versions()["numpy"]


def _inexact(found: CompiledMethod, method: MethodReply) -> str:
    if found.max_difference:
        return (
            f"the graph's numbers differ by at most {found.max_difference:.2g}; "
            "--runtime onnx accepts that"
        )
    return (
        "its sums depend on the order in which a library adds, so that equal bits on the rows "
        "that were compared do not hold for all; --runtime onnx accepts that"
    )
