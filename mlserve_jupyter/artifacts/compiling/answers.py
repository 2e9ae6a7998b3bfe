"""The model's own answers to the probe rows, by which its graph is judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mlserve_jupyter.api.signature import InputSpec
from mlserve_jupyter.artifacts.compiling.graph import Array
from mlserve_jupyter.artifacts.compiling.probes import batch_of
from mlserve_jupyter.artifacts.inputs import build_input

BLOCK_ROWS = 4096
BUDGET_S = 5.0
"""Time for the answers of one method; what is not answered by then is not compared."""

# What a model's method takes and gives is its own, hence ``Any``.


def native_answers(
    method: Callable[[Any], Any], inputs: InputSpec, rows: Array
) -> tuple[Array, Array]:
    """Call a method with the rows.

    Returns
    -------
    numpy.ndarray, numpy.ndarray
        The answers of the rows that it took, in order; and for each row that was asked, whether
        it took it, of shape ``(n_asked,)``.

    Raises
    ------
    ValueError
        If it took none.
    """
    answers: list[Array] = []
    taken: list[bool] = []
    deadline = time.perf_counter() + BUDGET_S
    for start in range(0, len(rows), BLOCK_ROWS):
        if time.perf_counter() > deadline:
            break
        for answer, n_rows in _block(method, inputs, rows[start : start + BLOCK_ROWS]):
            taken += [answer is not None] * n_rows
            if answer is not None:
                answers.append(answer)
    if not answers:
        raise ValueError("the model refused every row")
    return np.concatenate(answers), np.array(taken)


def _block(
    method: Callable[[Any], Any], inputs: InputSpec, rows: Array
) -> Iterator[tuple[Array | None, int]]:
    """Yield answers and how many rows they are for; None for a row that is refused."""
    try:
        with np.errstate(all="ignore"):
            answer = np.asarray(method(build_input(inputs, batch_of(inputs, rows))))
        yield (answer, len(rows))
    except Exception:
        # A model may raise anything on rows that nobody ever sent; each is then asked alone.
        if len(rows) == 1:
            yield None, 1
            return
        middle = len(rows) // 2
        yield from _block(method, inputs, rows[:middle])
        yield from _block(method, inputs, rows[middle:])
