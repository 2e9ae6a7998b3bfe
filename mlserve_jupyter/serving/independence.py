"""Finds out whether a model's answer to a row depends on the rows that come with it.

Only where it does not, bit for bit, may calls be answered together: an endpoint answers under load
what it answers alone.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

from mlserve_jupyter.api.signature import InputBatch, InputSpec
from mlserve_jupyter.artifacts.inputs import build_input, concat_batches
from mlserve_jupyter.artifacts.outputs import encode_output, split_output

BUDGET_S = 0.03
"""Time that is spent on it; the first two pieces are compared however long they take."""

PIECE_ROWS = (1, 3, 1, 7, 1, 2, 5)
"""Sizes of the pieces, in turn: BLAS adds up in another order for other numbers of rows."""

BULK_ROWS = (256, 1024)
"""The sample is repeated to as many rows, where that is expected to take no longer than BULK_S."""

BULK_S = 0.05


def answers_row_by_row(method: Callable[[Any], Any], inputs: InputSpec, batch: InputBatch) -> bool:
    """Compare the answers to pieces of a sample with those to the whole of it.

    Parameters
    ----------
    method
        Of the model; what it takes and gives is the model's own, hence ``Any``.
    batch
        The sample, of at least two rows for a positive answer.
    """
    if batch.n_rows < 2:
        return False
    started = time.perf_counter()
    whole = _answers(method, inputs, batch, [1] * batch.n_rows)
    if whole is None:
        return False
    whole_s = time.perf_counter() - started
    started = time.perf_counter()
    for i, (start, end) in enumerate(_pieces(batch.n_rows)):
        if i >= 2 and time.perf_counter() - started > BUDGET_S:
            break
        piece = _slice(batch, start, end)
        if _answers(method, inputs, piece, [1] * piece.n_rows) != whole[start:end]:
            return False
    return _answers_in_bulk(method, inputs, batch, whole_s)


def _answers_in_bulk(
    method: Callable[[Any], Any], inputs: InputSpec, batch: InputBatch, whole_s: float
) -> bool:
    """Whether so many rows as may go together under load are answered as the sample alone."""
    alone = _answers(method, inputs, batch, [batch.n_rows])
    row_s = whole_s / batch.n_rows
    for n_rows in BULK_ROWS:
        times = n_rows // batch.n_rows
        if times < 2 or times * batch.n_rows * row_s > BULK_S:
            continue
        started = time.perf_counter()
        found = _answers(method, inputs, concat_batches([batch] * times), [batch.n_rows] * times)
        if alone is None or found != alone * times:
            return False
        row_s = (time.perf_counter() - started) / (times * batch.n_rows)
    return True


def _answers(
    method: Callable[[Any], Any], inputs: InputSpec, batch: InputBatch, sizes: list[int]
) -> list[bytes] | None:
    """Return the answers to parts of so many rows as they would be sent; None without parts."""
    try:
        result = method(build_input(inputs, batch))
        return [encode_output(part) for part in split_output(result, sizes)]
    except Exception:
        # A model may raise anything on a piece of its sample; then it is not called with pieces.
        return None


def _pieces(n_rows: int) -> Iterator[tuple[int, int]]:
    start = 0
    for size in itertools.cycle(PIECE_ROWS):
        if start >= n_rows:
            return
        yield start, min(start + size, n_rows)
        start += size


def _slice(batch: InputBatch, start: int, end: int) -> InputBatch:
    return InputBatch(
        n_rows=end - start,
        columns=None if batch.columns is None else [column[start:end] for column in batch.columns],
        rows=None if batch.rows is None else batch.rows[start:end],
    )
