"""What is handed from step to step while a pipeline is compiled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from mlserve_jupyter.artifacts.compiling.graph import INPUT, Array, GraphBuilder
from mlserve_jupyter.artifacts.compiling.trees import Tree


class NotCompilable(Exception):
    """A model or a method that has no exact graph; the message says why, in a sentence."""


@dataclass(frozen=True)
class Flow:
    """The features at one point of a pipeline.

    Attributes
    ----------
    graph
        What is built.
    value
        Name of the tensor of shape ``(n_rows, n_columns)``, in double precision.
    source
        For each column, the column of the input that it comes from.
    offset, scale
        A column's value is about ``(x - offset) / scale``, by which a threshold is traced back to
        the input.
    takes_nan
        Whether a missing value may get here.
    """

    graph: GraphBuilder
    value: str
    source: Array
    offset: Array
    scale: Array
    takes_nan: bool = False

    @classmethod
    def start(cls, graph: GraphBuilder) -> Flow:
        """Return the input itself."""
        n = graph.n_features
        return cls(graph, INPUT, np.arange(n), np.zeros(n), np.ones(n))

    @property
    def is_input(self) -> bool:
        """Whether this is the input as it came."""
        return self.value == INPUT

    @property
    def n_columns(self) -> int:
        """How many columns there are here."""
        return len(self.source)

    def affine(self, value: str, shift: Array, factor: Array) -> Flow:
        """Return the flow after ``(column - shift) / factor``, which ``value`` names."""
        return replace(
            self,
            value=value,
            offset=self.offset + self.scale * shift,
            scale=self.scale * factor,
        )

    def columns(self, positions: Array) -> Flow:
        """Return the flow of some of the columns, in the order of ``positions``."""
        if np.array_equal(positions, np.arange(self.n_columns)):
            return self
        taken = self.graph.constant(np.asarray(positions, dtype=np.int64))
        return replace(
            self,
            value=self.graph.node("Gather", self.value, taken, axis=1),
            source=self.source[positions],
            offset=self.offset[positions],
            scale=self.scale[positions],
        )

    def float32(self) -> str:
        """Return the name of the values rounded to single precision, as scikit-learn's trees."""
        single = self.graph.node("Cast", self.value, to=1)
        return self.graph.node("Cast", single, to=11)


@dataclass(frozen=True)
class Output:
    """What one method gives.

    Attributes
    ----------
    value
        Name of the tensor.
    n_columns
        None where it has the shape ``(n_rows,)``.
    dtype
        ``float64``, or ``int64`` for the positions of classes.
    finish
        What is left to do with it: nothing (``array``), look up the classes (``labels``), or the
        logistic functions, which no operator has bit for bit (``sigmoid``, ``softmax``,
        ``softmax_by_column``).
    classes
        Of a classifier.
    certain
        Name of a Boolean tensor that is false for the rows that only the model itself can answer:
        their label depends on the order of a sum, or it refuses them. None where there are none.
    is_exact
        Whether its numbers are the model's own bit for bit, by the way that they are computed.
    """

    value: str
    n_columns: int | None
    dtype: str = "float64"
    finish: str = "array"
    classes: Array | None = None
    certain: str | None = None
    is_exact: bool = True


@dataclass(frozen=True)
class Compiled:
    """What the last step of a pipeline gives, by method, and what its trees compare.

    Attributes
    ----------
    outputs
        By method.
    flow
        The features that the step sees.
    trees
        Its trees, for the rows around their thresholds.
    max_abs
        Inputs beyond this are left to the model itself, which refuses some of them.
    """

    outputs: dict[str, Output]
    flow: Flow
    trees: tuple[Tree, ...] = field(default=(), repr=False)
    max_abs: float = float(np.finfo(np.float64).max)
