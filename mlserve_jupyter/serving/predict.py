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
from mlserve_jupyter.api.signature import InputBatch
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
from mlserve_jupyter.serving.live_catalog import LiveCatalog
from mlserve_jupyter.serving.protocol import ModelRef
from mlserve_jupyter.serving.replies import WorkerError
from mlserve_jupyter.serving.result_cache import Question, ResultCache
from mlserve_jupyter.serving.runtimes.compiled_runtime import CompiledRuntime
from mlserve_jupyter.serving.workers import WorkerPool
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.users import User

if TYPE_CHECKING:
    from mlserve_jupyter.analytics.prediction_log import PredictionLog

DECODE_INLINE_BYTES = 64 * 1024
"""Larger bodies are decoded in a thread, so that the event loop goes on serving others."""

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

    def __init__(self, version: ServedVersion, request: PredictRequest, started: float) -> None:
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
            inputs=_inputs_as_json(self.request, self.status),
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
        self._decoders: OrderedDict[str, InputDecoder] = OrderedDict()

    def apply(self, settings: Settings) -> None:
        """Go on with other deadlines."""
        self._settings = settings
        self._compiled.apply(settings)

    async def aclose(self) -> None:
        """End what computes here."""
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
        record = _Record(version, request, started)
        try:
            record.method = _method_of(version, request.method)
            if len(request.body) > DECODE_INLINE_BYTES:
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
        self, version: ServedVersion, method: str, batch: InputBatch, question: Question | None
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
        self, record: _Record, batch: InputBatch | None, question: Question | None
    ) -> bytes:
        version, request = record.version, record.request
        n_bytes = len(request.body)
        try:
            if batch is None:
                batch = await self._decode(version, request)
                record.n_rows = batch.n_rows
            answer = await self._answer(version, record.method, batch, n_bytes, question)
            record.note_answer(answer)
            if answer.error is not None:
                is_owner = version.is_managed_by(request.user)
                raise_worker_error(answer.error, version_name(version), is_owner=is_owner)
            record.outputs = checked_json(answer.body, version_name(version))
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
        batch: InputBatch,
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

    async def call(
        self, version: ServedVersion, method: str, batch: InputBatch, n_bytes: int
    ) -> Answer:
        """Run a method of a version on checked input: its graph here, or the worker's model."""
        if version.runtime == "onnx":
            answer = await self._compiled.call(version, method, batch)
            if answer is not None:
                return answer
        return await self._workers.environment(version.interpreter).call(
            model_ref(version),
            method,
            batch,
            self._settings.predict_timeout_s,
            may_join=method in version.verification.row_by_row,
            n_bytes=n_bytes,
        )

    async def load(self, version: ServedVersion) -> WorkerError | None:
        """Load a version ahead of its calls; return why it cannot be, or raise as a call does."""
        if version.runtime == "onnx" and await self._compiled.load(version):
            return None
        environment = self._workers.environment(version.interpreter)
        if self._settings.allow_pickle:  # importing what a deploy has named runs code, too
            await environment.warm(version.environment.modules)
        return (await environment.load(model_ref(version))).error

    async def _decode(self, version: ServedVersion, request: PredictRequest) -> InputBatch:
        decoder = self._decoder(version)
        return await asyncio.to_thread(decoder.decode, request.body, request.content_type)

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
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
        body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ModelFailed(f"The answer of {name} is not JSON.") from None
    return body


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


def _inputs_as_json(request: PredictRequest, status: str) -> bytes | None:
    """Return the body for the log: JSON as it came, other text as a JSON string."""
    if request.content_type.partition(";")[0].strip().lower() not in ("", "application/json"):
        return msgspec.json.encode(request.body.decode("utf-8", "replace"))
    if status == "ok":
        return request.body
    try:
        # Readers of the log decode it whole, so what they could not read is left out.
        msgspec.json.decode(request.body)
        return request.body.decode().encode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


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
