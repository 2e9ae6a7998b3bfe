"""What the extension costs a Jupyter server: seconds to start, and resident memory at rest.

Jupyter servers are started in turn with and without the extension; medians are compared.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.report import Options, Report
from tests.live import TOKEN, free_port

ROUNDS = 5


def start(with_extension: bool, touch: bool) -> tuple[float, float]:
    """Start a server; return the seconds until it answers, and its resident MB."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        root = Path(folder, "root")
        root.mkdir()
        env = {
            **os.environ,
            "JUPYTER_DATA_DIR": f"{folder}/data",
            "JUPYTER_RUNTIME_DIR": f"{folder}/runtime",
            "JUPYTER_CONFIG_DIR": f"{folder}/config",
        }
        started = time.perf_counter()
        server = subprocess.Popen(
            [
                sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root",
                f"--ServerApp.port={port}", f"--IdentityProvider.token={TOKEN}",
                f"--ServerApp.root_dir={root}",
                f"--ServerApp.jpserver_extensions={{'mlserve_jupyter': {with_extension}}}",
            ],
            env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        url = f"http://127.0.0.1:{port}/"
        try:
            while True:
                try:
                    httpx.get(url + "api")
                    break
                except httpx.TransportError:
                    time.sleep(0.005)
            seconds = time.perf_counter() - started
            headers = {"Authorization": f"token {TOKEN}"}
            if touch:
                httpx.get(url + "mlserve/api/v1/models", headers=headers).raise_for_status()
            time.sleep(1)
            status = Path(f"/proc/{server.pid}/status").read_text()
            resident_kb = int(status.split("VmRSS:")[1].split()[0])
            return seconds, resident_kb / 1024
        finally:
            server.terminate()
            server.wait()


def measure(report: Report, options: Options) -> None:
    """Start servers of each kind in turn."""
    kinds = {
        "Jupyter alone": (False, False),
        "with the extension": (True, False),
        "and its database open": (True, True),
    }
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for i in range(options.rounds(ROUNDS)):
        for kind, how in kinds.items():
            start_s, resident_mb = start(*how)
            found[kind].append((start_s, resident_mb))
            report.measured(kind, round=i + 1, start_s=start_s, resident_mb=resident_mb)
    for kind, measured in found.items():
        start_s, resident_mb = (statistics.median(column) for column in zip(*measured, strict=True))
        report.figure(f"{kind}: start", start_s, "s")
        report.figure(f"{kind}: resident memory", resident_mb, "MB")
