"""What a standalone server takes: the parent, one server process, and all workers.

Resident memory counts pages that processes share once for each of them; the proportional set size
divides them up, so that its sum is what the machine gives. The latter is judged.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from benchmarks.hosts import proc_kilobytes, standalone, tree
from benchmarks.models import MODELS, Runtime, deploy
from benchmarks.report import Options, Report, Requirement
from benchmarks.wrk import Target, bodies_of
from tests.standalone.hosts import StandaloneServer

SETTLE_S = 3
AT_REST = Requirement(120, at_most=True)
WITH_MODELS = Requirement(200, at_most=True)


def measure(report: Report, options: Options) -> None:
    """Measure a server that nobody has called, and such that have answered with each model."""
    settle_s = options.seconds(SETTLE_S)
    required: dict[Runtime, Requirement | None] = {"auto": WITH_MODELS, "native": None}
    for runtime, requirement in required.items():
        with tempfile.TemporaryDirectory() as folder:
            with standalone(folder=Path(folder)) as server:
                time.sleep(settle_s)
                if runtime == "auto":
                    _note("at rest", server, AT_REST, report)
                for name, model in MODELS.items():
                    deploy(server.url, server.key, name, model, runtime)
                _call_each(server)
                time.sleep(settle_s)
                _note(f"with the three models, just deployed ({runtime})", server, None, report)
            with standalone(folder=Path(folder)) as server:
                _call_each(server)
                time.sleep(settle_s)
                _note(f"with the three models ({runtime})", server, requirement, report)


def _call_each(server: StandaloneServer) -> None:
    for name, model in MODELS.items():
        url = f"api/v1/predict/{name}"
        for body in bodies_of(Target(name, server.url + url, model.n_features), 10):
            headers = {"Content-Type": "application/json"}
            server.request("POST", url, content=body, headers=headers).raise_for_status()


def _note(
    what: str, server: StandaloneServer, required: Requirement | None, report: Report
) -> None:
    processes = tree(server.process.pid)
    resident = [proc_kilobytes(pid, "Rss") / 1024 for pid in processes]
    proportional = [proc_kilobytes(pid, "Pss") / 1024 for pid in processes]
    report.measured(
        what,
        processes=len(processes),
        resident_mb=" + ".join(f"{value:.0f}" for value in resident),
        proportional_mb=" + ".join(f"{value:.0f}" for value in proportional),
    )
    report.figure(f"{what}: memory of all processes", sum(proportional), "MB", required)
    report.figure(f"{what}: sum of resident memory", sum(resident), "MB")
