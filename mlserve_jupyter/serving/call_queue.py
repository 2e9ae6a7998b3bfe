"""Calls that wait for a worker, and which of them go together.

Nothing waits for company: when the worker is free, what waits for one model and method goes as one
batch, up to a number of rows. Models take turns, so that a busy one does not starve the others.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import OrderedDict, deque
from dataclasses import dataclass

import msgspec

from mlserve_jupyter.errors import Overloaded
from mlserve_jupyter.serving.protocol import Batch, ModelRef
from mlserve_jupyter.serving.replies import Reply, WorkerError
from mlserve_jupyter.serving.worker_process import WorkerProcess

LOADING = ""
"""The method of a call that only wants its model loaded."""

FIRST_BATCH_ROWS = 256
"""Rows that go together at first, and always where they take their time."""

QUICK_BATCH_S, SLOW_BATCH_S = 0.025, 0.1
"""After a batch as quick, twice as many rows may go together; after one as slow, as at first."""

MAX_GROWN_ROWS = 4096

LOOK_EVERY_S = 0.02
"""A full queue is looked through for calls that were given up no more often, whoever is refused."""


class Answer(msgspec.Struct, frozen=True):
    """What a worker gave for one call.

    Attributes
    ----------
    reply
        Of the whole batch.
    body
        JSON of the predictions; empty where there is an error, or none were asked for.
    columns
        Column names, where the predictions are a DataFrame.
    error
        What the model raised on this call.
    queue_ms
        Time from the call until the worker took it.
    n_calls
        How many calls the worker took at once.
    cached
        Whether the model did not run for this call: its answer to an equal one is here.
    """

    reply: Reply
    body: bytes
    columns: list[str] | None
    error: WorkerError | None
    queue_ms: float
    n_calls: int
    cached: bool = False


@dataclass(eq=False)
class WaitingCall:
    """A call and the future that its caller waits for.

    Attributes
    ----------
    method
        ``LOADING``, or the method's name.
    batch
        None where the model is only to be loaded.
    may_join
        Whether it may be answered together with others.
    n_bytes
        About what it takes in memory.
    arrived
        ``time.perf_counter()`` at its arrival, in seconds.
    deadline
        ``time.perf_counter()`` at which its caller gives up, in seconds.
    runs_in
        The worker that has it; None while it waits.
    """

    ref: ModelRef
    method: str
    batch: Batch | None
    may_join: bool
    n_bytes: int
    arrived: float
    deadline: float
    answer: asyncio.Future[Answer]
    runs_in: WorkerProcess | None = None

    @property
    def n_rows(self) -> int:
        """Rows of its input."""
        return 0 if self.batch is None else self.batch.n_rows

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for its answer any more."""
        return self.answer.done()


class CallQueue:
    """A queue of calls; :meth:`bound` bounds it."""

    def __init__(self) -> None:
        self._max_calls = self._max_rows = self._max_bytes = sys.maxsize
        self._turns: OrderedDict[tuple[str, str], deque[WaitingCall]] = OrderedDict()
        self._grown: dict[tuple[str, str], int] = {}
        self._n_calls = self._n_rows = self._n_bytes = 0
        self._look_again_s = 0.0
        self._arrived = asyncio.Event()

    def bound(self, *, max_calls: int, max_rows: int, max_bytes: int) -> None:
        """Bound what waits; a call that finds the queue empty is always taken."""
        self._max_calls = max_calls
        self._max_rows = max_rows
        self._max_bytes = max_bytes

    def __len__(self) -> int:
        """Return the number of calls that wait, given up ones included."""
        return self._n_calls

    def put(self, call: WaitingCall) -> None:
        """Add a call at the end of its model's turn.

        Raises
        ------
        Overloaded
            If the queue is full.
        """
        if self._n_calls and (
            self._n_calls >= self._max_calls
            or self._n_rows + call.n_rows > self._max_rows
            or self._n_bytes + call.n_bytes > self._max_bytes
        ):
            now_s = time.monotonic()
            if now_s >= self._look_again_s:
                self._look_again_s = now_s + LOOK_EVERY_S
                self._drop_given_up()
            if self._n_calls >= self._max_calls or (
                self._n_calls
                and (
                    self._n_rows + call.n_rows > self._max_rows
                    or self._n_bytes + call.n_bytes > self._max_bytes
                )
            ):
                raise Overloaded(
                    f"{self._n_calls} calls with {self._n_rows} rows wait for this worker already. "
                    "Try again in a moment."
                )
        self._add(call)

    def put_back(self, calls: list[WaitingCall]) -> None:
        """Return calls to the front, to be answered one by one."""
        for call in reversed(calls):
            call.may_join = False
            call.runs_in = None
            turn = (call.ref.key, call.method)
            self._turns.setdefault(turn, deque()).appendleft(call)
            self._turns.move_to_end(turn, last=False)
            self._count(call, 1)
        self._arrived.set()

    async def take(self, max_rows: int) -> list[WaitingCall]:
        """Wait for calls; return those that go together next, of at most ``max_rows`` rows.

        A single call may be larger. Calls that were given up are left out. How many go together at
        most begins with ``FIRST_BATCH_ROWS``, see :meth:`note_taken`.
        """
        while True:
            while not self._turns:
                self._arrived.clear()
                await self._arrived.wait()
            turn, calls = next(iter(self._turns.items()))
            taken = self._take_of(calls, min(self._grown.get(turn, FIRST_BATCH_ROWS), max_rows))
            if calls:
                self._turns.move_to_end(turn)
            else:
                del self._turns[turn]
            if taken:
                return taken

    def note_taken(self, taken: list[WaitingCall], predict_s: float) -> None:
        """Let more rows go together next if a full batch was answered quickly.

        A worker that is done early waits for the event loop, which is busy with other calls where
        there are many: the rest of them must go at once.
        """
        turn = (taken[0].ref.key, taken[0].method)
        at_most = self._grown.get(turn, FIRST_BATCH_ROWS)
        if predict_s > SLOW_BATCH_S:
            self._grown.pop(turn, None)
        elif predict_s < QUICK_BATCH_S and sum(call.n_rows for call in taken) > at_most // 2:
            self._grown[turn] = min(2 * at_most, MAX_GROWN_ROWS)

    def give_away(self, other: CallQueue, busy_with: str) -> None:
        """Move what waits to another queue, but every second call of the model ``busy_with``."""
        n_own = 0
        for call in self.drain():
            n_own += call.ref.key == busy_with
            stays = call.ref.key == busy_with and n_own % 2 == 0
            (self if stays else other)._add(call)

    def drain(self) -> list[WaitingCall]:
        """Return and forget all calls."""
        calls = [call for turn in self._turns.values() for call in turn]
        self._turns.clear()
        self._n_calls = self._n_rows = self._n_bytes = 0
        return calls

    def _add(self, call: WaitingCall) -> None:
        self._turns.setdefault((call.ref.key, call.method), deque()).append(call)
        self._count(call, 1)
        self._arrived.set()

    def _take_of(self, calls: deque[WaitingCall], max_rows: int) -> list[WaitingCall]:
        taken: list[WaitingCall] = []
        n_rows = 0
        while calls:
            call = calls[0]
            if call.is_given_up:
                self._count(calls.popleft(), -1)
                continue
            if taken and not (call.may_join and n_rows + call.n_rows <= max_rows):
                break
            self._count(calls.popleft(), -1)
            taken.append(call)
            n_rows += call.n_rows
            if not call.may_join:
                break
        return taken

    def _drop_given_up(self) -> None:
        for turn, calls in list(self._turns.items()):
            kept = deque(call for call in calls if not call.is_given_up)
            for call in calls:
                if call.is_given_up:
                    self._count(call, -1)
            if kept:
                self._turns[turn] = kept
            else:
                del self._turns[turn]

    def _count(self, call: WaitingCall, sign: int) -> None:
        self._n_calls += sign
        self._n_rows += sign * call.n_rows
        self._n_bytes += sign * call.n_bytes
