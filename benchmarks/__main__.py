"""``python -m benchmarks``: predictions a second against the limits and the peers, in one table.

``python -m benchmarks NAME…`` measures something else, ``all`` all that the project is held to.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

from benchmarks.peers.install import DEFAULT_FOLDER
from benchmarks.report import Options, Report

HELD_TO = {
    "throughput": "predictions a second against empty handlers and peers (needs `wrk`)",
    "latency": "one connection, computed and cached, against empty handlers (needs `wrk`)",
    "connections": "10,000 connections with a request a second each",
    "kernel": "a kernel's round trip while the embedded server predicts (needs `wrk`)",
    "memory": "what a standalone server takes, at rest and with models",
    "cold": "the first request to a forest of 100 MB",
    "overload": "ten times as many requests as can be answered",
    "bodies": "1,000 rows of 30 columns as JSON and as Arrow",
    "analytics": "reports over 90 days and 10 million predictions, on SQLite and on PostgreSQL",
    "log": "calls a second into the prediction log, on SQLite and on PostgreSQL",
}
OTHERS = {
    "deploy": "from Enter to an endpoint that answers",
    "embedded_cost": "what the extension costs Jupyter",
    "profile": "where the microseconds of a request go",
    "result_cache": "what a kept answer costs along the path of a prediction",
    "runtimes": "which models compile, and what that gains",
}
NAMES = {
    name: what
    for name, what in {**HELD_TO, **OTHERS}.items()
    if find_spec(f"benchmarks.{name}") is not None
}


def main() -> int:
    """Run what was asked for; returns 1 if a figure is not what it must be."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="\n".join(f"{name:16}{what}" for name, what in NAMES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", default=["throughput"], choices=[*NAMES, "all"])
    parser.add_argument("--quick", action="store_true", help="a second each: does it work?")
    parser.add_argument("--json", type=Path, help="a file to keep the results in, added to")
    parser.add_argument("--peers", type=Path, default=DEFAULT_FOLDER, help="where they are")
    arguments = parser.parse_args()
    # The toy models of some benchmarks are none that scikit-learn likes.
    warnings.simplefilter("ignore")
    options = Options(arguments.quick, arguments.peers.resolve())
    names = list(arguments.names)
    if "all" in names:
        names = [name for name in NAMES if name in HELD_TO]
    verdicts = [run(name, options, arguments.json) for name in names]
    return 0 if all(verdicts) else 1


def run(name: str, options: Options, path: Path | None) -> bool:
    """Run a benchmark; return whether all its figures are what they must be."""
    print(f"{name}: {NAMES[name]}", flush=True)
    report = Report(name, options, path)
    started = time.monotonic()
    importlib.import_module(f"benchmarks.{name}").measure(report, options)
    report.print_figures()
    print(f"{name}: {time.monotonic() - started:.0f} s\n", flush=True)
    return all(figure.verdict != "FAIL" for figure in report.figures)


if __name__ == "__main__":
    sys.exit(main())
