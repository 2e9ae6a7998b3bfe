"""SIGTERM, SIGINT, SIGHUP and processes that die, under load."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests import toys
from tests.standalone.hosts import StandaloneServer, start_standalone
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

BODY = {"instances": [[1.0]]}

LATE = "came too late to be accepted"
"""Between the last accept and the close of a listening socket the system may still take a
connection that no process will ever see. An HTTP client calls again, since no answer began."""


class Load:
    """Clients that call until they can no longer connect, and what they got.

    Parameters
    ----------
    keep_alive
        Whether a client keeps its connection for as long as the server lets it.
    """

    def __init__(self, server: StandaloneServer, n_clients: int, *, keep_alive: bool) -> None:
        self.server = server
        self.keep_alive = keep_alive
        self.results: Counter[str] = Counter()
        self.threads = [threading.Thread(target=self._call) for _ in range(n_clients)]
        self.request = (
            b"POST /mlserve/api/v1/predict/clf HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nX-MLServe-Key: " + server.key.encode() + b"\r\n"
            b"Content-Length: 21\r\n" + (b"" if keep_alive else b"Connection: close\r\n")
            + b'\r\n{"instances":[[1.0]]}'
        )  # fmt: skip

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def join(self) -> Counter[str]:
        for thread in self.threads:
            thread.join(60)
        return self.results

    def _call(self) -> None:
        while True:
            try:
                sock = socket.create_connection(("127.0.0.1", self.server.port), timeout=30)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                self.results[LATE] += 1
                continue
            with sock:
                while self._ask(sock):
                    pass

    def _ask(self, sock: socket.socket) -> bool:
        """Ask once; whether the connection can be used again."""
        try:
            sock.sendall(self.request)
            answer = b""
            while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
                piece = sock.recv(65536)
                if not piece:
                    raise ConnectionResetError("closed")
                answer += piece
        except OSError as error:
            self.results[
                f"{type(error).__name__} after {len(answer)} bytes" if answer else LATE
            ] += 1
            return False
        head = answer.partition(b"\r\n\r\n")[0]
        self.results[head.split(b" ", 2)[1].decode()] += 1
        return self.keep_alive and b"\r\nConnection: close" not in head


@pytest.mark.parametrize("workers", [1, 2])
def test_row_29_sigterm_under_load_fails_not_one_accepted_request(
    tmp_path: Path, workers: int
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    options = (f"--workers={workers}", "--allow-pickle=True", "--drain-grace-s=3")
    with start_standalone(tmp_path, *options) as server:
        assert server.deploy(artifact, "clf").status_code == 201
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        loads = [Load(server, 8, keep_alive=True), Load(server, 4, keep_alive=False)]
        for load in loads:
            load.start()
        time.sleep(1.5)
        server.process.send_signal(signal.SIGTERM)
        assert wait_for(lambda: httpx.get(server.url + "health/ready").status_code == 503, 2.5)
        assert httpx.get(server.url + "health/live").status_code == 200
        for load in loads:
            results = load.join()
            assert results.pop(LATE, 0) < len(load.threads), results
            assert set(results) == {"200"}, results
            assert results["200"] > 50
        assert server.process.wait(60) == 0
        for sock in idle:
            assert sock.recv(1) == b""
            sock.close()


@pytest.mark.parametrize(("seconds", "drain_timeout_s", "exit_code"), [(3.0, 60, 0), (600.0, 3, 1)])
def test_a_request_that_runs_is_finished_and_one_that_does_not_end_is_cut(
    tmp_path: Path, seconds: float, drain_timeout_s: int, exit_code: int
) -> None:
    artifact = Path(toys.write_model(toys.SleepModel(), tmp_path).path)
    options = (
        "--allow-pickle=True", "--drain-grace-s=0", f"--drain-timeout-s={drain_timeout_s}",
        "--MLServeServer.predict_timeout_s=900",
    )  # fmt: skip
    with start_standalone(tmp_path, *options) as server:
        assert server.deploy(artifact, "clf").status_code == 201
        results: list[object] = []

        def call() -> None:
            try:
                body = {"instances": [[seconds]]}
                results.append(server.request("POST", "api/v1/predict/clf", json=body))
            except httpx.TransportError as error:
                results.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        time.sleep(1.5)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(90) == exit_code
        thread.join()
        if exit_code == 0:
            assert isinstance(results[0], httpx.Response)
            assert results[0].json()["predictions"] == [seconds]
        else:
            assert isinstance(results[0], httpx.TransportError)


def test_a_second_signal_ends_it_hard(tmp_path: Path) -> None:
    with start_standalone(tmp_path, "--drain-grace-s=60") as server:
        pids = server.pids()
        server.process.send_signal(signal.SIGTERM)
        assert wait_for(lambda: "Stopping" in server.log(), 30)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(5) == 1
        assert not any(is_running(pid) for pid in pids)


def test_a_process_that_dies_is_replaced_and_the_others_answer_meanwhile(tmp_path: Path) -> None:
    with start_standalone(tmp_path, "--workers=2") as server:
        first = server.pids()
        assert len(first) == 2
        os.kill(first[0], signal.SIGKILL)
        assert wait_for(lambda: len(server.pids()) == 2 and first[0] not in server.pids(), 30)
        assert first[1] in server.pids()
        for _ in range(10):
            assert server.request("GET", "api/v1/models").status_code == 200


def test_a_process_that_dies_again_and_again_is_started_ever_more_slowly(tmp_path: Path) -> None:
    with start_standalone(tmp_path) as server:
        deadline = time.monotonic() + 4
        while time.monotonic() < deadline:
            for pid in server.pids():
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        # At once, and after 0.2, 0.4, 0.8, 1.6 and 3.2 seconds.
        assert 3 <= server.log().count("ended (signal 9)") <= 7


def test_server_processes_end_with_their_parent(tmp_path: Path) -> None:
    artifact = Path(toys.write_model(toys.PidModel(), tmp_path).path)
    with start_standalone(tmp_path, "--allow-pickle=True", "--drain-grace-s=60") as server:
        server.deploy(artifact, "clf")
        [worker] = server.request("POST", "api/v1/predict/clf", json=BODY).json()["predictions"]
        pids = [*server.pids(), worker]
        server.process.kill()
        assert wait_for(lambda: not any(is_running(pid) for pid in pids), 30)


def test_sighup_changes_what_it_can_and_refuses_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    config = tmp_path / "config" / "jupyter_mlserve_config.py"
    config.write_text("c.MLServeServer.max_body_bytes = 100\n")
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    access_log = tmp_path / "access.log"
    options = ("--allow-pickle=True", f"--access-log={access_log}")
    with start_standalone(tmp_path, *options) as server:
        assert server.deploy(artifact, "clf").status_code == 201
        pids = server.pids()

        def status() -> int:
            body = {"instances": [[1.0]] * 100}
            return server.request("POST", "api/v1/predict/clf", json=body).status_code

        def reload(content: str) -> None:
            config.write_text(content)
            server.process.send_signal(signal.SIGHUP)

        assert status() == 413
        reload("c.MLServeServer.max_body_bytes = 10_000\nc.MLServeServer.keep_alive_s = 9\n")
        assert wait_for(lambda: status() == 200, 30)
        assert "need a restart: keep_alive_s" in server.log()
        for broken in ("c.MLServeServer.max_body_bytes = -1", "this is not python",
                       "c.MLServeServer.max_body_bytes = 'large'"):  # fmt: skip
            refusals = server.log().count("is refused")
            reload(broken)
            assert wait_for(lambda n=refusals: server.log().count("is refused") > n, 30)
            assert status() == 200

        old_key = server.key
        access_log.rename(tmp_path / "access.log.1")
        key_file = server.data_dir / "mlserve-standalone.key"
        key_file.unlink()
        reload("c.MLServeServer.max_body_bytes = 10_000")
        assert wait_for(lambda: access_log.exists() and key_file.exists(), 30)
        assert wait_for(lambda: status() == 200, 30)
        refused = httpx.get(server.url + "api/v1/models", headers={"X-MLServe-Key": old_key})
        assert refused.status_code == 401
        assert server.pids() == pids


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
