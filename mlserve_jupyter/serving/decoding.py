"""The process that decodes large bodies, and all bodies of columns, for the server.

The server's event loop never holds their rows, and a parser that crashes, or a body that grows
without end, takes this process with it and nothing else. It runs under the server's own
interpreter, one body at a time, and answers with a sealed batch.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import pickle
import resource
import signal
import socket
import sys
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import msgspec

from mlserve_jupyter.api.decode import COLUMNAR, InputDecoder, media_type_of
from mlserve_jupyter.api.layout import ExtraColumns
from mlserve_jupyter.api.packed import seal
from mlserve_jupyter.api.signature import InputSpec
from mlserve_jupyter.errors import MLServeError, TooLarge
from mlserve_jupyter.serving.protocol import PREFIX, receive_frame

DECODED_SHARE = 4
"""A body of columns may take the fraction 1 / ``DECODED_SHARE`` of the process's memory."""

COLLECT_AFTER_BYTES = 16 * 2**20
COLLECT_AFTER_BODIES = 256
"""After so many bytes, or bodies, what errors have left behind in cycles is looked for."""

CHECK_JSON = b"check"
"""The header of a body of which only is asked whether it is JSON."""

MAX_KEPT = 64
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Decode:
    """Decode a body by a version's signature; answered with a sealed batch."""

    spec: InputSpec
    extra_columns: ExtraColumns
    content_type: str


class DecodeReply(msgspec.Struct, frozen=True):
    """What a decoder says beside the batch.

    Attributes
    ----------
    is_json
        Of :data:`CHECK_JSON`.
    code, message, details
        Of the error that the body is refused with, of a class in ``errors``; else empty.
    """

    n_rows: int = 0
    is_json: bool = False
    code: str = ""
    message: str = ""
    details: dict[str, Any] = {}


def main(fd: str, memory_bytes: str, timeout_s: str) -> None:
    """Run a decoder on the inherited socket ``fd`` until the server is gone."""
    sock = socket.socket(fileno=int(fd))
    limit = int(memory_bytes)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Ctrl-C in the server's terminal reaches the whole group; the server decides what follows.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Rows are no garbage, and the collector would walk through them again and again.
    gc.disable()
    gc.freeze()
    decoders = _Decoders(limit // DECODED_SHARE)
    uncollected_bytes = 0
    while (received := receive_frame(sock)) is not None:
        # Whatever the server does, one body never takes this process longer.
        signal.setitimer(signal.ITIMER_REAL, float(timeout_s))
        reply, parts = decoders.answer(bytes(received[0]), received[1])
        signal.setitimer(signal.ITIMER_REAL, 0)
        uncollected_bytes += len(received[1])
        del received
        header = msgspec.json.encode(reply)
        try:
            sock.sendall(PREFIX.pack(len(header), sum(map(len, parts))) + header)
            for part in parts:
                sock.sendall(part)
        except ConnectionError:
            return
        uncollected_bytes += sum(map(len, parts)) + COLLECT_AFTER_BYTES // COLLECT_AFTER_BODIES
        del parts
        if uncollected_bytes > COLLECT_AFTER_BYTES:
            gc.collect()
            uncollected_bytes = 0


class _Decoders:
    """What this process has made of signatures."""

    def __init__(self, max_decoded_bytes: int) -> None:
        self._max_decoded_bytes = max_decoded_bytes
        self._known: OrderedDict[bytes, tuple[InputDecoder, str]] = OrderedDict()

    def answer(self, header: bytes, body: Any) -> tuple[DecodeReply, list[bytes | memoryview]]:
        """Do what a pickled task says, with a body in a buffer (hence ``Any``)."""
        if header == CHECK_JSON:
            return DecodeReply(is_json=is_json(body)), []
        try:
            decoder, content_type = self._decoder(header)
            batch = decoder.decode_packed(body, content_type)
            return DecodeReply(n_rows=batch.n_rows), seal(batch)
        except MemoryError:
            error: MLServeError = TooLarge(
                "The body takes more memory to decode than decoder_memory_bytes allows. Send fewer "
                "rows at once."
            )
        except MLServeError as refused:
            error = refused
        details: dict[str, Any] = json.loads(json.dumps(dict(error.details), default=str))
        return DecodeReply(code=error.code, message=error.message, details=details), []

    def _decoder(self, header: bytes) -> tuple[InputDecoder, str]:
        known = self._known.get(header)
        if known is None:
            task: Decode = pickle.loads(header)
            if media_type_of(task.content_type) in COLUMNAR:
                _prepare_arrow()
            decoder = InputDecoder(
                task.spec, task.extra_columns, max_decoded_bytes=self._max_decoded_bytes
            )
            known = self._known[header] = decoder, task.content_type
            if len(self._known) > MAX_KEPT:
                self._known.popitem(last=False)
        return known


def is_json(body: Any) -> bool:
    """Tell whether a buffer (hence ``Any``) holds one JSON value in UTF-8."""
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
        str(body, "utf-8")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _prepare_arrow() -> None:
    """Have Arrow allocate so that the limit of memory holds, in this thread alone."""
    import pyarrow

    with contextlib.suppress(NotImplementedError):
        pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    gc.freeze()
