"""The process that runs models: one message in, one answer out, one thing at a time.

This is the only room in which an artifact is ever loaded. It runs under the interpreter of the
kernel that deployed the model, so it imports the standard library, numpy and ``artifacts`` only.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlserve_jupyter.api.packed import SealedBatch
from mlserve_jupyter.api.signature import InputBatch, InputSpec
from mlserve_jupyter.artifacts.inputs import build_input, concat_batches
from mlserve_jupyter.artifacts.loading import MissingModule, load, sha256_of
from mlserve_jupyter.artifacts.outputs import encode_output, split_output
from mlserve_jupyter.serving.compiling import compile_for_server
from mlserve_jupyter.serving.independence import answers_row_by_row
from mlserve_jupyter.serving.model_cache import ModelCache
from mlserve_jupyter.serving.protocol import (
    Batch,
    Call,
    Compare,
    Compile,
    Forget,
    ListModules,
    Load,
    ModelRef,
    Open,
    Rename,
    WorkerLimits,
    receive_message,
    send_reply,
)

MAX_TRACEBACK_CHARS = 8000


def main(sock: socket.socket, limits: WorkerLimits) -> None:
    """Answer the server on ``sock`` until it is gone."""
    Worker(sock, limits).run()


class Worker:
    """The state of a worker: the models that it was told of, and those that it has loaded."""

    def __init__(self, sock: socket.socket, limits: WorkerLimits) -> None:
        self._sock = sock
        self._pid = os.getpid()
        self._max_answer_bytes = limits.max_answer_bytes
        self._number = 0
        self._models: dict[str, ModelRef] = {}
        self._cache = ModelCache(
            load_checked,
            max_bytes=limits.max_loaded_bytes,
            max_models=limits.max_loaded_models,
        )
        self._modules_at_start = frozenset(sys.modules)

    def run(self) -> None:
        """Answer messages until the server is gone."""
        while (received := receive_message(self._sock)) is not None:
            self._number, message = received
            match message:
                case Open(model):
                    self._models[model.key] = model
                case Forget(key):
                    self._models.pop(key, None)
                    self._cache.forget(key)
                case Rename(key, model):
                    self._models.pop(key, None)
                    self._models[model.key] = model
                    self._cache.rename(key, model.key)
                case ListModules():
                    self._reply({"modules": self._new_modules()})
                case _:
                    self._answer(message)

    def _answer(self, message: Load | Call | Compare | Compile) -> None:
        """Do what ``message`` asks; whatever a person's model raises becomes an answer."""
        header: dict[str, Any] = {}
        body = b""
        try:
            started = time.perf_counter()
            loaded, is_new = self._cache.get(self._models[message.key])
            header["load_ms"] = _elapsed_ms(started) if is_new else 0.0
            header["is_new"] = is_new
            if isinstance(message, Load):
                _check_methods(loaded.model, message.methods)
                if is_new:
                    header["modules"] = self._new_modules()
            elif isinstance(message, Compile):
                inputs = self._models[message.key].inputs
                header["compiled"], body = compile_for_server(
                    loaded.model, message.methods, inputs, message.sample
                )
            else:
                call = (
                    Call(message.key, message.method, (message.batch,))
                    if isinstance(message, Compare)
                    else message
                )
                started = time.perf_counter()
                answers = self._bounded(self._call(loaded.model, call))
                header["predict_ms"] = _elapsed_ms(started)
                if isinstance(message, Compare):
                    header["row_by_row"] = answers[0].error is None and answers_row_by_row(
                        _method(loaded.model, message.method),
                        self._models[message.key].inputs,
                        message.batch,
                    )
                header["answers"] = [answer.header() for answer in answers]
                body = b"".join(answer.body for answer in answers)
        except BaseException as error:
            # An artifact may raise anything, SystemExit and KeyboardInterrupt among it.
            header["error"] = _describe_error("load", error)
        header["loaded"] = self._cache.sizes()
        self._reply(header, body)

    def _reply(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Answer the message at hand; a child that a model has forked may not."""
        if os.getpid() != self._pid:
            os._exit(0)
        send_reply(self._sock, {"number": self._number, **header}, body)

    def _call(self, model: Any, call: Call) -> list[_Answer]:
        """Answer all batches at once; if that fails, each alone, so that a bad one fails alone."""
        inputs = self._models[call.key].inputs
        method = _method(model, call.method)
        if len(call.batches) > 1:
            try:
                batches = [_opened(batch) for batch in call.batches]
                result = method(build_input(inputs, concat_batches(batches)))
                sizes = [batch.n_rows for batch in batches]
                return [_encoded(part) for part in split_output(result, sizes)]
            except Exception:
                # What went wrong shows again below, at the batch that it belongs to.
                pass
        return [_call_alone(method, inputs, batch) for batch in call.batches]

    def _bounded(self, answers: list[_Answer]) -> list[_Answer]:
        """Return answers, or errors in place of the large ones if they are too large to be sent."""
        if sum(len(answer.body) for answer in answers) <= self._max_answer_bytes:
            return answers
        limit = self._max_answer_bytes // len(answers)
        return [answer if len(answer.body) <= limit else _too_large(answer) for answer in answers]

    def _new_modules(self) -> list[str]:
        """Modules that a fresh interpreter could import as well, in order of their import."""
        return [
            name
            for name, module in list(sys.modules.items())
            if name not in self._modules_at_start
            and not name.startswith("mlserve_jupyter")
            and getattr(vars(module).get("__spec__"), "origin", None)
        ]


@dataclass(frozen=True)
class _Answer:
    body: bytes
    columns: list[str] | None = None
    error: dict[str, Any] | None = None

    def header(self) -> dict[str, Any]:
        """Return what the server reads of it."""
        return {"n_bytes": len(self.body), "columns": self.columns, "error": self.error}


def _too_large(answer: _Answer) -> _Answer:
    error = ValueError(
        f"{len(answer.body)} bytes are over max_answer_bytes; send fewer rows at once"
    )
    return _Answer(b"", error=_describe_error("output", error))


def _call_alone(method: Any, inputs: InputSpec, batch: Batch) -> _Answer:
    step = "input"
    try:
        data = build_input(inputs, _opened(batch))
        step = "predict"
        result = method(data)
        step = "output"
        return _encoded(result)
    except BaseException as error:
        # A model may raise anything, SystemExit and KeyboardInterrupt among it.
        return _Answer(b"", error=_describe_error(step, error))


def _opened(batch: Batch) -> InputBatch:
    return batch.opened() if isinstance(batch, SealedBatch) else batch


def _encoded(result: Any) -> _Answer:
    return _Answer(encode_output(result), _column_names(result))


def load_checked(ref: ModelRef) -> Any:
    """Load an artifact after its bytes were found to be those that were deployed.

    Raises
    ------
    CorruptArtifact
        If they are not.
    """
    found = sha256_of(ref.path)
    if found != ref.sha256:
        raise CorruptArtifact(f"sha256 {found} instead of {ref.sha256}")
    return load(ref.path, ref.format)


class CorruptArtifact(Exception):
    """The artifact's bytes are not those that were deployed."""


def _check_methods(model: Any, names: tuple[str, ...]) -> None:
    for name in names:
        if not callable(_method(model, name)):
            raise TypeError(f"{type(model).__name__} has no method {name!r}")


def _method(model: Any, name: str) -> Any:
    return model if name == "__call__" else getattr(model, name)


def _column_names(result: Any) -> list[str] | None:
    if type(result).__name__ == "DataFrame" and hasattr(result, "columns"):
        return [str(label) for label in result.columns]
    return None


def _elapsed_ms(started: float) -> float:
    return (time.perf_counter() - started) * 1e3


def _describe_error(step: str, error: BaseException) -> dict[str, Any]:
    """Say what went wrong in words that the server sorts by ``kind``."""
    kind = step
    details: dict[str, Any] = {}
    if isinstance(error, MemoryError):
        kind = "memory"
    elif isinstance(error, CorruptArtifact):
        kind = "corrupt"
    elif isinstance(error, MissingModule):
        kind = "missing_module"
        details = {"module": error.name, "distribution": error.distribution}
    elif step == "predict" and isinstance(error, ValueError | TypeError | KeyError):
        kind = "rejected"
    return {
        "kind": kind,
        "type": type(error).__name__,
        "message": _shown(str, error)[:MAX_TRACEBACK_CHARS],
        "traceback": _shown(_traceback, error)[-MAX_TRACEBACK_CHARS:],
        **details,
    }


def _shown(show: Callable[[BaseException], str], error: BaseException) -> str:
    try:
        return show(error)
    except BaseException as reason:
        # What a model raises has methods of its own, which may raise anything in their turn.
        return f"(it cannot be shown: {type(reason).__name__})"


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
