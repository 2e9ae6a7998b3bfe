"""The decoder processes, as the server sees them: a few, started when one is needed.

What the event loop does for a large body is to pass it on, a piece at a time.
"""

from __future__ import annotations

import asyncio
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections import OrderedDict
from importlib.util import find_spec

import msgspec

from mlserve_jupyter import errors
from mlserve_jupyter.api.arrow_body import ARROW_STREAM
from mlserve_jupyter.api.decode import COLUMNAR, media_type_of
from mlserve_jupyter.api.packed import SealedBatch
from mlserve_jupyter.errors import (
    DeadlineExceeded,
    InvalidBody,
    MLServeError,
    Overloaded,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
)
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.serving.bootstrap import command
from mlserve_jupyter.serving.decoding import CHECK_JSON, MAX_KEPT, Decode, DecodeReply
from mlserve_jupyter.serving.protocol import PREFIX
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.threads import in_answering_thread

INLINE_BYTES = 64 * 1024
"""Smaller bodies, but those of columns, are decoded where they arrive."""

AT_SPEED_BYTES = 1024 * 1024
"""So are smaller ones of plain JSON or plain columns, in milliseconds, as long as all fits."""

_READ_AT_SPEED = ("application/json", "", ARROW_STREAM)

N_DECODERS = 2
IDLE_S = 60.0
"""A decoder without a body for so long gives its memory back."""

_ERRORS: dict[str, type[MLServeError]] = {
    error.code: error
    for error in (
        errors.InvalidBody,
        errors.SignatureMismatch,
        errors.TooLarge,
        errors.UnsupportedMediaType,
    )
}


def is_decoded_elsewhere(body: bytes, content_type: str) -> bool:
    """Tell whether a body is one for :class:`DecoderPool`, and not for the event loop."""
    return len(body) > INLINE_BYTES or (
        content_type != "application/json" and media_type_of(content_type) in COLUMNAR
    )


def is_read_at_speed(body: bytes, content_type: str) -> bool:
    """Tell whether a body is small enough to be tried where it arrived first."""
    return len(body) <= AT_SPEED_BYTES and media_type_of(content_type) in _READ_AT_SPEED


class DecoderPool:
    """Decodes bodies in other processes.

    Parameters
    ----------
    settings
        ``decoder_memory_bytes`` bounds each process, ``predict_timeout_s`` the time that a body
        takes, ``max_queue_requests`` and ``max_queue_bytes`` what waits.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._headers: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._idle: list[_Decoder] = []
        self._busy: set[_Decoder] = set()
        self._free = asyncio.Semaphore(N_DECODERS)
        self._n_waiting = self._waiting_bytes = 0
        self._closing: set[asyncio.Future[None]] = set()
        self._idle_check: asyncio.TimerHandle | None = None
        self._closed = False

    def apply(self, settings: Settings) -> None:
        """Go on with other limits and deadlines; processes that run keep theirs."""
        self._settings = settings

    async def decode(self, version: ServedVersion, body: bytes, content_type: str) -> SealedBatch:
        """Decode and check a predict body.

        Raises
        ------
        InvalidBody, SignatureMismatch, TooLarge, UnsupportedMediaType
            As :meth:`.InputDecoder.decode` does; also where the body ends the process.
        Overloaded
            If too much waits.
        DeadlineExceeded
            If it takes longer than ``predict_timeout_s``.
        """
        if media_type_of(content_type) in COLUMNAR:
            _require_arrow()
        reply, payload = await self._ask(self._header(version, content_type), body)
        if reply.code:
            raise _ERRORS.get(reply.code, InvalidBody)(reply.message, **reply.details)
        return SealedBatch(reply.n_rows, payload)

    async def is_json(self, body: bytes) -> bool:
        """Tell whether a body is JSON; raises as :meth:`decode` does."""
        reply, _ = await self._ask(CHECK_JSON, body)
        return reply.is_json

    async def aclose(self) -> None:
        """End the processes."""
        self._closed = True
        if self._idle_check is not None:
            self._idle_check.cancel()
        for decoder in self._busy:
            decoder.kill()
        while self._idle:
            self._close(self._idle.pop())
        await asyncio.gather(*self._closing)

    def _header(self, version: ServedVersion, content_type: str) -> bytes:
        """Return a version's pickled task, by whose bytes a process knows it again."""
        key = version.id, content_type
        header = self._headers.get(key)
        if header is None:
            task = Decode(version.signature.inputs, version.extra_columns, content_type)
            header = self._headers[key] = pickle.dumps(task, protocol=5)
            if len(self._headers) > MAX_KEPT:
                self._headers.popitem(last=False)
        return header

    async def _ask(self, header: bytes, body: bytes) -> tuple[DecodeReply, bytearray]:
        self._admit(len(body))
        deadline_s = time.monotonic() + self._settings.predict_timeout_s
        try:
            await asyncio.wait_for(self._free.acquire(), self._settings.predict_timeout_s)
        except asyncio.TimeoutError:
            raise _too_late(self._settings.predict_timeout_s) from None
        finally:
            self._n_waiting -= 1
            self._waiting_bytes -= len(body)
        try:
            return await self._ask_one(header, body, deadline_s)
        finally:
            self._free.release()

    def _admit(self, n_bytes: int) -> None:
        """Count a body that waits, unless too much does."""
        if self._closed:
            raise Unavailable("The server is shutting down.")
        if self._n_waiting and (
            self._n_waiting >= self._settings.max_queue_requests
            or self._waiting_bytes + n_bytes > self._settings.max_queue_bytes
        ):
            raise Overloaded(
                f"{self._n_waiting} bodies wait to be decoded already. Try again in a moment."
            )
        self._n_waiting += 1
        self._waiting_bytes += n_bytes

    async def _ask_one(
        self, header: bytes, body: bytes, deadline_s: float
    ) -> tuple[DecodeReply, bytearray]:
        decoder = self._idle.pop() if self._idle else _Decoder(self._settings)
        self._busy.add(decoder)
        try:
            return await asyncio.wait_for(
                decoder.ask(header, body), max(deadline_s - time.monotonic(), 0)
            )
        except asyncio.TimeoutError:
            raise _too_late(self._settings.predict_timeout_s) from None
        finally:
            self._busy.discard(decoder)
            if decoder.is_idle and not self._closed:
                self._idle.append(decoder)
            else:
                # Nobody waits for that body any more; a process is sooner started than it is read.
                self._close(decoder)
            self._watch_idle()

    def _close(self, decoder: _Decoder) -> None:
        decoder.kill()
        closing = asyncio.get_running_loop().run_in_executor(None, decoder.close)
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _watch_idle(self) -> None:
        if self._idle_check is None and not self._closed:
            self._idle_check = asyncio.get_running_loop().call_later(IDLE_S, self._close_idle)

    def _close_idle(self) -> None:
        self._idle_check = None
        long_ago_s = time.monotonic() - IDLE_S
        for decoder in [each for each in self._idle if each.last_used_s <= long_ago_s]:
            self._idle.remove(decoder)
            self._close(decoder)
        if self._idle or self._busy:
            self._watch_idle()


class _Decoder:
    """One process, which its first body starts."""

    def __init__(self, settings: Settings) -> None:
        self.is_idle = True
        self.last_used_s = time.monotonic()
        self._settings = settings
        self._popen: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._killed = False

    async def ask(self, header: bytes, body: bytes) -> tuple[DecodeReply, bytearray]:
        """Send a body and wait for what became of it.

        The socket takes and gives a few hundred kilobytes at a time, so that the event loop has its
        turn in between.
        """
        self.is_idle = False
        if self._sock is None:
            await in_answering_thread(self._start)
        try:
            reply, payload = await self._exchange(header, body)
        except (ConnectionError, EOFError):
            raise await in_answering_thread(self._why) from None
        self.last_used_s = time.monotonic()
        # What is left of a process that ran out of memory is of no use.
        self.is_idle = reply.code != TooLarge.code
        return reply, payload

    async def _exchange(self, header: bytes, body: bytes) -> tuple[DecodeReply, bytearray]:
        loop, sock = asyncio.get_running_loop(), self._sock
        assert sock is not None
        await loop.sock_sendall(sock, PREFIX.pack(len(header), len(body)) + header)
        await loop.sock_sendall(sock, body)
        sizes = PREFIX.unpack(await _receive(sock, PREFIX.size))
        reply = msgspec.json.decode(await _receive(sock, sizes[0]), type=DecodeReply)
        return reply, await _receive(sock, sizes[1])

    def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        self._killed = True
        if self._popen is not None:
            self._popen.kill()

    def close(self) -> None:
        """End the process and let go of what belongs to it; waits, so it runs in a thread."""
        self.kill()
        if self._sock is not None:
            self._sock.close()
        if self._popen is not None:
            self._popen.wait()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        settings = self._settings
        arguments = (
            str(theirs.fileno()),
            str(settings.decoder_memory_bytes),
            str(settings.predict_timeout_s),
        )
        try:
            self._popen = subprocess.Popen(
                command(sys.executable, "decoding.main", *arguments),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        finally:
            theirs.close()
        self._sock = ours
        if self._killed:
            self.close()

    def _why(self) -> MLServeError:
        assert self._popen is not None
        code = self._popen.wait()
        if self._killed:
            return Unavailable("The body was given up, since the server is shutting down.")
        if code == -signal.SIGALRM:
            return _too_late(self._settings.predict_timeout_s)
        end = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
        return InvalidBody(
            f"The body could not be decoded: the process that tried has ended ({end}). The body is "
            "damaged, or takes more memory than decoder_memory_bytes allows."
        )


async def _receive(sock: socket.socket, n_bytes: int) -> bytearray:
    data = bytearray(n_bytes)
    view, loop = memoryview(data), asyncio.get_running_loop()
    while view:
        received = await loop.sock_recv_into(sock, view)
        if not received:
            raise EOFError
        view = view[received:]
    return data


def _too_late(timeout_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"The body could not be decoded within {timeout_s:g} s. Send fewer rows at once, or raise "
        "predict_timeout_s.",
        timeout_s=timeout_s,
    )


def _require_arrow() -> None:
    if find_spec("pyarrow") is None or find_spec("numpy") is None:
        raise UnsupportedMediaType(
            "This server reads no Arrow and no Parquet, since pyarrow is not installed beside it: "
            "`pip install 'mlserve_jupyter[arrow]'` in the server's environment and restart it, or "
            "send application/json.",
            accepted=["application/json", "text/csv"],
        )
