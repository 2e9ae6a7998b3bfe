"""A proxy before a server of HTTP, which answers in its place as a server in trouble does."""

from __future__ import annotations

import http.client
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length", "date", "server"}


class FaultyHttp:
    """Forwards requests to a server, until it is told otherwise.

    Parameters
    ----------
    port
        Of the server, on 127.0.0.1.

    Attributes
    ----------
    endpoint
        Where it listens.
    n_failures
        So many requests from now on are answered with ``failure`` instead of being forwarded.
    failure
        A status and S3's code for it.
    delay_s
        How long each request waits.
    bytes_per_s
        How fast answers are sent; 0 for as fast as they can be.
    flip
        Whether a byte of each answer that is no XML is changed.
    requests
        Method and path of what came, in order.
    """

    def __init__(self, port: int) -> None:
        self.n_failures = 0
        self.failure = 500, b"InternalError"
        self.delay_s = 0.0
        self.bytes_per_s = 0
        self.flip = False
        self.requests: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        faults = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None: ...

            def handle_any(self) -> None:
                faults._answer(self, port)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> FaultyHttp:
        return self

    def __exit__(self, *of_the_exception: object) -> None:
        self.close()

    def _answer(self, request: Any, port: int) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        with self._lock:
            self.requests.append((request.command, request.path))
            fails = self.n_failures > 0
            self.n_failures -= fails
        time.sleep(self.delay_s)
        status, code = self.failure
        headers: list[tuple[str, str]] = []
        content = b"<Error><Code>" + code + b"</Code></Error>"
        if not fails:
            try:
                with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as onward:
                    onward.request(request.command, request.path, body, dict(request.headers))
                    with closing(onward.getresponse()) as answer:
                        status, headers, content = answer.status, answer.getheaders(), answer.read()
            except OSError:
                request.close_connection = True
                return
        length = len(content)
        if request.command == "HEAD":
            length = int(dict(headers).get("Content-Length", 0))
        if self.flip and content and not content.startswith(b"<"):
            content = content[:-1] + bytes([content[-1] ^ 1])
        request.send_response(status)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                request.send_header(name, value)
        request.send_header("Content-Length", str(length))
        request.end_headers()
        try:
            self._send(request, content)
        except OSError:
            request.close_connection = True

    def _send(self, request: Any, content: bytes) -> None:
        if not self.bytes_per_s:
            request.wfile.write(content)
            return
        piece = max(1, self.bytes_per_s // 10)
        for start in range(0, len(content), piece):
            request.wfile.write(content[start : start + piece])
            time.sleep(0.1)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *of_the_connection: object) -> None:
        """Say nothing: connections are reset here on purpose."""
