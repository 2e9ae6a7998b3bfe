"""Connections that begin as plain ones, byte by byte, against a real server."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import toys
from tests.standalone.hosts import StandaloneServer, start_standalone
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneServer]:
    folder = tmp_path_factory.mktemp("plain")
    log = folder / "access.log"
    options = ("--allow-pickle=True", "--keep-alive-s=3", f"--access-log={log}")
    with start_standalone(folder, *options) as running:
        for name, model in (("sum", toys.SumModel()), ("slow", toys.SleepModel())):
            artifact = Path(toys.write_model(model, folder).path)
            assert running.deploy(artifact, name).status_code == 201
        yield running


class Client:
    """A connection on which answers are read one after the other."""

    def __init__(self, server: StandaloneServer, receives_bytes: int = 0) -> None:
        self.server = server
        self.socket = socket.socket()
        if receives_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives_bytes)
        self.socket.settimeout(30)
        self.socket.connect(("127.0.0.1", server.port))
        self.buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def request(self, value: Any, model: str = "sum", key: str = "", fields: str = "") -> bytes:
        body = json.dumps({"instances": [[value]]}).encode()
        return (
            f"POST /mlserve/api/v1/predict/{model} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nX-MLServe-Key: {key or self.server.key}\r\n"
            f"{fields}Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    def answer(self) -> tuple[int, Any]:
        while b"\r\n\r\n" not in self.buffer:
            self._receive()
        head, _, rest = self.buffer.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        fields = {line.split(": ", 1)[0].lower(): line.split(": ", 1)[1] for line in lines[1:]}
        n_bytes = int(fields["content-length"])
        while len(rest) < n_bytes:
            self._receive()
            rest = self.buffer.partition(b"\r\n\r\n")[2]
        self.buffer = rest[n_bytes:]
        return int(lines[0].split()[1]), json.loads(rest[:n_bytes])

    def predictions(self) -> Any:
        status, body = self.answer()
        assert status == 200, body
        return body["predictions"]

    def is_closed(self) -> bool:
        return self.socket.recv(1) == b""

    def _receive(self) -> None:
        piece = self.socket.recv(65536)
        assert piece, f"closed after {self.buffer!r}"
        self.buffer += piece


@pytest.fixture
def client(server: StandaloneServer) -> Iterator[Client]:
    with Client(server) as connected:
        yield connected


def test_requests_on_one_connection_are_answered_one_after_the_other(client: Client) -> None:
    for value in (1.5, 2.5, 3.5):
        client.socket.sendall(client.request(value))
        assert client.predictions() == [value]


def test_a_thousand_requests_at_once_are_answered_in_their_order(client: Client) -> None:
    values = [float(i) for i in range(1000)]
    sent = b"".join(map(client.request, values))
    threading.Thread(target=client.socket.sendall, args=(sent,)).start()
    assert [client.predictions()[0] for _ in values] == values


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_request_in_pieces_is_answered(client: Client, size: int) -> None:
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = client.request(1.5)
    for start in range(0, len(request), size):
        client.socket.sendall(request[start : start + size])
    assert client.predictions() == [1.5]
    client.socket.sendall(client.request(2.5))
    assert client.predictions() == [2.5]


def test_a_rest_that_comes_late_is_waited_for(client: Client) -> None:
    request = client.request(1.5)
    client.socket.sendall(request[:-5])
    time.sleep(2.5)
    client.socket.sendall(request[-5:])
    assert client.predictions() == [1.5]


@pytest.mark.slow
def test_row_22_who_sends_a_head_ever_so_slowly_is_cut_off(client: Client) -> None:
    request = client.request(1.5, fields=f"X-Filler: {'x' * 5000}\r\n")
    client.socket.sendall(request[:100])
    client.socket.settimeout(0.2)
    deadline = time.monotonic() + 60
    for number in range(100, len(request)):
        assert time.monotonic() < deadline
        try:
            client.socket.sendall(request[number : number + 1])
            assert client.is_closed()
            return
        except TimeoutError:
            pass
        except ConnectionError:
            return


def test_a_head_ends_where_tornado_says_that_it_ends(client: Client) -> None:
    body = b'{"instances": [[1.5]]}'
    for early_end in ("\n\n", "\r\n\n", "\n\r\n"):
        with Client(client.server) as another:
            another.socket.sendall(
                f"POST /mlserve/api/v1/predict/sum HTTP/1.1\r\nHost: localhost\r\n"
                f"X-MLServe-Key: {client.server.key}{early_end}"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            assert another.answer()[0] == 400


def test_other_requests_go_on_where_plain_ones_began(client: Client) -> None:
    client.socket.sendall(client.request(1.5))
    assert client.predictions() == [1.5]
    client.socket.sendall(
        f"GET /mlserve/api/v1/models/sum HTTP/1.1\r\nHost: localhost\r\n"
        f"X-MLServe-Key: {client.server.key}\r\n\r\n".encode()
        + client.request(2.5)
    )
    status, body = client.answer()
    assert (status, body["name"]) == (200, "sum")
    assert client.predictions() == [2.5]


def test_what_is_refused_leaves_the_connection_good(client: Client) -> None:
    for request, status, code in (
        (client.request("x"), 422, "signature_mismatch"),
        (client.request(1.5, model="nothing"), 404, "model_not_found"),
        (client.request(1.5, key="mls_0_0_0"), 401, "unauthenticated"),
    ):
        client.socket.sendall(request)
        found, body = client.answer()
        assert (found, body["code"]) == (status, code)
    client.socket.sendall(client.request(1.5))
    assert client.predictions() == [1.5]


def test_a_key_that_memory_does_not_know_yet_is_looked_up(server: StandaloneServer) -> None:
    made = server.request(
        "POST", "api/v1/api-keys", json={"name": "new", "scopes": ["predict"], "rate_limit": 3}
    ).json()
    with Client(server) as first, Client(server) as second:
        for client in (first, second):
            client.socket.sendall(client.request(1.5, key=made["key"]))
        assert first.predictions() == second.predictions() == [1.5]
        statuses = []
        for _ in range(3):
            first.socket.sendall(first.request(1.5, key=made["key"]))
            statuses.append(first.answer()[0])
        assert statuses == [200, 429, 429]
        server.request("DELETE", f"api/v1/api-keys/{made['id']}")

        def is_refused() -> bool:
            second.socket.sendall(second.request(1.5, key=made["key"]))
            return second.answer()[0] == 401

        assert wait_for(is_refused, 30)


def test_a_caller_who_leaves_takes_the_call_along(server: StandaloneServer) -> None:
    with Client(server) as busy:
        busy.socket.sendall(busy.request(2.0, model="slow"))
        time.sleep(0.3)
        with Client(server) as gone:
            gone.socket.sendall(gone.request(1.0, model="slow"))
            time.sleep(0.3)
        assert busy.predictions() == [2.0]

    def statuses() -> list[str]:
        page = server.request("GET", "api/v1/analytics/models/slow/predictions").json()
        return sorted(item["status"] for item in page["items"])

    assert wait_for(lambda: statuses() == ["cancelled", "ok"], 30)
    log = server.folder / "access.log"
    assert wait_for(lambda: '"status":499' in log.read_text(), 30)


def test_an_idle_connection_is_closed_after_its_time(server: StandaloneServer) -> None:
    with Client(server) as fresh, Client(server) as used:
        used.socket.sendall(used.request(1.5))
        assert used.predictions() == [1.5]
        assert fresh.is_closed()
        assert used.is_closed()


def test_who_does_not_read_is_not_written_to_without_end(server: StandaloneServer) -> None:
    with Client(server, receives_bytes=4096) as deaf:
        deaf.socket.settimeout(2)
        request = deaf.request(1.5) * 200
        sent = 0
        try:
            while sent < 2**30:
                sent += deaf.socket.send(request)
        except OSError:
            pass  # it would have to wait
        assert sent < 64 * 2**20
        with Client(server) as other:
            other.socket.sendall(other.request(2.5))
            assert other.predictions() == [2.5]
