"""The first request to a forest of 100 MB that nobody has called yet, in a server that runs.

It is held against ``joblib.load`` and one ``predict``, in a process that has just been started, and
so has to import scikit-learn for them, as the server's worker has.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mlserve_jupyter
from benchmarks.hosts import standalone
from benchmarks.report import Options, Report, Requirement
from tests.standalone.hosts import StandaloneServer

ROUNDS = 5
N_FEATURES = 20

_ALONE = """
import json, sys, time
row = json.loads(sys.argv[2])
started = time.perf_counter()
import joblib
model = joblib.load(sys.argv[1])
import numpy as np
model.predict(np.array([row]))
first_s = time.perf_counter() - started
started = time.perf_counter()
joblib.load(sys.argv[1]).predict(np.array([row]))
print(json.dumps([first_s, time.perf_counter() - started]))
"""


def measure(report: Report, options: Options) -> None:
    """Measure in turn, several times, with the model in its worker and compiled."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        with standalone(folder=data) as server:
            for name, runtime in {"forest": "auto", "forest-native": "native"}.items():
                _deploy(server, name, runtime, is_small=options.is_quick)
        artifact = next(data.glob("data/mlserve/models/*/forest/v1/model.joblib"))
        report.measured("forest", artifact_mb=artifact.stat().st_size / 1e6)
        ratios: dict[str, list[float]] = {"forest": [], "forest-native": []}
        for i in range(options.rounds(ROUNDS)):
            alone_s, again_s = _alone(artifact)
            report.measured(
                "alone", round=i + 1, in_a_fresh_process_s=alone_s, libraries_imported_s=again_s
            )
            for name, found in ratios.items():
                # Nothing is loaded ahead, so that the call itself loads the model.
                with standalone("--keep-warm-models=0", folder=data) as server:
                    first_s = _call_s(server, name)
                    found.append(first_s / alone_s)
                    report.measured(
                        f"{name}, first request", round=i + 1, s=first_s,
                        second_request_s=_call_s(server, name),
                    )  # fmt: skip
    for name, found in ratios.items():
        runtime = "native" if name.endswith("native") else "auto"
        report.figure(
            f"first request to a cold forest ({runtime}) / load and predict alone",
            statistics.median(found),
            requirement=Requirement(1.3, at_most=True),
        )


def _deploy(server: StandaloneServer, name: str, runtime: Any, *, is_small: bool) -> None:
    import os

    import numpy as np
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000 if is_small else 30_000, N_FEATURES))
    forest = RandomForestClassifier(120, n_jobs=2, random_state=0)
    forest.fit(X, rng.integers(0, 2, len(X))).set_params(n_jobs=None)
    os.environ.update(MLSERVE_URL=server.url, MLSERVE_KEY=server.key)
    mlserve_jupyter.deploy(forest, name=name, sample=X[:50], runtime=runtime)


def _alone(artifact: Path) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, str(artifact), json.dumps(_row())],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    first_s, again_s = json.loads(done.stdout)
    return first_s, again_s


def _call_s(server: StandaloneServer, name: str) -> float:
    started = time.perf_counter()
    answer = server.request("POST", f"api/v1/predict/{name}", json={"instances": [_row()]})
    took_s = time.perf_counter() - started
    answer.raise_for_status()
    return took_s


def _row() -> list[float]:
    return [0.1 * i for i in range(N_FEATURES)]
