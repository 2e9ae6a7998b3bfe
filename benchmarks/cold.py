"""The first request to a forest of 100 MB that nobody has called yet, in a server that runs.

It is held against ``joblib.load`` and one ``predict``: in a process that has just been started, and
has to import scikit-learn for them, as the worker of a server that has just been started has; and
where it is imported already.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.hosts import standalone
from benchmarks.models import MODELS, Runtime, deploy, deploy_fitted
from benchmarks.report import Options, Report, Requirement
from tests.standalone.hosts import StandaloneServer

ROUNDS = 5
N_FEATURES = 20
SMALL = "small"
RUNTIMES: dict[str, Runtime] = {"forest": "auto", "forest-native": "native"}
LOADED_AHEAD_AFTER_S = 5.0

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
            deploy(server.url, server.key, SMALL, MODELS["rf"], "native")
            for name, runtime in RUNTIMES.items():
                _deploy(server, name, runtime, is_small=options.is_quick)
        artifact = next(data.glob("data/mlserve/models/*/forest/v1/model.joblib"))
        report.measured("forest", artifact_mb=artifact.stat().st_size / 1e6)
        ratios: dict[str, list[float]] = {}
        for i in range(options.rounds(ROUNDS)):
            fresh_s, imported_s = _alone(artifact)
            report.measured(
                "alone", round=i + 1, fresh_process_s=fresh_s, libraries_imported_s=imported_s
            )
            for name in RUNTIMES:
                cold_s, warm_s = _first_s(data, name), _first_with_libraries_s(data, name)
                ratios.setdefault(f"{name}, server just started", []).append(cold_s / fresh_s)
                ratios.setdefault(f"{name}, libraries imported", []).append(warm_s / imported_s)
                report.measured(
                    f"{name}, first request", round=i + 1, server_just_started_s=cold_s,
                    libraries_imported_s=warm_s,
                )  # fmt: skip
    for what, found in ratios.items():
        report.figure(
            f"first request to a cold {what} / load and predict alone",
            statistics.median(found),
            requirement=Requirement(1.3, at_most=True),
        )


def _first_s(data: Path, name: str) -> float:
    """Return the seconds of the first request of all to a server that loads nothing ahead."""
    with standalone("--keep-warm-models=0", folder=data) as server:
        return _call_s(server, name)


def _first_with_libraries_s(data: Path, name: str) -> float:
    """Return the same where a small forest was loaded when the server started.

    The small one was the last that was called, and is again.
    """
    with standalone("--keep-warm-models=0", folder=data) as server:
        _call_s(server, SMALL, 4)
    with standalone("--keep-warm-models=1", folder=data) as server:
        time.sleep(LOADED_AHEAD_AFTER_S)
        _call_s(server, SMALL, 4)
        return _call_s(server, name)


def _deploy(server: StandaloneServer, name: str, runtime: Runtime, *, is_small: bool) -> None:
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000 if is_small else 30_000, N_FEATURES))
    forest = RandomForestClassifier(120, n_jobs=2, random_state=0)
    forest.fit(X, rng.integers(0, 2, len(X))).set_params(n_jobs=None)
    deploy_fitted(server.url, server.key, name, forest, X[:50], runtime)


def _alone(artifact: Path) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, str(artifact), json.dumps(_row())],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    first_s, again_s = json.loads(done.stdout)
    return first_s, again_s


def _call_s(server: StandaloneServer, name: str, n_features: int = N_FEATURES) -> float:
    body = {"instances": [_row()[:n_features]]}
    started = time.perf_counter()
    answer = server.request("POST", f"api/v1/predict/{name}", json=body)
    took_s = time.perf_counter() - started
    answer.raise_for_status()
    return took_s


def _row() -> list[float]:
    return [0.1 * i for i in range(N_FEATURES)]
