"""What a worker answers: all that the server decodes of it, and how it is read from the socket."""

from __future__ import annotations

import asyncio

import msgspec

from mlserve_jupyter.serving.protocol import PREFIX
from mlserve_jupyter.serving.runtimes.verification import CompileReply

MAX_HEADER_BYTES = 16 * 2**20


class WorkerError(msgspec.Struct, frozen=True):
    """What went wrong in a worker; ``kind`` is the step, or a cause that the step recognised."""

    kind: str
    type: str
    message: str
    traceback: str
    module: str | None = None
    distribution: str | None = None


class AnswerHead(msgspec.Struct, frozen=True):
    """One call's part of a worker's answer.

    Attributes
    ----------
    n_bytes
        How much of the body is its own.
    columns
        Column names, where the predictions are a DataFrame.
    """

    n_bytes: int
    columns: list[str] | None = None
    error: WorkerError | None = None


class Reply(msgspec.Struct, frozen=True):
    """A worker's answer, without its body.

    Attributes
    ----------
    number
        Of the message that it answers.
    load_ms, predict_ms
        What it took; a model that was loaded already took 0.
    is_new
        Whether this message loaded the model.
    loaded
        Bytes of each model that the worker holds now, by key.
    answers
        One a call, in order.
    row_by_row
        Whether a row's answer was found not to depend on the rows beside it.
    compiled
        What a graph that was asked for is.
    error
        Why the model could not be loaded.
    """

    number: int = -1
    load_ms: float = 0.0
    predict_ms: float = 0.0
    is_new: bool = False
    loaded: dict[str, int] = {}
    answers: list[AnswerHead] = []
    row_by_row: bool = False
    modules: list[str] = []
    compiled: CompileReply | None = None
    error: WorkerError | None = None


async def read_frame(reader: asyncio.StreamReader, max_body_bytes: int) -> tuple[bytes, bytes]:
    """Return the next frame's header and body.

    Raises
    ------
    msgspec.DecodeError
        If it announces more than is allowed.
    asyncio.IncompleteReadError, ConnectionError
        If the other end is gone.
    """
    header_bytes, body_bytes = PREFIX.unpack(await reader.readexactly(PREFIX.size))
    if header_bytes > MAX_HEADER_BYTES or body_bytes > max_body_bytes:
        raise msgspec.DecodeError("a frame of this size is not one")
    header = await reader.readexactly(header_bytes)
    return header, await reader.readexactly(body_bytes) if body_bytes else b""
