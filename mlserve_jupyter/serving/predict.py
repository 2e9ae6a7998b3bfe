"""The walk of a prediction, top to bottom."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.api.decode import InputDecoder
from mlserve_jupyter.api.packed import SealedBatch, sealed
from mlserve_jupyter.errors import (
    ArtifactCorrupt,
    InputRejected,
    InvalidRequest,
    MLServeError,
    ModelFailed,
    NotFound,
    WorkerOutOfMemory,
)
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.serving.call_queue import Answer
from mlserve_jupyter.serving.decoders import (
    DecoderPool,
    is_decoded_elsewhere,
    is_read_at_speed,
)
from mlserve_jupyter.serving.decoding import is_json
from mlserve_jupyter.serving.live_catalog import LiveCatalog
from mlserve_jupyter.serving.logged_input import inputs_as_json
from mlserve_jupyter.serving.protocol import Batch, ModelRef
from mlserve_jupyter.serving.replies import WorkerError
from mlserve_jupyter.serving.result_cache import Question, ResultCache
from mlserve_jupyter.serving.runtimes.compiled_runtime import CompiledRuntime
from mlserve_jupyter.serving.trust import check_may_run
from mlserve_jupyter.serving.workers import WorkerPool
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.users import User

if TYPE_CHECKING:
    from mlserve_jupyter.analytics.prediction_log import PredictionLog

CHECK_INLINE_BYTES = 256 * 1024
"""Larger answers are checked in another process, so that the event loop goes on serving others."""

MAX_COMPILED_ROWS = 4096
"""More rows are answered by the model itself: in its worker, large answers hold up nobody."""

MAX_DECODERS = 512


class PredictRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call.

    Attributes
    ----------
    user
        The platform user whose names ``model`` is looked up among.
    principal
        The caller as the log shows it.
    version, method
        None for the defaults.
    note_version
        Told which version answers, as soon as it is known.
    """

    request_id: str
    principal: str
    user: User
    model: str
    version: int | None
    method: str | None
    body: bytes
    content_type: str
    note_version: Callable[[int], None] = lambda _: None


class _Head(msgspec.Struct, frozen=True):
    """The answer's members beside the predictions."""

    model: str
    version: int
    request_id: str
    cached: bool


class _HeadWithColumns(_Head, frozen=True):
    columns: list[str]


class _Record:
    """What the log will say of a call, as far as it is known."""

    def __init__(
        self,
        version: ServedVersion,
        request: PredictRequest,
        started: float,
        max_value_bytes: int,
    ) -> None:
        self.max_value_bytes = max_value_bytes
        self.version = version
        self.request = request
        self.started = started
        self.created_at = datetime.now(timezone.utc)
        self.method = request.method or version.method
        self.status = "ok"
        self.error: str | None = None
        self.cached = False
        self.n_rows = 0
        self.queue_ms = self.load_ms = self.predict_ms = 0.0
        self.outputs: bytes | None = None

    def note_answer(self, answer: Answer) -> None:
        """Take over where the answer came from and what it took."""
        self.cached = answer.cached
        self.queue_ms = answer.queue_ms
        self.load_ms = answer.reply.load_ms
        self.predict_ms = answer.reply.predict_ms

    def fail(self, error: MLServeError) -> None:
        """Take note of a failure; what the model raised goes to the log in full."""
        self.status = error.code
        self.error = error.traceback_text or error.message

    def finished(self) -> PredictionRecord:
        """Return the row of the log."""
        return PredictionRecord(
            model_id=self.version.model_id,
            version_id=self.version.id,
            created_at=self.created_at,
            request_id=self.request.request_id,
            principal=self.request.principal,
            method=self.method,
            status=self.status,
            cached=self.cached,
            n_rows=self.n_rows,
            queue_ms=self.queue_ms,
            load_ms=self.load_ms,
            predict_ms=self.predict_ms,
            total_ms=(time.perf_counter() - self.started) * 1e3,
            inputs=inputs_as_json(
                self.request.body,
                self.request.content_type,
                self.status,
                self.max_value_bytes,
            ),
            outputs=self.outputs,
            error=self.error,
        )


class Predictor:
    """Answers calls.

    Parameters
    ----------
    catalog, workers, log, settings
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
        results: ResultCache | None = None,
    ) -> None:
        self._catalog = catalog
        self._workers = workers
        self._log = log
        self._settings = settings
        self._results = results
        self._compiled = CompiledRuntime(settings)
        self._decoder_pool = DecoderPool(settings)
        self._decoders: OrderedDict[str, InputDecoder] = OrderedDict()

    def apply(self, settings: Settings) -> None:
        """Go on with other deadlines."""
        self._settings = settings
        self._compiled.apply(settings)
        self._decoder_pool.apply(settings)

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

    def start(self, request: PredictRequest) -> bytes | Coroutine[Any, Any, bytes]:
        """Answer a call as :meth:`predict` does, at once where nothing has to be waited for.

        Returns
        -------
        bytes or coroutine
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
    ) -> bytes | Coroutine[Any, Any, bytes]:
        request.note_version(version.version)
        record = _Record(version, request, started, self._settings.log_max_value_bytes)
        try:
            check_may_run(version, self._catalog.current, self._settings)
            record.method = _method_of(version, request.method)
            if is_decoded_elsewhere(request.body, request.content_type):
                return self._predict_in_time(record, None, None)
            batch = self._decoder(version).decode(request.body, request.content_type)
            record.n_rows = batch.n_rows
            question = None
            if self._results is not None:
                question = self._results.ask(version, record.method, batch, len(request.body))
            answer = self._answer_at_once(version, record.method, batch, question)
            if answer is not None:
                record.note_answer(answer)
                record.outputs = answer.body
                if answer.cached:
                    checked_json(answer.body, version_name(version))
        except MLServeError as error:
            record.fail(error)
            self._log.append(record.finished())
            raise
        if answer is None:
            return self._predict_in_time(record, batch, question)
        self._log.append(record.finished())
        return _splice(record, answer.columns)

    def _answer_at_once(
        self, version: ServedVersion, method: str, batch: Batch, question: Question | None
    ) -> Answer | None:
        """Return what this process's memory or a small graph answers; None for all else."""
        if question is not None and question.answer is not None:
            return question.answer
        if version.runtime != "onnx" or not (question is None or question.is_bypassed):
            return None
        answer = self._compiled.call_at_once(version, method, batch)
        if answer is not None and question is not None:
            question.note_computed(answer.reply.predict_ms / 1e3)
        return answer

    async def _predict_in_time(
        self, record: _Record, batch: Batch | None, question: Question | None
    ) -> bytes:
        version, request = record.version, record.request
        n_bytes = len(request.body)
        try:
            if batch is None:
                batch = await self._decode(version, request)
                record.n_rows, n_bytes = batch.n_rows, len(batch.payload)
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
            self._log.append(record.finished())
        return _splice(record, answer.columns)

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
        return await self._workers.environment(version.interpreter).call(
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
        return (await environment.load(model_ref(version))).error

    async def _decode(self, version: ServedVersion, request: PredictRequest) -> SealedBatch:
        if is_read_at_speed(request.body, request.content_type):
            batch = self._decoder(version).decode_at_speed(request.body)
            if batch is not None:
                return sealed(batch)
        return await self._decoder_pool.decode(version, request.body, request.content_type)

    async def _checked(self, body: bytes, version: ServedVersion) -> bytes:
        """Return an answer as :func:`checked_json` does, however large it is."""
        if len(body) <= CHECK_INLINE_BYTES:
            return checked_json(body, version_name(version))
        if not await self._decoder_pool.is_json(body):
            raise _not_json(version_name(version))
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


def checked_json(body: bytes, name: str) -> bytes:
    """Return a worker's body if it is JSON: what a model wrote is not trusted to be.

    Raises
    ------
    ModelFailed
        If it is not.
    """
    if not is_json(body):
        raise _not_json(name)
    return body


def _not_json(name: str) -> ModelFailed:
    return ModelFailed(f"The answer of {name} is not JSON.")


def raise_worker_error(error: WorkerError, name: str, *, is_owner: bool) -> NoReturn:
    """Raise what a worker reported, in the words of the error tree.

    Parameters
    ----------
    name
        The version in words, such as ``clf version 3``.
    is_owner
        Whether the caller may read what the model raised; others read that it did.
    """
    shown = f"{error.type}: {error.message}" if is_owner else "an error that its owner can see"
    raised: MLServeError
    match error.kind:
        case "memory":
            raised = WorkerOutOfMemory(
                f"{name} asked for more memory than worker_memory_bytes allows. Send fewer rows "
                "at once."
            )
        case "corrupt":
            raised = ArtifactCorrupt(
                f"The artifact of {name} on disk is not the one that was deployed. Deploy it again."
            )
        case "rejected" | "input":
            raised = InputRejected(f"{name} refused this input: {shown}")
        case "missing_module" | "load":
            raised = ModelFailed(f"{name} cannot be loaded: {shown}")
        case "output":
            raised = ModelFailed(f"The answer of {name} has no JSON form: {shown}")
        case _:
            raised = ModelFailed(f"{name} failed on this input: {shown}")
    raised.traceback_text = error.traceback
    raise raised


def version_name(version: ServedVersion) -> str:
    """Return a version in words."""
    return f"{version.model} version {version.version}"


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


def _splice(record: _Record, columns: list[str] | None) -> bytes:
    """Put the answer together around the predictions, which stay as the worker wrote them."""
    version, outputs = record.version, record.outputs
    assert outputs is not None
    head: _Head
    if columns is None:
        head = _Head(version.model, version.version, record.request.request_id, record.cached)
    else:
        head = _HeadWithColumns(
            version.model, version.version, record.request.request_id, record.cached, columns
        )
    return b'{"predictions":' + outputs + b"," + msgspec.json.encode(head)[1:]
