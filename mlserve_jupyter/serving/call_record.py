"""One call: what was asked, what the log will say of it, and the answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone

import msgspec

from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.errors import MLServeError
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.serving.call_queue import Answer
from mlserve_jupyter.serving.logged_input import inputs_as_json
from mlserve_jupyter.storage.users import User


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
    note_call
        Given what the log will say, as soon as it is known which version answers.
    """

    request_id: str
    principal: str
    user: User
    model: str
    version: int | None
    method: str | None
    body: bytes
    content_type: str
    note_call: Callable[[CallRecord], None] = lambda _: None


class _Head(msgspec.Struct, frozen=True):
    """The answer's members beside the predictions."""

    model: str
    version: int
    request_id: str
    cached: bool


class _HeadWithColumns(_Head, frozen=True):
    columns: list[str]


class CallRecord:
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
            logged_as=self.version.logged_as,
        )

    def answer(self, columns: list[str] | None) -> bytes:
        """Put the answer together around the predictions, which stay as the worker wrote them."""
        version, request_id = self.version, self.request.request_id
        assert self.outputs is not None
        head: _Head
        if columns is None:
            head = _Head(version.model, version.version, request_id, self.cached)
        else:
            head = _HeadWithColumns(
                version.model, version.version, request_id, self.cached, columns
            )
        return b'{"predictions":' + self.outputs + b"," + msgspec.json.encode(head)[1:]
