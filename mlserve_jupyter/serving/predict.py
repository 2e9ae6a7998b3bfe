"""The walk of a prediction, top to bottom."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from mlserve_jupyter.api.decode import InputDecoder
from mlserve_jupyter.api.packed import SealedBatch, is_packed, sealed
from mlserve_jupyter.api.signature import InputBatch
from mlserve_jupyter.errors import InvalidRequest, MLServeError, NotFound, TooLarge
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.serving.call_queue import Answer
from mlserve_jupyter.serving.call_record import CallRecord, PredictRequest
from mlserve_jupyter.serving.decoders import (
    DecoderPool,
    is_decoded_elsewhere,
    is_read_at_speed,
)
from mlserve_jupyter.serving.live_catalog import LiveCatalog
from mlserve_jupyter.serving.local_copies import LocalCopies
from mlserve_jupyter.serving.protocol import Batch, ModelRef
from mlserve_jupyter.serving.replies import WorkerError
from mlserve_jupyter.serving.result_cache import Question, ResultCache
from mlserve_jupyter.serving.runtimes.compiled_runtime import CompiledRuntime
from mlserve_jupyter.serving.slow_calls import SlowCalls
from mlserve_jupyter.serving.trust import check_may_run
from mlserve_jupyter.serving.worker_errors import (
    checked_json,
    not_json,
    raise_worker_error,
    version_name,
)
from mlserve_jupyter.serving.workers import Environment, WorkerPool
from mlserve_jupyter.settings import Settings

if TYPE_CHECKING:
    from mlserve_jupyter.analytics.prediction_log import PredictionLog

CHECK_INLINE_BYTES = 256 * 1024
"""Larger answers are checked in another process, so that the event loop goes on serving others."""

MAX_COMPILED_ROWS = 4096
"""More rows are answered by the model itself: in its worker, large answers hold up nobody."""

MAX_DECODERS = 512


class Predictor:
    """Answers calls.

    Parameters
    ----------
    catalog, workers, log, settings, copies
        The rooms that a call walks through.
    results
        The result cache, where one is used.
    """

    def __init__(
        self,
        catalog: LiveCatalog,
        workers: WorkerPool,
        log: PredictionLog,
        settings: Settings,
        copies: LocalCopies,
        results: ResultCache | None = None,
    ) -> None:
        self._catalog = catalog
        self._copies = copies
        self._workers = workers
        self._log = log
        self._settings = settings
        self._results = results
        self._compiled = CompiledRuntime(settings, copies)
        self._decoder_pool = DecoderPool(settings)
        self._decoders: OrderedDict[str, InputDecoder] = OrderedDict()
        self._slow = SlowCalls(settings.slow_request_s)

    def apply(self, settings: Settings) -> None:
        """Go on with other deadlines."""
        self._settings = settings
        self._compiled.apply(settings)
        self._copies.apply(settings)
        self._decoder_pool.apply(settings)
        self._slow.apply(settings.slow_request_s)

    @property
    def n_slow(self) -> int:
        """Calls that took longer than ``slow_request_s``."""
        return self._slow.n_slow

    @property
    def n_in_threads(self) -> int:
        """Calls that run in a thread of this process or wait for one."""
        return self._compiled.n_in_threads

    @property
    def loaded_bytes(self) -> int:
        """What the compiled graphs of this process take."""
        return self._compiled.loaded_bytes

    async def aclose(self) -> None:
        """End what computes here."""
        await self._decoder_pool.aclose()
        await self._compiled.aclose()

    async def predict(self, request: PredictRequest) -> bytes:
        """Answer a call with the JSON body of the answer.

        Raises
        ------
        MLServeError
            Of any kind; once a version was found, the log has it.
        """
        answer = self.start(request)
        return answer if isinstance(answer, bytes) else await answer

    def start(self, request: PredictRequest) -> bytes | Awaitable[bytes]:
        """Answer a call as :meth:`predict` does, at once where nothing has to be waited for.

        Returns
        -------
        bytes or awaitable
            The answer, or what gives it and must be awaited. What a task costs is more than what
            a small compiled model does.
        """
        started = time.perf_counter()
        try:
            version = self._catalog.current.resolve(request.user, request.model, request.version)
        except NotFound:
            return self._find_and_predict(request, started)
        return self._predict_with(version, request, started)

    async def _find_and_predict(self, request: PredictRequest, started: float) -> bytes:
        version = await self._catalog.find(
            lambda catalog: catalog.resolve(request.user, request.model, request.version)
        )
        answer = self._predict_with(version, request, started)
        return answer if isinstance(answer, bytes) else await answer

    def _predict_with(
        self, version: ServedVersion, request: PredictRequest, started: float
    ) -> bytes | Awaitable[bytes]:
        record = CallRecord(version, request, started, self._settings.log_max_value_bytes)
        request.note_call(record)
        try:
            check_may_run(version, self._catalog.current, self._settings)
            record.method = _method_of(version, request.method)
            if is_decoded_elsewhere(request.body, request.content_type):
                return self._predict_in_time(record, None, None)
            batch = self._decoder(version).decode(request.body, request.content_type)
            record.n_rows = batch.n_rows
            self._check_size(batch)
            question = None
            if self._results is not None:
                question = self._results.ask(version, record.method, batch, len(request.body))
            if self._may_compute_at_once(version, question) and self._compiled.is_crowded():
                together = self._answer_together(record, batch, question)
                if together is not None:
                    return together
            answer = self._answer_at_once(version, record.method, batch, question)
            if answer is not None:
                record.note_answer(answer)
                record.outputs = answer.body
                if answer.cached:
                    checked_json(answer.body, version_name(version))
        except MLServeError as error:
            record.fail(error)
            self._finish(record)
            raise
        if answer is None:
            return self._predict_in_time(record, batch, question)
        self._finish(record)
        return record.answer(answer.columns)

    def _answer_at_once(
        self, version: ServedVersion, method: str, batch: Batch, question: Question | None
    ) -> Answer | None:
        """Return what this process's memory or a small graph answers; None for all else."""
        if question is not None and question.answer is not None:
            return question.answer
        if not self._may_compute_at_once(version, question):
            return None
        answer = self._compiled.call_at_once(version, method, batch)
        if answer is not None and question is not None:
            question.note_computed(answer.reply.predict_ms / 1e3)
        return answer

    def _may_compute_at_once(self, version: ServedVersion, question: Question | None) -> bool:
        return version.runtime == "onnx" and (question is None or question.is_bypassed)

    def _answer_together(
        self, record: CallRecord, batch: Batch, question: Question | None
    ) -> asyncio.Future[bytes] | None:
        """Have a call answered with the others of this turn of the event loop, if it may be."""
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def settle(answer: Answer | None) -> None:
            if answered.cancelled():
                record.status = "cancelled"
                self._finish(record)
            elif answer is None:
                later = asyncio.ensure_future(self._predict_in_time(record, batch, question))
                _follow(later, answered)
            else:
                record.note_answer(answer)
                record.outputs = answer.body
                if question is not None:
                    question.note_computed(answer.reply.predict_ms / 1e3 / answer.n_calls)
                self._finish(record)
                answered.set_result(record.answer(answer.columns))

        is_taken = self._compiled.join(record.version, record.method, batch, settle)
        return answered if is_taken else None

    async def _predict_in_time(
        self, record: CallRecord, batch: Batch | None, question: Question | None
    ) -> bytes:
        version, request = record.version, record.request
        n_bytes = len(request.body)
        try:
            if batch is None:
                batch = await self._decode(version, request)
                record.n_rows = batch.n_rows
                if isinstance(batch, SealedBatch):
                    n_bytes = len(batch.payload)
                self._check_size(batch)
            answer = await self._answer(version, record.method, batch, n_bytes, question)
            record.note_answer(answer)
            if answer.error is not None:
                is_owner = version.is_managed_by(request.user)
                raise_worker_error(answer.error, version_name(version), is_owner=is_owner)
            record.outputs = await self._checked(answer.body, version)
        except MLServeError as error:
            record.fail(error)
            raise
        except asyncio.CancelledError:
            record.status = "cancelled"
            raise
        finally:
            self._finish(record)
        return record.answer(answer.columns)

    async def _answer(
        self,
        version: ServedVersion,
        method: str,
        batch: Batch,
        n_bytes: int,
        question: Question | None,
    ) -> Answer:
        if self._results is None:
            return await self.call(version, method, batch, n_bytes)
        if question is None:
            question = self._results.ask(version, method, batch, n_bytes)
        return await self._results.answer(
            question, batch, lambda: self.call(version, method, batch, n_bytes)
        )

    async def call(self, version: ServedVersion, method: str, batch: Batch, n_bytes: int) -> Answer:
        """Run a method of a version on checked input: its graph here, or the worker's model."""
        if version.runtime == "onnx" and batch.n_rows <= MAX_COMPILED_ROWS:
            answer = await self._compiled.call(version, method, batch)
            if answer is not None:
                return answer
        if version.runtime == "onnx" and isinstance(batch, InputBatch) and is_packed(batch):
            batch = sealed(batch)
        environment = self._workers.environment(version.interpreter)
        if not environment.has_loaded(version.id):
            await self._copies.ensure(version)
        answer = await self._call_worker(environment, version, method, batch, n_bytes)
        if answer.error is not None and await self._copies.restore(version, answer.error):
            return await self._call_worker(environment, version, method, batch, n_bytes)
        return answer

    async def _call_worker(
        self,
        environment: Environment,
        version: ServedVersion,
        method: str,
        batch: Batch,
        n_bytes: int,
    ) -> Answer:
        return await environment.call(
            model_ref(version),
            method,
            batch,
            self._settings.predict_timeout_s,
            may_join=method in version.verification.row_by_row
            and not isinstance(batch, SealedBatch),
            n_bytes=n_bytes,
        )

    async def load(self, version: ServedVersion) -> WorkerError | None:
        """Load a version ahead of its calls; return why it cannot be, or raise as a call does."""
        check_may_run(version, self._catalog.current, self._settings)
        if version.runtime == "onnx" and await self._compiled.load(version):
            return None
        environment = self._workers.environment(version.interpreter)
        if self._settings.allow_pickle:  # importing what a deploy has named runs code, too
            await environment.warm(version.environment.modules)
        await self._copies.ensure(version)
        answer = await environment.load(model_ref(version))
        if answer.error is not None and await self._copies.restore(version, answer.error):
            answer = await environment.load(model_ref(version))
        if self._settings.allow_pickle:
            # The workers after this one find what it imported.
            await environment.warm(answer.reply.modules)
        return answer.error

    def _finish(self, record: CallRecord) -> None:
        """Hand a call that has ended to the log."""
        row = record.finished()
        self._log.append(row)
        self._slow.note(record.version, row)

    def _check_size(self, batch: Batch) -> None:
        """Refuse what compression has let in: few bytes may hold very many rows."""
        limit = self._settings.max_queue_rows
        if batch.n_rows > limit:
            raise TooLarge(
                f"The body has {batch.n_rows} rows, and a call may have {limit}. Send fewer at "
                "once, or raise max_queue_rows.",
                limit=limit,
            )

    async def _decode(self, version: ServedVersion, request: PredictRequest) -> Batch:
        """Decode a body; what a graph in this process will read is not sealed on the way."""
        if is_read_at_speed(request.body, request.content_type):
            batch = self._decoder(version).decode_at_speed(request.body, request.content_type)
            if batch is not None:
                return batch if version.runtime == "onnx" else sealed(batch)
        return await self._decoder_pool.decode(version, request.body, request.content_type)

    async def _checked(self, body: bytes, version: ServedVersion) -> bytes:
        """Return an answer as :func:`checked_json` does, however large it is."""
        if len(body) <= CHECK_INLINE_BYTES:
            return checked_json(body, version_name(version))
        if not await self._decoder_pool.is_json(body):
            raise not_json(version_name(version))
        return body

    def _decoder(self, version: ServedVersion) -> InputDecoder:
        decoder = self._decoders.get(version.id)
        if decoder is None:
            decoder = InputDecoder(version.signature.inputs, version.extra_columns)
            self._decoders[version.id] = decoder
            if len(self._decoders) > MAX_DECODERS:
                self._decoders.popitem(last=False)
        return decoder


def model_ref(version: ServedVersion) -> ModelRef:
    """Return what a worker needs to know of a version."""
    return ModelRef(
        key=version.id,
        path=str(version.path),
        format=version.format,
        sha256=version.sha256,
        size_bytes=version.size_bytes,
        inputs=version.signature.inputs,
    )


def _method_of(version: ServedVersion, wanted: str | None) -> str:
    if wanted is None:
        return version.method
    if wanted not in version.methods:
        raise InvalidRequest(
            f"{version_name(version)} has no method {wanted[:80]!r} that can be called. "
            f"It has: {', '.join(version.methods)}.",
            methods=list(version.methods),
        )
    return wanted


def _follow(source: asyncio.Future[bytes], target: asyncio.Future[bytes]) -> None:
    """Give a future what another one gets, and give that one up where nobody waits any more."""

    def hand_on(done: asyncio.Future[bytes]) -> None:
        error = None if done.cancelled() else done.exception()
        if target.done():
            return
        if done.cancelled():
            target.cancel()
        elif error is not None:
            target.set_exception(error)
        else:
            target.set_result(done.result())

    source.add_done_callback(hand_on)
    target.add_done_callback(lambda done: source.cancel() if done.cancelled() else None)
