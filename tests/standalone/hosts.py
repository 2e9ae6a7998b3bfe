"""Starts real standalone servers, each in folders of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.settings import Settings
from tests.live import NO_TLS, free_port
from tests.server.manifests import manifest_of
from tests.stores import EmbeddedStores, Stores, options_of

START_TIMEOUT_S = 120.0
COMMAND = (sys.executable, "-m", "mlserve_jupyter.server.standalone")


@dataclass
class StandaloneServer:
    """A running server.

    Attributes
    ----------
    url
        Of the platform's routes, with a trailing slash.
    settings
        Where the platform keeps its data.
    """

    process: subprocess.Popen[bytes]
    url: str
    port: int
    folder: Path
    env: dict[str, str]
    log_path: Path
    settings: Settings

    @property
    def data_dir(self) -> Path:
        return self.folder / "data" / "mlserve"

    @property
    def key(self) -> str:
        return (self.data_dir / "mlserve-standalone.key").read_text().strip()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"X-MLServe-Key": self.key, **options.pop("headers", {})}
        options = {"timeout": 60, "verify": NO_TLS, **options}
        return httpx.request(method, self.url + path, headers=headers, **options)

    def deploy(self, artifact: Path, name: str, **changes: Any) -> httpx.Response:
        return self.request(
            "POST",
            "api/v1/models",
            files=[
                ("manifest", (None, encode_json(manifest_of(name, artifact, **changes)))),
                ("artifact", ("model", artifact.read_bytes())),
            ],
        )

    def pids(self) -> list[int]:
        """Return the server processes, without the parent."""
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return [int(pid) for pid in Path(path).read_text().split()]

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


def environment(folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "JPY", "MLSERVE"))},
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",
        **(extra or {}),
    }


@contextmanager
def start_standalone(
    folder: Path,
    *options: str,
    base_url: str = "/",
    scheme: str = "http",
    ready: bool = True,
    env: Mapping[str, str] | None = None,
    stores: Stores | None = None,
) -> Iterator[StandaloneServer]:
    """Start ``jupyter mlserve`` with data and configuration below ``folder``."""
    (folder / "config").mkdir(parents=True, exist_ok=True)
    settings = (stores or EmbeddedStores()).at(folder / "data" / "mlserve")
    port = free_port()
    full_env = environment(folder, env)
    log_path = folder / f"standalone-{port}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [
                *COMMAND,
                f"--port={port}",
                f"--base-url={base_url}",
                *options_of(settings, "MLServeServer"),
                *options,
            ],
            env=full_env,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    url = f"{scheme}://127.0.0.1:{port}{base_url}mlserve/"
    server = StandaloneServer(process, url, port, folder, full_env, log_path, settings)
    try:
        if ready:
            wait_until_ready(server)
        yield server
    finally:
        server.stop()


def wait_until_ready(server: StandaloneServer) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if httpx.get(server.url + "health/ready", verify=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"The server did not start:\n{server.log()}")
