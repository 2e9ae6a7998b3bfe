from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tcp_proxy import TcpProxy


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that answers what it is sent."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1024):
                    connection.sendall(data)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def proxy(echo: tuple[str, int]) -> Iterator[TcpProxy]:
    with TcpProxy(echo) as proxy:
        yield proxy


def connected(proxy: TcpProxy, timeout_s: float = 30) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout_s)


def echoed(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return connection.recv(1024)


def test_it_forwards(proxy: TcpProxy) -> None:
    with connected(proxy) as one, connected(proxy) as two:
        assert echoed(one, b"one") == b"one"
        assert echoed(two, b"two") == b"two"
        assert proxy.n_connections == 2


def test_a_black_hole_answers_nothing_and_what_was_sent_arrives_when_it_heals(
    proxy: TcpProxy,
) -> None:
    with connected(proxy) as old:
        assert echoed(old, b"before") == b"before"
        proxy.black_hole()
        with connected(proxy) as new:
            for connection in (old, new):
                connection.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    echoed(connection, b"during")
            proxy.heal()
            for connection in (old, new):
                connection.settimeout(30)
                assert connection.recv(1024) == b"during"


def test_a_cut_resets_what_is_open_and_takes_new_connections(proxy: TcpProxy) -> None:
    with connected(proxy) as old:
        assert echoed(old, b"before") == b"before"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            old.recv(1024)
    with connected(proxy) as new:
        assert echoed(new, b"after") == b"after"


def test_what_refuses_takes_no_connection_until_it_heals_on_the_same_port(proxy: TcpProxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)
    proxy.heal()
    with connected(proxy) as new:
        assert echoed(new, b"after") == b"after"


def test_a_server_that_is_away_ends_the_connection(tmp_path: Path) -> None:
    with TcpProxy(tmp_path / "nothing.sock") as proxy, connected(proxy) as connection:
        assert connection.recv(1024) == b""
