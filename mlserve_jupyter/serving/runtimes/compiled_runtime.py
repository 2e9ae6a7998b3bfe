"""Answers calls from compiled graphs in the server's process, as far as they may."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlserve_jupyter.api.packed import SealedBatch
from mlserve_jupyter.api.signature import InputBatch
from mlserve_jupyter.errors import (
    DeadlineExceeded,
    Overloaded,
    StorageFull,
    StorageUnavailable,
)
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.serving.call_queue import Answer
from mlserve_jupyter.serving.local_copies import LocalCopies
from mlserve_jupyter.serving.protocol import Batch
from mlserve_jupyter.serving.replies import Reply
from mlserve_jupyter.serving.runtimes.gathering import Gathering, Settle, merged
from mlserve_jupyter.serving.runtimes.graph_check import GraphRefused, check_graph
from mlserve_jupyter.serving.runtimes.session import CompiledModel, missing_libraries, versions
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.blobs import GRAPH_NAME

log = logging.getLogger(__name__)

INLINE_MS = 0.3
"""A call that was measured to cost less runs on the event loop, a longer one in a thread."""

SLOW_TO_OPEN_BYTES = 16 * 2**20
"""A graph of so many bytes takes a second to open, and its model a fraction of that to load."""

N_THREADS = 2

MEASURE_EVERY = 16
"""Of the calls on the event loop, one in so many is measured."""

_WEIGHT = 0.2


class CompiledRuntime:
    """The open graphs, least recently used out, bounded by bytes.

    Parameters
    ----------
    settings
        ``max_loaded_bytes`` bounds what the graphs take, ``max_queue_requests`` what waits for a
        thread, ``predict_timeout_s`` how long.
    copies
        Bring graphs to this machine.
    """

    def __init__(self, settings: Settings, copies: LocalCopies) -> None:
        self._settings = settings
        self._copies = copies
        self._open: OrderedDict[str, OpenGraph] = OrderedDict()
        self._opening: dict[str, asyncio.Future[OpenGraph | None]] = {}
        self._unusable: set[str] = set()
        self._gathering = Gathering()
        self._threads = ThreadPoolExecutor(N_THREADS, thread_name_prefix="mlserve-onnx")
        self._n_in_threads = 0

    def apply(self, settings: Settings) -> None:
        """Go on with other limits and deadlines."""
        self._settings = settings

    @property
    def n_in_threads(self) -> int:
        """Calls that run in a thread or wait for one."""
        return self._n_in_threads

    @property
    def loaded_bytes(self) -> int:
        """What the open graphs take."""
        return sum(graph.n_bytes for graph in self._open.values())

    def is_crowded(self) -> bool:
        """Take note of a call; whether calls arrive together, so that :meth:`join` pays."""
        return self._gathering.is_crowded()

    def join(self, version: ServedVersion, method: str, batch: Batch, settle: Settle) -> bool:
        """Have a call answered with the others of this turn of the event loop.

        Parameters
        ----------
        settle
            Called with the answer, or with None where the model itself must give it.

        Returns
        -------
        bool
            False where it must be answered alone, and ``settle`` is not called.
        """
        graph = self._open.get(version.id)
        if (
            graph is None
            or isinstance(batch, SealedBatch)
            or not graph.may_join(method)
            or graph.expected_ms(method, batch.n_rows) >= INLINE_MS
        ):
            return False
        self._open.move_to_end(version.id)
        self._gathering.add(graph, method, batch, settle)
        return True

    def call_at_once(self, version: ServedVersion, method: str, batch: Batch) -> Answer | None:
        """Answer a call of an open graph that costs next to nothing; None for :meth:`call`."""
        graph = self._open.get(version.id)
        if graph is None or graph.expected_ms(method, batch.n_rows) >= INLINE_MS:
            return None
        self._open.move_to_end(version.id)
        body, predict_ms = graph.answer_at_once(method, batch)
        return None if body is None else _answer(body, predict_ms, queue_ms=0.0)

    async def call(self, version: ServedVersion, method: str, batch: Batch) -> Answer | None:
        """Answer a call; None where the model itself must, as while a large graph is opened.

        Raises
        ------
        Overloaded
            If too much waits for a thread.
        DeadlineExceeded
            If it takes longer than ``predict_timeout_s``.
        """
        compiled = version.verification.compiled
        if compiled is None or method not in compiled.methods or version.id in self._unusable:
            return None
        graph = self._open.get(version.id)
        if graph is None:
            opening = self._start_opening(version)
            if compiled.size_bytes >= SLOW_TO_OPEN_BYTES:
                return None
            graph = await _opened(opening)
            if graph is None:
                return None
        if version.id in self._open:  # one that was opened just now may not be kept yet
            self._open.move_to_end(version.id)
        started = time.perf_counter()
        if graph.expected_ms(method, batch.n_rows) < INLINE_MS:
            body, cost_ms = graph.timed_answer(method, batch)
        else:
            body, cost_ms = await self._in_thread(graph, method, batch)
        graph.note(method, batch.n_rows, cost_ms)
        queue_ms = max((time.perf_counter() - started) * 1e3 - cost_ms, 0.0)
        return None if body is None else _answer(body, cost_ms, queue_ms)

    async def load(self, version: ServedVersion) -> bool:
        """Open a version's graph ahead of its calls; return whether its method is in one."""
        compiled = version.verification.compiled
        if compiled is None or version.method not in compiled.methods:
            return False
        if version.id in self._open or version.id in self._unusable:
            return version.id in self._open
        return await _opened(self._start_opening(version)) is not None

    async def aclose(self) -> None:
        """End the threads."""
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)

    def _start_opening(self, version: ServedVersion) -> asyncio.Future[OpenGraph | None]:
        """Open a graph once however many calls wait for it."""
        opening = self._opening.get(version.id)
        if opening is None:
            opening = asyncio.ensure_future(self._open_copy(version))
            self._opening[version.id] = opening
            opening.add_done_callback(lambda done: self._keep(version.id, done))
        return opening

    async def _open_copy(self, version: ServedVersion) -> OpenGraph | None:
        await self._copies.ensure_graph(version)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, open_graph, version)

    def _keep(self, key: str, opened: asyncio.Future[OpenGraph | None]) -> None:
        del self._opening[key]
        if opened.cancelled():
            return
        if isinstance(opened.exception(), StorageUnavailable | StorageFull):
            return
        graph = None if opened.exception() else opened.result()
        if graph is None:
            self._unusable.add(key)
            return
        self._open[key] = graph
        while sum(g.n_bytes for g in self._open.values()) > self._settings.max_loaded_bytes:
            if len(self._open) == 1:
                break
            self._open.popitem(last=False)

    async def _in_thread(
        self, graph: OpenGraph, method: str, batch: Batch
    ) -> tuple[bytes | None, float]:
        if self._n_in_threads >= self._settings.max_queue_requests:
            raise Overloaded(
                f"{self._n_in_threads} calls of compiled models wait already. Try again in a "
                "moment."
            )
        self._n_in_threads += 1
        running = asyncio.get_running_loop().run_in_executor(
            self._threads, graph.timed_answer, method, batch
        )
        running.add_done_callback(self._done)
        timeout_s = self._settings.predict_timeout_s
        try:
            return await asyncio.wait_for(running, timeout_s)
        except asyncio.TimeoutError:
            raise DeadlineExceeded(
                f"The model did not answer within {timeout_s:g} s. Send fewer rows at once, or "
                "raise predict_timeout_s.",
                timeout_s=timeout_s,
            ) from None

    def _done(self, running: asyncio.Future[tuple[bytes | None, float]]) -> None:
        self._n_in_threads -= 1
        if not running.cancelled():
            running.exception()


class OpenGraph:
    """A compiled model and what its calls were measured to cost.

    Attributes
    ----------
    n_bytes
        About what it takes in memory.
    """

    def __init__(self, model: CompiledModel) -> None:
        self.n_bytes = model.n_bytes
        self._model = model
        self._cost_ms: dict[tuple[str, int], float] = {}
        self._n_calls = 0

    def answer(self, method: str, batch: Batch) -> bytes | None:
        """Return the JSON of ``predictions``; None where the model itself must answer."""
        opened = batch.opened() if isinstance(batch, SealedBatch) else batch
        table = self._model.table(opened)
        return None if table is None else self._model.answer(method, table)

    def may_join(self, method: str) -> bool:
        """Whether a row is answered the same bit for bit in whatever company."""
        return self._model.is_exact(method)

    def answers(self, method: str, batches: Sequence[InputBatch]) -> list[bytes | None]:
        """Return what :meth:`answer` does for each of the batches, from one run where possible."""
        together = merged(batches) if len(batches) > 1 else None
        table = None if together is None else self._model.table(together)
        if table is None:
            return [self.answer(method, batch) for batch in batches]
        return self._model.answers(method, table, [batch.n_rows for batch in batches])

    def answer_at_once(self, method: str, batch: Batch) -> tuple[bytes | None, float]:
        """Return the answer and the milliseconds that it took; one call in some is measured.

        Asking for the processor's time takes as long as half of a small graph's answer.
        """
        self._n_calls += 1
        if self._n_calls % MEASURE_EVERY == 0:
            body, cost_ms = self.timed_answer(method, batch)
            self.note(method, batch.n_rows, cost_ms)
            return body, cost_ms
        started = time.perf_counter()
        body = self.answer(method, batch)
        return body, (time.perf_counter() - started) * 1e3

    def timed_answer(self, method: str, batch: Batch) -> tuple[bytes | None, float]:
        """Return the answer and the milliseconds of processor time that it took.

        The clock on the wall would count what other threads do meanwhile: under load no call would
        look cheap enough for the event loop any more.
        """
        started = time.thread_time()
        body = self.answer(method, batch)
        return body, (time.thread_time() - started) * 1e3

    def expected_ms(self, method: str, n_rows: int) -> float:
        """Return what a call of so many rows will cost, by those that were about as large."""
        size = n_rows.bit_length()
        known = self._cost_ms.get((method, size))
        if known is not None:
            return known
        # One row was measured when the graph was opened; more may cost as much more.
        return self._cost_ms.get((method, 1), INLINE_MS) * n_rows

    def note(self, method: str, n_rows: int, took_ms: float) -> None:
        """Take a measurement into account."""
        key = method, n_rows.bit_length()
        before = self._cost_ms.get(key, took_ms)
        self._cost_ms[key] = before + _WEIGHT * (took_ms - before)


async def _opened(opening: asyncio.Future[OpenGraph | None]) -> OpenGraph | None:
    try:
        return await asyncio.shield(opening)
    except (StorageUnavailable, StorageFull):
        return None  # the model itself can answer, and the next call asks for the graph again


def _answer(body: bytes, predict_ms: float, queue_ms: float) -> Answer:
    return Answer(
        reply=Reply(predict_ms=predict_ms),
        body=body,
        columns=None,
        error=None,
        queue_ms=queue_ms,
        n_calls=1,
    )


def open_graph(version: ServedVersion) -> OpenGraph | None:
    """Read, check and open a version's graph; None where it cannot be, which is logged.

    Runs in a thread: it reads a file, and may import numpy and ONNX Runtime.
    """
    compiled = version.verification.compiled
    assert compiled is not None
    missing = missing_libraries()
    if missing:
        log.warning(
            "%s version %s runs natively, since %s cannot be imported beside the server: run "
            "`pip install 'mlserve_jupyter[onnx]'`.",
            version.model, version.version, " and ".join(missing),
        )  # fmt: skip
        return None
    n_features = version.signature.inputs.shape[1] or 0
    try:
        if versions() != compiled.made_with:
            raise GraphRefused(
                f"it was verified with {compiled.made_with}, and {versions()} is installed now"
            )
        content = _checked_content(version.path.with_name(GRAPH_NAME), compiled.sha256)
        check_graph(content, n_features)
        graph = OpenGraph(CompiledModel(content, compiled, version.signature.inputs))
        _measure(graph, version, n_features)
    except Exception as error:
        # ONNX Runtime raises exceptions of its own; whatever it is, the model itself can answer.
        log.warning(
            "%s version %s runs natively, since its graph cannot be opened: %s",
            version.model, version.version, error,
        )  # fmt: skip
        return None
    return graph


def _checked_content(path: Path, sha256: str) -> bytes:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise GraphRefused(f"the bytes of {path.name} are not those that were verified")
    return content


def _measure(graph: OpenGraph, version: ServedVersion, n_features: int) -> None:
    """Find out what one row costs; the first call of each method also pays what comes once."""
    compiled = version.verification.compiled
    assert compiled is not None
    row = [[0.0] * n_features]
    columns = [[0.0] for _ in range(n_features)]
    is_frame = version.signature.inputs.container == "dataframe"
    batch = InputBatch(1, columns=columns) if is_frame else InputBatch(1, rows=row)
    for method in compiled.methods:
        graph.answer(method, batch)
        costs = [graph.timed_answer(method, batch)[1] for _ in range(5)]
        graph.note(method, 1, sorted(costs)[2])
