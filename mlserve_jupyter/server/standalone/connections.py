"""An HTTP server that can leave without failing a request that it has taken."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import Awaitable, Iterable
from typing import Any

from tornado.http1connection import HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream, StreamClosedError

from mlserve_jupyter.server.standalone.plain_connections import PlainConnections

LOOK_EVERY_S = 0.02
ACCEPT_REST_S = 1.0
REST_OF_HEADERS_S = 5.0


class DrainingServer(HTTPServer):
    """Knows which of its connections are in the middle of a request.

    A request begins with its headers and ends when its answer has been written.
    """

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Take what :class:`tornado.httpserver.HTTPServer` takes (all of it, hence ``Any``)."""
        super().initialize(*args, **kwargs)
        self._is_busy: dict[HTTP1ServerConnection, bool] = {}
        self._listening: list[socket.socket] = []
        self._plain: PlainConnections | None = None
        self._beginning: set[asyncio.Future[None]] = set()

    def answer_plainly(self, plain: PlainConnections) -> None:
        """Have connections without TLS begin there; call before :meth:`add_sockets`."""
        self._plain = plain

    def _handle_connection(self, connection: socket.socket, address: Any) -> None:
        if self._plain is None or self.ssl_options is not None:
            super()._handle_connection(connection, address)
            return
        task = asyncio.ensure_future(self._plain.take(connection))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    def take_over(self, connection: socket.socket, waiting: bytes) -> None:
        """Serve a connection that was a plain one, with what has come through it already."""
        connection.setblocking(False)
        stream = IOStream(
            connection,
            max_buffer_size=self.max_buffer_size,
            read_chunk_size=self.read_chunk_size,
        )
        stream._read_buffer += waiting
        stream._read_buffer_size += len(waiting)
        try:
            address = connection.getpeername()
        except OSError:  # the client has gone
            stream.close()
            return
        self.handle_stream(stream, address)

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Accept connections on these."""
        self._listening.extend(sockets)
        super().add_sockets(self._listening)

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        """Get ready for the next request of a connection, whose last one is over."""
        assert isinstance(server_conn, HTTP1ServerConnection)
        self._is_busy[server_conn] = False
        return _Watched(super().start_request(server_conn, request_conn), server_conn, self)

    def on_close(self, server_conn: object) -> None:
        """Forget a connection."""
        super().on_close(server_conn)
        assert isinstance(server_conn, HTTP1ServerConnection)
        self._is_busy.pop(server_conn, None)

    def note_headers(self, server_conn: HTTP1ServerConnection) -> None:
        """Count a connection as busy: the headers of a request have come."""
        self._is_busy[server_conn] = True

    @property
    def n_busy(self) -> int:
        """Requests that are being received, computed or answered."""
        n_plain = self._plain.n_busy if self._plain is not None else 0
        return sum(self._is_busy.values()) + n_plain

    def announce_end(self) -> None:
        """Answer every request from now on with ``Connection: close``."""
        self.conn_params.no_keep_alive = True

    async def drain(self, timeout_s: float) -> int:
        """Accept no more connections, and close those that there are as they become idle.

        Returns
        -------
        int
            The number of requests that did not end in time, and were cut.
        """
        self.announce_end()
        await self._stop_accepting()
        started_s = time.monotonic()
        while self._are_any_open() and time.monotonic() - started_s < timeout_s:
            waits_for_headers = time.monotonic() - started_s < REST_OF_HEADERS_S
            for plain in list(self._plain.open) if self._plain is not None else ():
                if not plain.is_busy and not (waits_for_headers and plain.has_bytes()):
                    plain.close()
            for connection, is_busy in list(self._is_busy.items()):
                if not is_busy and not (waits_for_headers and _has_bytes(connection)):
                    await _close(connection)
            await asyncio.sleep(LOOK_EVERY_S)
        n_cut = self.n_busy
        if self._plain is not None:
            self._plain.end()
            for plain in list(self._plain.open):
                plain.close()
        await self.close_all_connections()
        return n_cut

    def _are_any_open(self) -> bool:
        n_plain = len(self._plain.open) if self._plain is not None else 0
        return bool(self._is_busy or self._beginning or n_plain)

    async def _stop_accepting(self) -> None:
        # A connection that the operating system has accepted would be reset with its socket, so
        # the loop takes all of them before the socket goes, with nothing in between.
        deadline_s = time.monotonic() + ACCEPT_REST_S
        while _any_waits(self._listening) and time.monotonic() < deadline_s:
            await asyncio.sleep(0)
        self.stop()


class _Watched(HTTPMessageDelegate):
    """Tells the server when the headers of a request have come."""

    def __init__(
        self,
        delegate: HTTPMessageDelegate,
        connection: HTTP1ServerConnection,
        server: DrainingServer,
    ) -> None:
        self._connection = connection
        self._server = server
        self._delegate = delegate
        self.data_received = delegate.data_received  # type: ignore[method-assign]
        self.finish = delegate.finish  # type: ignore[method-assign]
        self.on_connection_close = delegate.on_connection_close  # type: ignore[method-assign]

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        self._server.note_headers(self._connection)
        return self._delegate.headers_received(start_line, headers)


def _any_waits(sockets: list[socket.socket]) -> bool:
    poll = select.poll()
    for sock in sockets:
        poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _has_bytes(connection: HTTP1ServerConnection) -> bool:
    """Whether part of a request has come already: read by tornado, or not yet."""
    stream = connection.stream
    if stream._read_buffer_size:
        return True
    try:
        return bool(stream.socket.recv(1, socket.MSG_PEEK))
    except OSError:
        return False


async def _close(connection: HTTP1ServerConnection) -> None:
    with contextlib.suppress(StreamClosedError):
        await connection.close()
