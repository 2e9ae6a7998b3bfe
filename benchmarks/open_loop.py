"""Many connections that each send at their own pace, whatever the server does.

``wrk`` sends as fast as it is answered; this client keeps to a rate. It is one ``epoll`` loop on
bare sockets, since two cores are shared with the server: about 15 µs a request. A connection waits
for its answer before it sends again, at its next turn or at once if that is over.
"""

from __future__ import annotations

import heapq
import multiprocessing
import select
import socket
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace

from benchmarks.wrk import Target, bodies_of

SOURCES = ("127.0.0.1", "127.0.0.2")
"""Where connections come from in turn: one address has 28,000 ports."""

CONNECT_S = 20.0
ANSWER_TIMEOUT_S = 30.0

_HEADERS_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Plan:
    """What a client does.

    Attributes
    ----------
    rate_s
        Requests a second over all connections.
    warm_up_s, seconds
        How long requests are sent before answers are counted, and after that.
    """

    target: Target
    n_connections: int
    rate_s: float
    seconds: float
    warm_up_s: float = 1.0


@dataclass
class Outcome:
    """What came of it, the time of warming up aside.

    Attributes
    ----------
    latencies_ms
        Of the answers with status 200.
    statuses
        Answers by status.
    n_sent
        Requests, from the beginning.
    n_errors
        Connections that could not be made, were cut, or gave no answer in time.
    n_without_retry_after
        Refusals (429, 503) that did not say when to come back.
    """

    latencies_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    n_connected: int = 0
    n_sent: int = 0
    n_errors: int = 0
    n_without_retry_after: int = 0
    seconds: float = 0.0

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the latencies; not a number where there are none."""
        ordered = sorted(self.latencies_ms)
        if not ordered:
            return float("nan")
        return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]

    @property
    def goodput_s(self) -> float:
        """Answers with status 200 a second."""
        return self.statuses[200] / self.seconds


def run(plan: Plan, n_processes: int = 2) -> Outcome:
    """Run a plan, divided among processes."""
    part = replace(
        plan, n_connections=plan.n_connections // n_processes, rate_s=plan.rate_s / n_processes
    )
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes, mp_context=context) as pool:
        outcomes = list(pool.map(_run_alone, [part] * n_processes))
    whole = Outcome(seconds=plan.seconds)
    for outcome in outcomes:
        whole.latencies_ms += outcome.latencies_ms
        whole.statuses += outcome.statuses
        whole.n_connected += outcome.n_connected
        whole.n_sent += outcome.n_sent
        whole.n_errors += outcome.n_errors
        whole.n_without_retry_after += outcome.n_without_retry_after
    return whole


def _run_alone(plan: Plan) -> Outcome:
    return _Client(plan).run()


class _Client:
    """One process's share."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._outcome = Outcome(seconds=plan.seconds)
        self._requests = _requests(plan.target)
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._due: list[tuple[float, int]] = []
        self._was_due: dict[int, float] = {}
        self._sent_at: dict[int, float] = {}
        self._received: dict[int, bytes] = {}
        self._measured_from = self._end = 0.0

    def run(self) -> Outcome:
        """Connect, send until the time is over, and wait for what is still to come."""
        self._connect()
        n = len(self._sockets)
        if not n:
            return self._outcome
        pace_s = n / self._plan.rate_s
        started = time.perf_counter()
        self._due = [(started + i / self._plan.rate_s, fd) for i, fd in enumerate(self._sockets)]
        self._measured_from = started + self._plan.warm_up_s
        end = self._end = self._measured_from + self._plan.seconds
        last = end + ANSWER_TIMEOUT_S
        while (now := time.perf_counter()) < last:
            is_sending = now < end
            while is_sending and self._due and self._due[0][0] <= now:
                self._send(*heapq.heappop(self._due))
                now = time.perf_counter()
                is_sending = now < end
            if not is_sending and not self._sent_at:
                break
            wait_s = self._due[0][0] - now if is_sending and self._due else 0.05
            for fd, _ in self._poll.poll(max(0.0, min(wait_s, 0.05)), 512):
                self._receive(fd, pace_s)
        self._outcome.n_errors += len(self._sent_at)
        for sock in self._sockets.values():
            sock.close()
        return self._outcome

    def _connect(self) -> None:
        host, _, port = self._plan.target.url.split("/")[2].partition(":")
        deadline = time.perf_counter() + CONNECT_S
        for i in range(self._plan.n_connections):
            sock = socket.socket()
            sock.settimeout(max(0.01, deadline - time.perf_counter()))
            try:
                sock.bind((SOURCES[i % len(SOURCES)], 0))
                sock.connect((host, int(port)))
            except OSError:
                self._outcome.n_errors += 1
                sock.close()
                continue
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[sock.fileno()] = sock
            self._poll.register(sock, select.EPOLLIN)
        self._outcome.n_connected = len(self._sockets)

    def _send(self, due: float, fd: int) -> None:
        request = self._requests[self._outcome.n_sent % len(self._requests)]
        self._outcome.n_sent += 1
        self._was_due[fd] = due
        self._sent_at[fd] = time.perf_counter()
        try:
            # A body of one row fits into the socket's buffer, which is empty.
            self._sockets[fd].send(request)
        except OSError:
            self._lose(fd)

    def _receive(self, fd: int, pace_s: float) -> None:
        try:
            piece = self._sockets[fd].recv(65536)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._lose(fd)
            return
        answer = self._received.pop(fd, b"") + piece
        if not _is_whole(answer):
            self._received[fd] = answer
            return
        now = time.perf_counter()
        sent_at, due = self._sent_at.pop(fd), self._was_due.pop(fd)
        if self._measured_from <= now < self._end:
            self._note(answer, (now - sent_at) * 1e3)
        heapq.heappush(self._due, (max(now, due + pace_s), fd))

    def _note(self, answer: bytes, latency_ms: float) -> None:
        status = int(answer[9:12])
        self._outcome.statuses[status] += 1
        if status == 200:
            self._outcome.latencies_ms.append(latency_ms)
        elif status in (429, 503) and b"\r\nretry-after:" not in answer.lower():
            self._outcome.n_without_retry_after += 1

    def _lose(self, fd: int) -> None:
        """Count a connection as lost; it is not made again."""
        self._outcome.n_errors += 1
        self._sent_at.pop(fd, None)
        self._was_due.pop(fd, None)
        self._poll.unregister(fd)
        self._sockets.pop(fd).close()


def _requests(target: Target) -> list[bytes]:
    host, path = target.url.split("/", 3)[2:]
    headers = {"Host": host, "Content-Type": "application/json", **target.headers}
    head = f"POST /{path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    return [
        f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode() for body in bodies_of(target)
    ]


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(_HEADERS_END)
    if not end:
        return False
    length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
    return len(body) >= int(length or 0)
