"""One connection, one request after another: computed, and answered from the cache.

Each is held against the empty handler of its host, in turn, several times; a ratio is the median of
those within one round.
"""

from __future__ import annotations

import statistics

from benchmarks.hosts import embedded, empty_tornado, standalone
from benchmarks.models import MODELS
from benchmarks.report import Options, Report, Requirement
from benchmarks.throughput import JUPYTER, TORNADO, limits, own_targets
from benchmarks.wrk import Load, drive

SECONDS = 2
ROUNDS = 5
N_KEPT = 16
"""Different bodies of the calls that are answered from the cache."""

COMPUTED = Requirement(1.5, 1.2, at_most=True)
KEPT = Requirement(1.3, at_most=True)


def measure(report: Report, options: Options) -> None:
    """Measure with the cache off, and then with it on."""
    for is_kept in (False, True):
        mode = "on" if is_kept else "off"
        with (
            embedded(f"--MLServeApp.result_cache={mode}") as jupyter,
            standalone(f"--result-cache={mode}") as ours,
            empty_tornado() as empty,
        ):
            for model in MODELS:
                targets = [*limits(model, jupyter, empty), *own_targets(model, jupyter, ours)]
                found: dict[str, list[Load]] = {target.name: [] for target in targets}
                for i in range(options.rounds(ROUNDS)):
                    for target in targets[i:] + targets[:i]:
                        load = drive(
                            target,
                            n_connections=1,
                            seconds=options.seconds(SECONDS),
                            **({"n_bodies": N_KEPT} if is_kept else {}),
                        )
                        found[target.name].append(load)
                        report.measured(
                            target.name, cache=mode, round=i + 1, p50_ms=load.p50_ms,
                            p99_ms=load.p99_ms, bad=load.n_bad,
                        )  # fmt: skip
                _judge(model, found, is_kept=is_kept, report=report)


def _judge(model: str, found: dict[str, list[Load]], *, is_kept: bool, report: Report) -> None:
    for host, limit in {"standalone": TORNADO, "embedded": JUPYTER}.items():
        for name in (model, f"{model}-native"):
            loads = found[f"{host} {name}"]
            requirement = None
            if is_kept:
                requirement = KEPT
            elif host == "standalone" and name in ("lr", "rf"):
                requirement = COMPUTED
            report.figure(
                f"{host} {name}, {'kept' if is_kept else 'computed'} / {limit}, p50 of one",
                statistics.median(
                    load.p50_ms / other.p50_ms
                    for load, other in zip(loads, found[limit], strict=True)
                ),
                requirement=requirement,
                is_spoiled=any(load.n_bad for load in loads),
            )
