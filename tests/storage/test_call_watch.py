from __future__ import annotations

import socket
import threading
import time
from math import inf

import pytest

from mlserve_jupyter.storage import call_watch
from mlserve_jupyter.storage.call_watch import CallWatch


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "call-watch" in thread.name]


def test_the_socket_of_a_call_that_takes_too_long_is_shut_and_no_other_one() -> None:
    watch = CallWatch()
    waiting, other_end = socket.socketpair()
    patient, its_other_end = socket.socketpair()
    shut: list[str] = []
    with waiting, other_end, patient, its_other_end:
        with (
            watch.watching(patient.fileno(), 60, lambda: shut.append("patient")),
            watch.watching(waiting.fileno(), 0.1, lambda: shut.append("waiting")),
        ):
            assert waiting.recv(1) == b""
        assert shut == ["waiting"]
        its_other_end.sendall(b"x")
        assert patient.recv(1) == b"x"
        assert waiting.fileno() != -1, "whoever opened it closes it"


def test_a_shorter_limit_that_comes_later_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = CallWatch()
    waiting, other_end = socket.socketpair()
    with waiting, other_end, watch.watching(other_end.fileno(), 60):
        time.sleep(0.05)
        with watch.watching(waiting.fileno(), 0.1):
            assert waiting.recv(1) == b""


def test_a_socket_whose_call_is_over_is_left_alone() -> None:
    watch = CallWatch()
    done, other_end = socket.socketpair()
    late, its_other_end = socket.socketpair()
    with done, other_end, late, its_other_end:
        with watch.watching(done.fileno(), 0.05):
            pass
        with watch.watching(late.fileno(), 0.2):
            assert late.recv(1) == b""
        other_end.sendall(b"x")
        assert done.recv(1) == b"x"


def test_all_calls_can_be_ended_at_once() -> None:
    watch = CallWatch()
    waiting, other_end = socket.socketpair()
    with waiting, other_end, watch.watching(waiting.fileno(), 60):
        watch.shut_all()
        assert waiting.recv(1) == b""


def test_what_may_take_for_ever_is_not_watched() -> None:
    watch = CallWatch()
    before = len(threads())
    with watch.watching(0, inf):
        assert len(threads()) == before


def test_the_thread_ends_without_calls_and_begins_again_with_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(call_watch, "_IDLE_S", 0.05)
    watch = CallWatch()
    before = len(threads())
    for _ in range(2):
        waiting, other_end = socket.socketpair()
        with waiting, other_end, watch.watching(waiting.fileno(), 0.05):
            assert waiting.recv(1) == b""
        deadline_s = time.monotonic() + 30
        while len(threads()) > before and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert len(threads()) == before
