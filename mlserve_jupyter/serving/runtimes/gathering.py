"""Calls of compiled graphs that arrive in one turn of the event loop, and are answered as one.

Nothing waits for company: while calls come one by one, each is answered where it arrives. Once a
turn has brought several, those of the next ones are held to the turn's end, and go through their
graph together. Only methods are held whose rows were found to be answered the same, bit for bit, in
whatever company.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mlserve_jupyter.api.signature import InputBatch
from mlserve_jupyter.serving.call_queue import Answer
from mlserve_jupyter.serving.replies import Reply

log = logging.getLogger(__name__)

MAX_ROWS = 1024
"""Rows that go through a graph at once."""

Settle = Callable[[Answer | None], None]
"""Takes an answer; None where the model itself must give it."""


class Answering(Protocol):
    """A graph, as it is called here."""

    def answers(self, method: str, batches: Sequence[InputBatch]) -> list[bytes | None]:
        """Return the JSON of ``predictions`` of each batch, None where the model itself must."""
        ...


@dataclass(frozen=True, slots=True)
class _Held:
    batch: InputBatch
    settle: Settle
    arrived: float


class Gathering:
    """The calls of this turn."""

    def __init__(self) -> None:
        self._held: dict[tuple[Answering, str], list[_Held]] = {}
        self._n_in_turn = 0
        self._is_crowded = False

    def is_crowded(self) -> bool:
        """Take note of a call; whether calls come together, as the turn before has shown."""
        if not self._n_in_turn:
            asyncio.get_running_loop().call_soon(self._end_turn)
        self._n_in_turn += 1
        return self._is_crowded

    def add(self, graph: Answering, method: str, batch: InputBatch, settle: Settle) -> None:
        """Hold a call to the end of this turn, which :meth:`is_crowded` has begun."""
        held = _Held(batch, settle, time.perf_counter())
        self._held.setdefault((graph, method), []).append(held)

    def _end_turn(self) -> None:
        self._is_crowded = self._n_in_turn > 1
        self._n_in_turn = 0
        held, self._held = self._held, {}
        for (graph, method), calls in held.items():
            for some in _in_pieces(calls):
                _answer_together(graph, method, some)


def _in_pieces(calls: list[_Held]) -> Iterator[list[_Held]]:
    piece: list[_Held] = []
    n_rows = 0
    for call in calls:
        if piece and n_rows + call.batch.n_rows > MAX_ROWS:
            yield piece
            piece, n_rows = [], 0
        piece.append(call)
        n_rows += call.batch.n_rows
    yield piece


def _answer_together(graph: Answering, method: str, calls: list[_Held]) -> None:
    started = time.perf_counter()
    try:
        bodies = graph.answers(method, [call.batch for call in calls])
    except Exception:
        # ONNX Runtime raises exceptions of its own; whatever it is, the model itself can answer.
        log.exception("A compiled graph failed on %d calls.", len(calls))
        bodies = [None] * len(calls)
    reply = Reply(predict_ms=(time.perf_counter() - started) * 1e3)
    for call, body in zip(calls, bodies, strict=True):
        call.settle(
            None
            if body is None
            else Answer(
                reply=reply,
                body=body,
                columns=None,
                error=None,
                queue_ms=(started - call.arrived) * 1e3,
                n_calls=len(calls),
            )
        )


def merged(batches: Sequence[InputBatch]) -> InputBatch | None:
    """Return the rows of all batches as one; None where they lie in memory in another way."""
    n_rows = sum(batch.n_rows for batch in batches)
    rows: list[object] = []
    columns: list[list[object]] = []
    for batch in batches:
        if isinstance(batch.rows, list):
            rows += batch.rows
        elif batch.columns is not None and all(isinstance(c, list) for c in batch.columns):
            columns = columns or [[] for _ in batch.columns]
            for column, more in zip(columns, batch.columns, strict=True):
                column += more
        else:
            return None
    return InputBatch(n_rows, columns=columns) if columns else InputBatch(n_rows, rows=rows)
