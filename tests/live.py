"""Starts real Jupyter servers with the extension, each in folders of its own."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from mlserve_jupyter.settings import Settings
from tests.stores import EmbeddedStores, Stores, options_of

TOKEN = "0123456789abcdef0123456789abcdef"
START_TIMEOUT_S = 120.0

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For plain HTTP: httpx would read the system's certificates at each request otherwise."""


@dataclass
class LiveServer:
    """A running Jupyter server.

    Attributes
    ----------
    jupyter_url
        Of the Jupyter server, with its ``base_url`` and a trailing slash.
    url
        Of the platform's routes, with a trailing slash.
    token
        Jupyter's token.
    settings
        Where the platform keeps its data.
    """

    process: subprocess.Popen[bytes]
    jupyter_url: str
    token: str
    root_dir: Path
    runtime_dir: Path
    data_dir: Path
    log_path: Path
    settings: Settings
    env: dict[str, str] = field(repr=False)

    @property
    def url(self) -> str:
        return self.jupyter_url + "mlserve/"

    @property
    def connection_file(self) -> Path:
        return self.runtime_dir / f"mlserve-{self.process.pid}.json"

    @property
    def key(self) -> str:
        return str(json.loads(self.connection_file.read_bytes())["key"])

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Call a route of the platform with Jupyter's token."""
        headers = {"Authorization": f"token {self.token}", **options.pop("headers", {})}
        return httpx.request(
            method, self.url + path, headers=headers, timeout=60, verify=NO_TLS, **options
        )

    def kernel_env(self) -> dict[str, str]:
        """Return the environment that a kernel of this server has."""
        return {**self.env, "JPY_PARENT_PID": str(self.process.pid)}

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextmanager
def start_server(
    folder: Path,
    *options: str,
    base_url: str = "/",
    env: Mapping[str, str] | None = None,
    command: Sequence[str] = ("-m", "jupyter_server"),
    interpreter: str = sys.executable,
    before: Sequence[str] = (),
    with_extension: bool = True,
    stores: Stores | None = None,
) -> Iterator[LiveServer]:
    """Start ``jupyter server`` with data, runtime and notebook folders below ``folder``."""
    places = {name: folder / name for name in ("root", "runtime", "data", "config", "home")}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    settings = (stores or EmbeddedStores()).at(places["data"] / "mlserve")
    port = free_port()
    full_env = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "JPY", "MLSERVE"))},
        "JUPYTER_RUNTIME_DIR": str(places["runtime"]),
        "JUPYTER_DATA_DIR": str(places["data"]),
        "JUPYTER_CONFIG_DIR": str(places["config"]),
        "JUPYTER_PLATFORM_DIRS": "1",
        **(env or {}),
    }
    log_path = folder / f"server-{port}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [
                interpreter,
                *before,
                *command,
                "--no-browser",
                "--allow-root",
                "--ServerApp.ip=127.0.0.1",
                f"--ServerApp.port={port}",
                "--ServerApp.port_retries=0",
                f"--ServerApp.base_url={base_url}",
                f"--ServerApp.root_dir={places['root']}",
                f"--IdentityProvider.token={TOKEN}",
                "--ServerApp.jpserver_extensions={'mlserve_jupyter': True}",
                *options_of(settings, "MLServeApp"),
                *options,
            ],
            env=full_env,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    server = LiveServer(
        process,
        f"http://127.0.0.1:{port}{base_url}",
        TOKEN,
        places["root"],
        places["runtime"],
        places["data"],
        log_path,
        settings,
        full_env,
    )
    try:
        wait_until_live(server, with_extension=with_extension)
        yield server
    finally:
        server.stop()


def wait_until_live(server: LiveServer, *, with_extension: bool = True) -> None:
    """Wait until the server answers; fail with its log if it does not.

    Parameters
    ----------
    with_extension
        False where Jupyter alone is to answer, since the extension refuses to serve.
    """
    path = server.url + "health/live" if with_extension else server.jupyter_url + "api"
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            is_there = httpx.get(path, verify=NO_TLS).status_code == 200
            if is_there and (server.connection_file.exists() or not with_extension):
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"The server did not start:\n{server.log()}")


def free_port() -> int:
    """Return a port that nobody listens on, and that the system gives no outgoing connection."""
    while True:
        with socket.socket() as sock:
            port = random.SystemRandom().randrange(12_000, 32_000)
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
