"""What no endpoint of a webhook can do to its sender, with real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlserve_jupyter.analytics.alerts import Alerts
from mlserve_jupyter.analytics.webhook import Webhook
from mlserve_jupyter.api import alerts as api
from mlserve_jupyter.settings import Settings
from tests.storage.databases import opened

WAIT_S = 30.0

Talk = Callable[[socket.socket, threading.Event], None]


def drip_a_head(peer: socket.socket, is_over: threading.Event) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not is_over.wait(0.1):
        peer.sendall(b"a")


def drip_a_status(peer: socket.socket, is_over: threading.Event) -> None:
    for byte in b"HTTP/1.1 " + b"0" * 10_000:
        peer.sendall(bytes([byte]))
        if is_over.wait(0.1):
            return


def drip_interim_answers(peer: socket.socket, is_over: threading.Event) -> None:
    while not is_over.wait(0.1):
        peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


def pour_interim_answers(peer: socket.socket, is_over: threading.Event) -> None:
    while not is_over.is_set():
        peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 200)


def pour_a_header(peer: socket.socket, is_over: threading.Event) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\n")
    while not is_over.is_set():
        peer.sendall(b"X: " + b"a" * 1000 + b"\r\n")


def drip_a_handshake(peer: socket.socket, is_over: threading.Event) -> None:
    peer.sendall(b"\x16\x03\x03\x3f\xff")  # a record of TLS, which never ends
    drip_a_status(peer, is_over)


@contextmanager
def endpoint(talk: Talk) -> Iterator[tuple[str, threading.Event]]:
    """Give the address of an endpoint, and what says that its one caller has hung up."""
    is_over, has_hung_up = threading.Event(), threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                with contextlib.suppress(ConnectionError):
                    talk(peer, is_over)
            has_hung_up.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}/hook?token=planted-secret", has_hung_up
        finally:
            is_over.set()
            thread.join(WAIT_S)


@pytest.mark.parametrize(
    ("talk", "scheme"),
    [
        (drip_a_head, "http"),
        (drip_a_status, "http"),
        (drip_interim_answers, "http"),
        (drip_a_handshake, "https"),
    ],
)
def test_an_endpoint_that_goes_on_and_on_is_hung_up_on_when_its_time_is_over(
    talk: Talk, scheme: str
) -> None:
    with endpoint(talk) as (place, has_hung_up):
        problem = Webhook(f"{scheme}://{place}", timeout_s=0.5).send(b"{}")
        assert problem == "127.0.0.1 has not answered within 0.5 s"
        assert has_hung_up.wait(WAIT_S)


@pytest.mark.parametrize("talk", [pour_interim_answers, pour_a_header])
def test_an_endpoint_whose_answer_has_no_end_is_hung_up_on_at_a_length(talk: Talk) -> None:
    with endpoint(talk) as (place, has_hung_up):
        problem = Webhook(f"http://{place}", timeout_s=WAIT_S).send(b"{}")
        assert problem == "127.0.0.1 cannot be reached (HTTPException)"
        assert has_hung_up.wait(WAIT_S)


def test_messages_to_an_endpoint_that_hangs_have_one_thread_between_them() -> None:
    def deliveries() -> int:
        return sum(thread.name == "mlserve-webhook" for thread in threading.enumerate())

    with endpoint(drip_a_head) as (place, _):
        hook = Webhook(f"http://{place}", timeout_s=1.0)
        problems: list[str | None] = []
        senders = [
            threading.Thread(target=lambda: problems.append(hook.send(b"{}"))) for _ in range(5)
        ]
        for sender in senders:
            sender.start()
        most = 0
        while any(sender.is_alive() for sender in senders):
            most = max(most, deliveries())
            time.sleep(0.01)
    assert most == 1
    assert len(problems) == 5
    assert None not in problems


def test_a_message_goes_after_one_that_was_given_up() -> None:
    def take(peer: socket.socket, is_over: threading.Event) -> None:
        peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")

    with endpoint(drip_a_head) as (place, _):
        assert Webhook(f"http://{place}", timeout_s=0.2).send(b"{}") is not None
    with endpoint(take) as (place, _):
        assert Webhook(f"http://{place}", timeout_s=WAIT_S).send(b"{}") is None


def test_a_message_goes_after_one_for_which_no_thread_could_be_started() -> None:
    def take(peer: socket.socket, is_over: threading.Event) -> None:
        peer.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with endpoint(take) as (place, _):
        hook = Webhook(f"http://{place}", timeout_s=WAIT_S)
        usual = threading.stack_size(2**46)  # more than there are addresses
        try:
            assert hook.send(b"{}") == "the server cannot start a thread for it"
        finally:
            threading.stack_size(usual)
        assert hook.send(b"{}") is None


@pytest.mark.slow
@pytest.mark.anyio
async def test_tests_of_a_webhook_that_hangs_share_one_message_and_hold_up_no_thread_of_others(
    tmp_path: Path,
) -> None:
    with endpoint(drip_a_head) as (place, _):
        settings = Settings(data_dir=tmp_path, alert_webhook_url=f"http://{place}")
        with opened(settings) as engine:
            alerts = Alerts(engine, settings, (), (), "this-host")
            asked = [asyncio.create_task(alerts.test_webhook()) for _ in range(100)]
            await asyncio.sleep(0)
            await asyncio.to_thread(lambda: None)
            assert not any(task.done() for task in asked)
            answers = await asyncio.wait_for(asyncio.gather(*asked), WAIT_S)
    problem = "127.0.0.1 has not answered within 5 s"
    assert answers == [api.TestedWebhook(is_taken=False, problem=problem)] * 100
