"""What the extension costs a Jupyter server: seconds to start, and resident memory at rest.

``python -m benchmarks.embedded_cost`` starts Jupyter servers in turn with and without the
extension, and prints the minimum, the median and the difference of the medians.
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


def main() -> None:
    """Print the table."""
    kinds = {
        "Jupyter alone": (False, False),
        "with the extension": (True, False),
        "and its database open": (True, True),
    }
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for kind, options in kinds.items():
            found[kind].append(start(*options))
    base = [statistics.median(column) for column in zip(*found["Jupyter alone"], strict=True)]
    print(f"{'':24}{'start s (min / median / more)':>34}{'resident MB (median / more)':>32}")
    for kind, measured in found.items():
        seconds, megabytes = zip(*measured, strict=True)
        start_s, resident = statistics.median(seconds), statistics.median(megabytes)
        print(
            f"{kind:24}{min(seconds):>14.2f} / {start_s:.2f} / {start_s - base[0]:+.2f}"
            f"{resident:>20.0f} / {resident - base[1]:+.0f}"
        )


if __name__ == "__main__":
    main()
