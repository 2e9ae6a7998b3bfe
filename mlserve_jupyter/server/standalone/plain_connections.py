"""Connections without TLS, as long as all that comes over them are plain predictions.

A request that came in whole, is a plain prediction, and is let in by memory is answered here, in
the call in which its bytes arrive. At the first one that is anything else, the connection is given
to tornado with all that has come, and stays there.

What is plain is not judged again for a head that was judged before: a client repeats its own.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, cast

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPInputError,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
    parse_request_start_line,
)

from mlserve_jupyter.server.credentials import sole_secret
from mlserve_jupyter.server.fast_predict import Admitted, FastCall, FastPredict
from mlserve_jupyter.server.resource import request_id_of

MAX_HEAD_BYTES = 16 * 1024
MAX_WAITING_BYTES = 256 * 1024
"""What may have come after a request that is being answered, before the client has to wait."""

MAX_HEADS = 2048
MAX_KEPT_HEAD_BYTES = 2048
"""Larger heads are judged each time: what is kept may be any stranger's."""

WAIT_FOR_REST_S = 1.0
"""A request that has not come in whole by then is tornado's to wait for."""

SWEEP_EVERY_S = 0.5

GiveAway = Callable[[socket.socket, bytes], None]
"""Takes a connection over, with what has come through it and is not answered."""


class Head(NamedTuple):
    """What a head was found to say.

    Attributes
    ----------
    start_line, headers
        As tornado reads them.
    secret
        The credential.
    model
        What the path names.
    n_bytes
        Of the body.
    """

    start_line: RequestStartLine
    headers: HTTPHeaders
    secret: str | None
    model: str
    n_bytes: int
    content_type: str


class PlainConnections:
    """All such connections of a process.

    Parameters
    ----------
    door
        Knows what is plain, and whom memory lets in.
    give_away
        Takes a connection over.
    keep_alive_s
        How long one may be idle.
    """

    def __init__(self, door: FastPredict, give_away: GiveAway, keep_alive_s: float) -> None:
        self.door = door
        self.give_away = give_away
        self.open: set[PlainConnection] = set()
        self._keep_alive_s = keep_alive_s
        self._heads: OrderedDict[bytes, Head] = OrderedDict()
        self._sweeping: asyncio.TimerHandle | None = None

    async def take(self, connection: socket.socket) -> None:
        """Serve a connection that was accepted just now."""
        if self._sweeping is None:
            self._sweep()
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: PlainConnection(self), connection
            )
        except OSError:  # the client has gone already
            connection.close()

    @property
    def n_busy(self) -> int:
        """Requests that are being received, computed or answered."""
        return sum(connection.is_busy for connection in self.open)

    def head(self, text: bytes) -> Head | None:
        """Return what a head says; None where the request is not plain."""
        found = self._heads.get(text)
        if found is None:
            found = _read_head(text, self.door)
            if found is not None and len(text) <= MAX_KEPT_HEAD_BYTES:
                self._heads[text] = found
                if len(self._heads) > MAX_HEADS:
                    self._heads.popitem(last=False)
        return found

    def forget(self) -> None:
        """Judge all heads anew: names or limits have changed."""
        self._heads.clear()

    def end(self) -> None:
        """Look after idle connections no more."""
        if self._sweeping is not None:
            self._sweeping.cancel()

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self.open):
            if connection.has_part and now - connection.active_at > WAIT_FOR_REST_S:
                connection.leave_to_tornado()
            elif connection.is_deaf and now - connection.active_at > self._keep_alive_s:
                connection.abort()
            elif not connection.is_busy and now - connection.active_at > self._keep_alive_s:
                connection.close()
        loop = asyncio.get_running_loop()
        self._sweeping = loop.call_later(SWEEP_EVERY_S, self._sweep)


class PlainConnection(asyncio.Protocol):
    """One connection.

    Attributes
    ----------
    active_at
        ``time.monotonic()`` when a request began to come, or was answered.
    """

    def __init__(self, connections: PlainConnections) -> None:
        self.active_at = time.monotonic()
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._waiting = b""
        self._call: PlainCall | None = None
        self._learning: asyncio.Task[None] | None = None
        self._is_answering = False
        self._is_reading = True
        self._can_write = True
        self._address: tuple[str, int] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a request has come, in part or in whole, and is not answered."""
        return self._call is not None or self._learning is not None or bool(self._waiting)

    @property
    def has_part(self) -> bool:
        """Whether the rest of a request is waited for."""
        is_waited_for = self._call is None and self._learning is None and self._can_write
        return is_waited_for and bool(self._waiting)

    @property
    def is_deaf(self) -> bool:
        """Whether the client does not read its answers."""
        return not self._can_write

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._address = transport.get_extra_info("peername")
        self._connections.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the call up that runs."""
        self._connections.open.discard(self)
        self._transport = None
        self._waiting = b""
        if self._learning is not None:
            self._learning.cancel()
        if self._call is not None:
            call, self._call = self._call, None
            call.give_up()

    def data_received(self, data: bytes) -> None:
        """Answer what has come in whole."""
        if not self._waiting:  # who sends slowly is not waited for any longer
            self.active_at = time.monotonic()
        self._waiting = self._waiting + data if self._waiting else data
        if self._call is None and self._learning is None:
            self._answer_waiting()
        elif len(self._waiting) > MAX_WAITING_BYTES:
            self._read(False)

    def pause_writing(self) -> None:
        """Wait for a client that does not read its answers."""
        self._can_write = False
        self._read(False)

    def resume_writing(self) -> None:
        """Go on."""
        self._can_write = True
        self.active_at = time.monotonic()
        if self._call is None and self._learning is None:
            self._answer_waiting()
        if self._call is None:
            self._read(True)

    def send(self, answer: bytes) -> None:
        """Send an answer, and go on to what has come meanwhile."""
        if self._transport is not None:
            self._transport.write(answer)

    def answered(self, call: PlainCall) -> None:
        """Go on to what has come while a call was answered."""
        if self._call is not call:
            return
        self._call = None
        self.active_at = time.monotonic()
        if self._is_answering:
            return
        if self._waiting:
            self._answer_waiting()
        if self._call is None:
            self._read(True)

    def abort(self) -> None:
        """Close without waiting for what was written to be read."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close, once what was written has been sent."""
        if self._transport is not None:
            self._transport.close()

    def has_bytes(self) -> bool:
        """Whether something has come that was not looked at yet."""
        if self._waiting or self._transport is None:
            return bool(self._waiting)
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def leave_to_tornado(self) -> None:
        """Give the connection away, with what has come through it."""
        transport, waiting = self._transport, self._waiting
        if transport is None:
            return
        if transport.get_write_buffer_size():
            transport.close()  # the client does not even read
            return
        self._connections.open.discard(self)
        self._transport, self._waiting = None, b""
        transport.pause_reading()
        taken = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        transport.abort()
        self._connections.give_away(taken, waiting)

    def _answer_waiting(self) -> None:
        self._is_answering = True
        try:
            while self._waiting and self._call is None and self._can_write and self._transport:
                if not self._answer_next():
                    return
        finally:
            self._is_answering = False

    def _answer_next(self) -> bool:
        """Begin to answer what has come first; whether there may be more to answer."""
        waiting = self._waiting
        end = waiting.find(b"\r\n\r\n")
        if end < 0:
            if len(waiting) > MAX_HEAD_BYTES or not b"POST ".startswith(waiting[:5]):
                self.leave_to_tornado()
            return False
        head = self._connections.head(waiting[:end])
        if head is None:
            self.leave_to_tornado()
            return False
        start = end + 4
        stop = start + head.n_bytes
        if len(waiting) < stop:
            return False  # the rest is on its way
        admitted = self._connections.door.admit(head.secret)
        if admitted is None:
            self._learn_or_leave(head.secret)
            return False
        self._waiting = waiting[stop:]
        call = PlainCall(self._connections.door, admitted, head, self, self._address)
        self._call = call
        call.begin(head.model, waiting[start:stop], head.content_type)
        return True

    def _learn_or_leave(self, secret: str | None) -> None:
        """Have a credential looked up that memory does not know; any other refusal is tornado's."""
        door = self._connections.door
        if secret is None or door.platform.is_draining or door.knows(secret):
            self.leave_to_tornado()
            return
        self._learning = asyncio.ensure_future(door.learn(secret))
        self._learning.add_done_callback(lambda _: self._learned(secret))

    def _learned(self, secret: str) -> None:
        self._learning = None
        if self._transport is None:
            return
        if not self._connections.door.knows(secret):
            self.leave_to_tornado()
            return
        self._answer_waiting()

    def _read(self, on: bool) -> None:
        on = on and self._can_write
        if self._transport is None or on is self._is_reading:
            return
        self._is_reading = on
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()


class PlainCall(FastCall):
    """A request on a plain connection."""

    def __init__(
        self,
        door: FastPredict,
        admitted: Admitted,
        head: Head,
        connection: PlainConnection,
        address: tuple[str, int] | None,
    ) -> None:
        super().__init__(door, admitted, request_id_of(head.headers))
        self._head = head
        self._plain = connection
        self._address = address
        self._started_at_s = time.time()
        self._request: HTTPServerRequest | None = None

    @property
    def request(self) -> HTTPServerRequest:
        """The request, made when somebody asks for it."""
        if self._request is None:
            self._request = HTTPServerRequest(
                headers=self._head.headers.copy(),
                connection=_Answering(self._plain, self, self._address),
                start_line=self._head.start_line,
            )
            self._request._start_time = self._started_at_s
        return self._request

    def send(self, answer: bytes) -> None:
        """Send a whole answer."""
        self._plain.send(answer)
        self._plain.answered(self)


class _Answering(HTTPConnection):
    """What tornado's handler answers a plain call through, where that has failed.

    Attributes
    ----------
    context
        This itself, with the members that tornado's own have.
    """

    protocol = "http"

    def __init__(
        self, connection: PlainConnection, call: PlainCall, address: tuple[str, int] | None
    ) -> None:
        self._connection = connection
        self._call = call
        self._closes = False
        self.address = address
        self.remote_ip = address[0] if address else "0.0.0.0"
        self.context = self

    def write_headers(
        self,
        start_line: RequestStartLine | ResponseStartLine,
        headers: HTTPHeaders,
        chunk: bytes | None = None,
    ) -> asyncio.Future[None]:
        """Send the head, and the body's beginning."""
        assert isinstance(start_line, ResponseStartLine)
        self._closes = headers.get("Connection", "").lower() == "close"
        lines = [f"HTTP/1.1 {start_line.code} {start_line.reason}"]
        lines += [f"{name}: {value}" for name, value in headers.get_all()]
        self._connection.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin1") + (chunk or b""))
        return _done()

    def write(self, chunk: bytes) -> asyncio.Future[None]:
        """Send more of the body."""
        self._connection.send(chunk)
        return _done()

    def finish(self) -> None:
        """Go on to the next request."""
        if self._closes:
            self._connection.close()
        self._connection.answered(self._call)

    def set_close_callback(self, callback: Callable[[], None] | None) -> None:
        """Call nobody: the error is known already."""


def _done() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


def _read_head(text: bytes, door: FastPredict) -> Head | None:
    """Read a head as tornado does; None where it refuses that, or the request is not plain."""
    if text.count(b"\n") != text.count(b"\r\n"):
        return None  # tornado lets lines end in either, and so may find an earlier end
    first, _, fields = text.decode("latin1").partition("\r\n")
    try:
        start_line = parse_request_start_line(first)
        headers = HTTPHeaders.parse(fields)
        request = HTTPServerRequest(headers=headers, start_line=start_line)
    except (HTTPInputError, ValueError):
        return None
    if start_line.method != "POST" or not door.is_plain(request):
        return None
    return Head(
        start_line,
        headers,
        sole_secret(headers),
        door.model_of(request.path),
        int(headers["Content-Length"]),
        headers.get("Content-Type", ""),
    )
