"""The webhook that is told of alerts: one POST a message, bounded in every way.

The address is the operator's alone (a setting, which no request can change), so that callers
cannot have this server send requests to where they cannot reach themselves. Redirects are not
followed, the answer's body is not read, and no credential of anybody's goes along. The standard
library's client is used because it logs no URL and heeds no environment.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import socket
import ssl
import threading
import time
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import SplitResult, urlsplit

from mlserve_jupyter.version import __version__

TIMEOUT_S = 5.0

MAX_HEAD_BYTES = 16 * 1024
"""Of all that comes before the answer's body, with the interim answers (1xx) before it."""

SIGNATURE = "X-MLServe-Signature"
"""The header with ``sha256=`` and the HMAC of the body, where a secret is set."""

_turn = threading.Lock()
"""Held by the delivery that is under way, whose thread releases it: an endpoint that hangs holds up
one thread, no more."""


class Webhook:
    """Where messages go.

    Parameters
    ----------
    url
        ``http`` or ``https``. It may hold a secret, and is not repeated anywhere.
    secret
        Signs messages; empty for no signature.
    timeout_s
        Of a message in all, whatever the endpoint does.
    """

    def __init__(self, url: str, secret: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self._secret = secret.encode()
        self._timeout_s = timeout_s

    @property
    def host(self) -> str:
        """The address as far as it may be shown."""
        return urlsplit(self._url).hostname or ""

    def send(self, body: bytes) -> str | None:
        """Send a message, as soon as no other one of this process is under way.

        Returns
        -------
        str or None
            Why it was not taken; None where it was.
        """
        deadline_s = time.monotonic() + self._timeout_s
        delivery = _Delivery(urlsplit(self._url), self._headers(body), body, self._timeout_s)
        if not _turn.acquire(timeout=self._timeout_s):
            return f"another message has been under way for {self._timeout_s:g} s"
        try:
            delivery.start()
        except RuntimeError:  # the process has as many threads as it may have
            _turn.release()
            return "the server cannot start a thread for it"
        delivery.join(max(deadline_s - time.monotonic(), 0.0))
        if delivery.is_alive():
            delivery.give_up()
            return f"{self.host} has not answered within {self._timeout_s:g} s"
        return delivery.problem

    def _headers(self, body: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"mlserve-jupyter/{__version__}",
        }
        if self._secret:
            digest = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
            headers[SIGNATURE] = f"sha256={digest}"
        return headers


class _Delivery(threading.Thread):
    """One request, in a thread that nobody has to wait for.

    A time-out of a socket is one of each piece, and looking a host up has none at all, so whoever
    waits gives up, and the socket is shut under the request.

    Attributes
    ----------
    problem
        Why the message was not taken; None where it was.
    """

    def __init__(
        self, url: SplitResult, headers: dict[str, str], body: bytes, timeout_s: float
    ) -> None:
        super().__init__(name="mlserve-webhook", daemon=True)
        self.problem: str | None = None
        self._url = url
        self._headers = headers
        self._body = body
        self._timeout_s = timeout_s
        self._sock: socket.socket | None = None
        self._is_given_up = False

    def run(self) -> None:
        host = self._url.hostname or ""
        try:
            status = self._status(host)
            if not 200 <= status < 300:
                self.problem = f"{host} has answered {status}"
        except TimeoutError:
            self.problem = f"{host} has not answered within {self._timeout_s:g} s"
        except (OSError, HTTPException, ValueError) as error:
            self.problem = f"{host} cannot be reached ({type(error).__name__})"
        finally:
            _turn.release()

    def give_up(self) -> None:
        """Have the request fail, wherever it is."""
        self._is_given_up = True
        if self._sock is not None:
            _shut(self._sock)

    def _status(self, host: str) -> int:
        url = self._url
        is_https = url.scheme == "https"
        connection = (HTTPSConnection if is_https else HTTPConnection)(host, url.port)
        connection.response_class = _BoundedResponse
        try:
            sock = socket.create_connection((host, connection.port), self._timeout_s)
            connection.sock = sock
            if is_https:
                context = ssl.create_default_context()
                context.set_alpn_protocols(["http/1.1"])
                sock = context.wrap_socket(
                    sock, server_hostname=host, do_handshake_on_connect=False
                )
                connection.sock = sock
            self._hold(sock)
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
            connection.request("POST", target, self._body, self._headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def _hold(self, sock: socket.socket) -> None:
        self._sock = sock
        if self._is_given_up:  # while there was no socket to shut
            _shut(sock)


class _BoundedResponse(HTTPResponse):
    """An answer whose head is read up to a length."""

    def __init__(
        self,
        sock: socket.socket,
        debuglevel: int = 0,
        method: str | None = None,
        url: str | None = None,
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        self.fp.close()
        self.fp = io.BufferedReader(_Head(sock), 1024)


class _Head(io.RawIOBase):
    """The first bytes that come."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._n_left = MAX_HEAD_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._n_left == 0:
            raise HTTPException("the head of the answer is too long")
        n = self._sock.recv_into(buffer[: self._n_left])
        self._n_left -= n
        return n


def _shut(sock: socket.socket) -> None:
    # Not that of an SSLSocket, which would take its state away under the thread that reads.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
