"""From Enter to an endpoint that answers: how long a deploy takes.

In a kernel of a Jupyter server, the first deploy of a small model is timed, the next ones, and that
of a forest of about 100 MB, beside what the disk and ``joblib.load`` alone take. The server's
resident memory is sampled meanwhile.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.report import Options, Report
from tests.kernels import LiveKernel, start_kernel
from tests.live import LiveServer, start_server

ROUNDS = 7

SMALL = """
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
X, y = load_iris(return_X_y=True, as_frame=True)
clf = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
%load_ext mlserve_jupyter
import json, time
"""

FOREST = """
import numpy as np
from sklearn.ensemble import RandomForestClassifier
rng = np.random.default_rng(0)
X = rng.normal(size=(30_000, 20))
forest = RandomForestClassifier(120, n_jobs=2, random_state=0).fit(X, rng.integers(0, 2, 30_000))
"""

BASELINE = """
import hashlib, joblib, os, tempfile
path = tempfile.mktemp()
start = time.perf_counter(); joblib.dump(forest, path)
with open(path, "rb") as file: os.fsync(file.fileno())
dump_s = time.perf_counter() - start
start = time.perf_counter(); hashlib.sha256(open(path, "rb").read())
hash_s = time.perf_counter() - start
start = time.perf_counter(); joblib.load(path).predict(X[:1]); load_s = time.perf_counter() - start
print(json.dumps([os.path.getsize(path) / 1e6, dump_s, hash_s, load_s])); os.unlink(path)
"""


def deploy_s(kernel: LiveKernel, line: str) -> float:
    """Deploy in the kernel, then call the endpoint; return the seconds until it has answered."""
    code = f"""
start = time.perf_counter()
{line}
seconds = time.perf_counter() - start
print("SECONDS", seconds)
"""
    shown = kernel.run(code)
    return float(shown.split("SECONDS")[1].split()[0])


class PeakMemory:
    """The highest resident memory of a process while a block runs, in MB."""

    def __init__(self, server: LiveServer) -> None:
        self._status = Path(f"/proc/{server.process.pid}/status")
        self._done = threading.Event()
        self.before_mb = self.peak_mb = self._now()

    def _now(self) -> float:
        return int(self._status.read_text().split("VmRSS:")[1].split()[0]) / 1024

    def __enter__(self) -> PeakMemory:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.peak_mb = max(self.peak_mb, self._now())


def measure(report: Report, options: Options) -> None:
    """Deploy a small model again and again, and then a large one."""
    with (
        tempfile.TemporaryDirectory() as folder,
        start_server(Path(folder)) as server,
        start_kernel(server) as kernel,
    ):
        kernel.run(SMALL)
        report.measured("small model, the very first", s=deploy_s(kernel, "%mlserve deploy clf\n"))
        time.sleep(1)
        for i in range(options.rounds(ROUNDS)):
            took_s = deploy_s(kernel, "%mlserve deploy clf\n")
            report.measured("small model, server warm", round=i + 1, s=took_s)
        if options.is_quick:
            return
        kernel.run(FOREST)
        size_mb, dump_s, hash_s, load_s = json.loads(kernel.run(BASELINE))
        with PeakMemory(server) as memory:
            forest_s = deploy_s(kernel, "%mlserve deploy forest --sample X[:200]\n")
        report.measured("forest", mb=size_mb, s=forest_s)
        report.measured("forest alone", dump_fsync_s=dump_s, sha256_s=hash_s, load_predict_s=load_s)
        report.measured(
            "resident memory of the server", before_mb=memory.before_mb, peak_mb=memory.peak_mb
        )
