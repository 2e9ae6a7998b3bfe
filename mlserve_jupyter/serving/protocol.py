"""The words between server, supervisor and worker, and how they are framed on a socket.

A frame is a header and a body, each preceded by its length. The server's frames carry a pickled
message of this module: a worker trusts the server. A worker's frames carry JSON only, since what a
worker runs is not trusted, and the server decodes nothing else from it.

The module runs in the model's own environment, so it needs the standard library alone.
"""

from __future__ import annotations

import json
import pickle
import re
import socket
import struct
from dataclasses import dataclass
from typing import Any

from mlserve_jupyter.api.packed import SealedBatch
from mlserve_jupyter.api.signature import InputBatch, InputSpec

Batch = InputBatch | SealedBatch
"""Checked input, in the clear or sealed."""

PREFIX = struct.Struct(">IQ")
"""Lengths of a frame's header and body."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class ModelRef:
    """A version's artifact, as a worker needs to know it.

    Attributes
    ----------
    key
        The version's id.
    path, format, sha256, size_bytes
        The artifact; ``sha256`` (hex) is checked at each load.
    inputs
        How the method's argument is built.
    """

    key: str
    path: str
    format: str
    sha256: str
    size_bytes: int
    inputs: InputSpec


@dataclass(frozen=True)
class Open:
    """Introduce a model; it is loaded when it is first needed. Not answered."""

    model: ModelRef


@dataclass(frozen=True)
class Load:
    """Load a model that was introduced, and make sure that it has ``methods``."""

    key: str
    methods: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """Call ``method`` of a model that was introduced, at once for all ``batches`` if it can be.

    A sealed batch goes alone.
    """

    key: str
    method: str
    batches: tuple[Batch, ...]


@dataclass(frozen=True)
class Compare:
    """Call ``method``, and find out whether a row's answer depends on the rows beside it."""

    key: str
    method: str
    batch: InputBatch


@dataclass(frozen=True)
class Compile:
    """Compile the methods of a model, and answer the rows by which the graph is judged."""

    key: str
    methods: tuple[str, ...]
    sample: InputBatch


@dataclass(frozen=True)
class Forget:
    """Let a model go. Not answered."""

    key: str


@dataclass(frozen=True)
class Rename:
    """Know a model under the key of ``model`` from now on, loaded as it is. Not answered."""

    key: str
    model: ModelRef


@dataclass(frozen=True)
class ListModules:
    """Name the importable modules that this worker has loaded beyond the supervisor's."""


Message = Open | Load | Call | Compare | Compile | Forget | Rename | ListModules


@dataclass(frozen=True)
class WorkerLimits:
    """What a supervisor holds its workers to; sizes in bytes, 0 meaning no limit.

    Attributes
    ----------
    max_loaded_bytes, max_loaded_models
        Bounds of a worker's model cache.
    memory_bytes
        Memory at which a worker is killed.
    max_answer_bytes
        What the predictions of one message may take as JSON.
    start_method
        ``fork`` shares imported libraries between workers; ``spawn`` starts an interpreter each.
    """

    max_loaded_bytes: int
    max_loaded_models: int
    memory_bytes: int
    max_answer_bytes: int
    start_method: str


def frame(header: bytes, body: bytes = b"") -> bytes:
    """Return one frame, ready to be sent."""
    return PREFIX.pack(len(header), len(body)) + header + body


def message_frame(number: int, message: Message) -> tuple[bytes, memoryview | None]:
    """Return the frame of a message from the server to a worker, and what follows as its body.

    Parameters
    ----------
    number
        Comes back in the answer, so that no other frame is taken for it.
    """
    buffers: list[pickle.PickleBuffer] = []
    header = pickle.dumps((number, message), protocol=5, buffer_callback=buffers.append)
    if not buffers:
        return frame(header), None
    (sealed,) = buffers
    body = sealed.raw()
    return PREFIX.pack(len(header), len(body)) + header, body


def receive_message(sock: socket.socket) -> tuple[int, Message] | None:
    """Wait for the server's next message and its number; None when the server is gone."""
    received = receive_frame(sock)
    if received is None:
        return None
    header, body = received
    numbered: tuple[int, Message] = pickle.loads(header, buffers=[body] if body else None)
    return numbered


def send_reply(sock: socket.socket, header: dict[str, Any], body: bytes = b"") -> None:
    r"""Send a worker's or a supervisor's answer; the header's shape is the receiver's to check.

    Half a surrogate pair, which a model may have from its caller and which no receiver takes for
    text, goes as its escape in Python: ``\ud800``, six characters.
    """
    text = json.dumps(header, allow_nan=False, ensure_ascii=False)
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        encoded = _LONE_SURROGATE.sub(_escaped_twice, text).encode()
    sock.sendall(frame(encoded, body))


def _escaped_twice(half: re.Match[str]) -> str:
    return rf"\\u{ord(half[0]):04x}"  # one backslash in JSON is two


def receive_frame(sock: socket.socket) -> tuple[bytearray, bytearray] | None:
    """Wait for the next frame; None when the other side is gone."""
    prefix = _receive_exactly(sock, PREFIX.size)
    if prefix is None:
        return None
    header_bytes, body_bytes = PREFIX.unpack(prefix)
    header = _receive_exactly(sock, header_bytes)
    body = _receive_exactly(sock, body_bytes) if header is not None else None
    return None if header is None or body is None else (header, body)


def _receive_exactly(sock: socket.socket, n_bytes: int) -> bytearray | None:
    data = bytearray(n_bytes)
    view = memoryview(data)
    while view:
        try:
            received = sock.recv_into(view)
        except ConnectionError:
            return None
        if not received:
            return None
        view = view[received:]
    return data
