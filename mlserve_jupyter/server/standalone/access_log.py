"""The access log: one JSON line a request, written by a thread of its own.

The event loop only appends to a bounded buffer. Where the disk or the reader of stderr cannot
keep up, lines are dropped, and a line says how many.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import deque
from datetime import datetime, timezone

import msgspec
from tornado.web import RequestHandler

from mlserve_jupyter.errors import SettingsInvalid
from mlserve_jupyter.server.fast_predict import FastCall
from mlserve_jupyter.serving.call_record import CallRecord

log = logging.getLogger(__name__)

MAX_WAITING = 20_000
WRITE_EVERY_S = 0.1
CLOSE_TIMEOUT_S = 2.0
MAX_PATH_CHARS = 1000

CALLER_GONE = 499
"""Logged where the caller did not wait for the answer; nginx's number for it."""

_MODEL = re.compile(r"/mlserve/api/v1/(?:predict|models|analytics/models)/([^/]+)")
_VERSION = re.compile(r"/versions/([0-9]{1,9})(?:/|$)")


class AccessLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request.

    Attributes
    ----------
    path
        Without its query, which may hold what is nobody's business.
    bytes
        Of the answer's body.
    address
        Of the client.
    principal, model, version
        Where they are known.
    rows, cached, queue_ms, load_ms, predict_ms
        Of predictions that a version was found for.
    """

    time: str
    request_id: str
    method: str
    path: str
    status: int
    ms: float
    bytes: int
    pid: int
    address: str = ""
    principal: str | None = None
    model: str | None = None
    version: int | None = None
    rows: int | None = None
    cached: bool | None = None
    queue_ms: float | None = None
    load_ms: float | None = None
    predict_ms: float | None = None


class DroppedLine(msgspec.Struct, frozen=True):
    """How many requests have no line, since the last line that says so."""

    time: str
    dropped: int


class _Call(msgspec.Struct, frozen=True):
    version: int
    rows: int
    cached: bool
    queue_ms: float
    load_ms: float
    predict_ms: float


class _Request(msgspec.Struct, frozen=True):
    ended_at_s: float
    duration_s: float
    status: int
    n_bytes: int
    request_id: str
    method: str
    path: str
    address: str
    principal: object
    call: _Call | None


class AccessLog:
    """Where the lines go.

    Parameters
    ----------
    target
        ``off``, ``stderr`` or the path of a file, which is appended to.

    Raises
    ------
    OSError
        If the file cannot be opened.
    """

    def __init__(self, target: str) -> None:
        self._waiting: deque[_Request] = deque()
        self._n_dropped = 0
        self._target = "off"
        self._fd = -1
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._writing = threading.Lock()
        self.open(target)

    def open(self, target: str) -> None:
        """Write to ``target`` from now on; a file that was moved away is made anew."""
        fd = _open(target)
        with self._writing:
            old, self._fd, self._target = self._fd, fd, target
        if old > 2:
            os.close(old)
        if self._thread is None and target != "off":
            self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
            self._thread.start()

    def note(self, handler: RequestHandler | FastCall) -> None:
        """Take note of a finished request; tornado calls this, and the short way."""
        if self._target == "off":
            return
        if len(self._waiting) >= MAX_WAITING:
            self._n_dropped += 1
            return
        request = handler.request
        self._waiting.append(
            _Request(
                time.time(),
                request.request_time(),
                CALLER_GONE if getattr(handler, "is_caller_gone", False) else handler.get_status(),
                getattr(handler, "n_bytes_written", 0),
                getattr(handler, "request_id", ""),
                request.method or "",
                request.path,
                getattr(handler, "client_address", ""),
                getattr(handler, "principal", None),
                _call_of(handler),
            )
        )

    def close(self) -> None:
        """Write what waits."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        while not self._closing.wait(WRITE_EVERY_S):
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        lines: list[bytes] = []
        while self._waiting:
            lines.append(line_of(self._waiting.popleft()))
        if self._n_dropped:
            dropped, self._n_dropped = self._n_dropped, 0
            lines.append(msgspec.json.encode(DroppedLine(_iso(time.time()), dropped)))
        if not lines:
            return
        with self._writing:
            try:
                # Whole lines at once, so that those of several processes do not mix.
                for start in range(0, len(lines), 100):
                    _write_all(self._fd, b"\n".join(lines[start : start + 100]) + b"\n")
            except OSError as error:
                log.warning("The access log cannot be written: %s", error)


def check_target(target: str) -> None:
    """Refuse a file that cannot be written.

    Raises
    ------
    SettingsInvalid
        Naming it.
    """
    try:
        fd = _open(target)
    except OSError as error:
        raise SettingsInvalid(
            f"access_log cannot be written to {target}: {error.strerror}."
        ) from error
    if fd > 2:
        os.close(fd)


def line_of(request: _Request) -> bytes:
    """Return a request as JSON, in which control characters are escaped."""
    model = _MODEL.search(request.path)
    version = _VERSION.search(request.path)
    call = request.call
    of_call = {} if call is None else msgspec.structs.asdict(call)
    return msgspec.json.encode(
        AccessLine(
            time=_iso(request.ended_at_s),
            request_id=request.request_id,
            method=request.method,
            path=request.path[:MAX_PATH_CHARS],
            status=request.status,
            ms=round(request.duration_s * 1e3, 3),
            bytes=request.n_bytes,
            pid=os.getpid(),
            address=request.address,
            principal=None if request.principal is None else str(request.principal),
            model=model[1][:MAX_PATH_CHARS] if model else None,
            **{"version": int(version[1]) if version else None, **of_call},
        )
    )


def _call_of(handler: RequestHandler | FastCall) -> _Call | None:
    record: CallRecord | None = getattr(handler, "call", None)
    if record is None:
        return None
    return _Call(
        record.version.version,
        record.n_rows,
        record.cached,
        round(record.queue_ms, 3),
        round(record.load_ms, 3),
        round(record.predict_ms, 3),
    )


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, timezone.utc).isoformat(timespec="milliseconds")


def _open(target: str) -> int:
    if target == "off":
        return -1
    if target == "stderr":
        return 2
    return os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _write_all(fd: int, data: bytes) -> None:
    while data and fd >= 0:
        data = data[os.write(fd, data) :]
