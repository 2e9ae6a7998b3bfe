"""The decoder processes, as the server sees them: a few, started when one is needed.

Bodies and batches cross their sockets in threads that hold no lock of the interpreter meanwhile, so
the event loop goes on serving others however large they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import pickle
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import msgspec

from mlserve_jupyter import errors
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
from mlserve_jupyter.serving.decoding import CheckJson, Decode, DecodeReply
from mlserve_jupyter.serving.protocol import PREFIX, receive_frame
from mlserve_jupyter.settings import Settings

INLINE_BYTES = 64 * 1024
"""Smaller bodies, but those of columns, are decoded where they arrive."""

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
        self._idle: list[_Decoder] = []
        self._busy: set[_Decoder] = set()
        self._free = asyncio.Semaphore(N_DECODERS)
        self._threads = ThreadPoolExecutor(N_DECODERS, thread_name_prefix="mlserve-decoder")
        self._n_waiting = self._waiting_bytes = 0
        self._closing_idle: asyncio.TimerHandle | None = None
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
        task = Decode(version.id, version.signature.inputs, version.extra_columns, content_type)
        reply, payload = await self._ask(task, body)
        if reply.code:
            raise _ERRORS.get(reply.code, InvalidBody)(reply.message, **reply.details)
        return SealedBatch(reply.n_rows, payload)

    async def is_json(self, body: bytes) -> bool:
        """Tell whether a body is JSON; raises as :meth:`decode` does."""
        reply, _ = await self._ask(CheckJson(), body)
        return reply.is_json

    async def aclose(self) -> None:
        """End the processes."""
        self._closed = True
        if self._closing_idle is not None:
            self._closing_idle.cancel()
        for decoder in [*self._busy, *self._idle]:
            decoder.kill()
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        for decoder in self._idle:
            decoder.close()

    async def _ask(self, task: Decode | CheckJson, body: bytes) -> tuple[DecodeReply, bytearray]:
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
            return await self._ask_one(task, body, deadline_s)
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
        self, task: Decode | CheckJson, body: bytes, deadline_s: float
    ) -> tuple[DecodeReply, bytearray]:
        loop = asyncio.get_running_loop()
        decoder = self._idle.pop() if self._idle else _Decoder(self._settings)
        self._busy.add(decoder)
        asking = loop.run_in_executor(self._threads, decoder.ask, task, body)
        try:
            answer = await asyncio.wait_for(
                asyncio.shield(asking), max(deadline_s - time.monotonic(), 0)
            )
        except (asyncio.TimeoutError, asyncio.CancelledError) as error:
            # Nobody waits for this body any more; a process is sooner started than it is read.
            decoder.kill()
            await asyncio.wait([asking])
            asking.exception()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise _too_late(self._settings.predict_timeout_s) from None
        finally:
            self._busy.discard(decoder)
            if decoder.alive and not self._closed:
                self._idle.append(decoder)
            else:
                loop.run_in_executor(None, decoder.close)
        if self._closing_idle is None:
            self._closing_idle = loop.call_later(IDLE_S, self._close_idle)
        return answer

    def _close_idle(self) -> None:
        self._closing_idle = None
        now = time.monotonic()
        kept = [each for each in self._idle if now - each.last_used_s < IDLE_S]
        loop = asyncio.get_running_loop()
        for decoder in self._idle:
            if decoder not in kept:
                loop.run_in_executor(None, decoder.close)
        self._idle = kept
        if kept or self._busy:
            self._closing_idle = loop.call_later(IDLE_S, self._close_idle)


class _Decoder:
    """One process; :meth:`ask` runs in a thread, and starts it."""

    def __init__(self, settings: Settings) -> None:
        self.alive = True
        self.last_used_s = time.monotonic()
        self._settings = settings
        self._popen: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._killed = False

    def ask(self, task: Decode | CheckJson, body: bytes) -> tuple[DecodeReply, bytearray]:
        """Send a body and wait for what became of it."""
        sock = self._sock or self._start()
        header = pickle.dumps(task, protocol=5)
        received: tuple[Any, bytearray] | None = None
        with contextlib.suppress(ConnectionError):
            sock.sendall(PREFIX.pack(len(header), len(body)) + header)
            sock.sendall(body)
            received = receive_frame(sock)
        self.last_used_s = time.monotonic()
        if received is None:
            self.alive = False
            raise self._why()
        reply = msgspec.json.decode(received[0], type=DecodeReply)
        if reply.code == TooLarge.code:
            # What is left of a process that ran out of memory is of no use.
            self.alive = False
        return reply, received[1]

    def kill(self) -> None:
        """End the process at once, whatever it is doing."""
        self.alive, self._killed = False, True
        if self._popen is not None:
            self._popen.kill()

    def close(self) -> None:
        """End an idle process, and let go of what belongs to it."""
        self.kill()
        if self._sock is not None:
            self._sock.close()
        if self._popen is not None:
            self._popen.wait()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
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
        if self._killed:
            self._popen.kill()
        self._sock = ours
        return ours

    def _why(self) -> MLServeError:
        assert self._popen is not None
        code = self._popen.wait()
        if self._killed:
            return Unavailable("The body was given up.")
        if code == -signal.SIGALRM:
            return _too_late(self._settings.predict_timeout_s)
        end = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
        return InvalidBody(
            f"The body could not be decoded: the process that tried has ended ({end}). The body is "
            "damaged, or takes more memory than decoder_memory_bytes allows."
        )


def _too_late(timeout_s: float) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"The body could not be decoded within {timeout_s:g} s. Send fewer rows at once, or raise "
        "predict_timeout_s.",
        timeout_s=timeout_s,
    )


@functools.lru_cache(maxsize=1)
def _has_arrow() -> bool:
    return find_spec("pyarrow") is not None and find_spec("numpy") is not None


def _require_arrow() -> None:
    if not _has_arrow():
        raise UnsupportedMediaType(
            "This server reads no Arrow and no Parquet, since pyarrow is not installed beside it: "
            "`pip install 'mlserve_jupyter[arrow]'` in the server's environment and restart it, or "
            "send application/json.",
            accepted=["application/json", "text/csv"],
        )
