"""Predictions a second: this project in both hosts, what limits it, and its peers, side by side.

All servers of a model run at once, and are loaded in turn, several times: a ratio is the median of
those within one round. ``wrk`` has one thread and 64 connections; bodies are distinct rows. The
result cache is off, since ``wrk`` repeats its bodies and what is measured here are models.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.compute import ComputeCost, compute_cost
from benchmarks.hosts import embedded, empty_tornado, running, standalone, with_quota
from benchmarks.models import MODELS, Runtime, deploy
from benchmarks.peers.catalog import PEERS, Peer, Place, environment
from benchmarks.peers.install import is_installed, version_of
from benchmarks.report import Options, Report, Requirement
from benchmarks.wrk import Load, Target, bodies_of, drive
from tests.live import LiveServer, free_port
from tests.standalone.hosts import StandaloneServer

N_CONNECTIONS = 64
SECONDS = 4
ROUNDS = 3

TORNADO = "empty RequestHandler"
JUPYTER = "empty APIHandler"

Rounds = dict[str, list[Load]]


def measure(report: Report, options: Options) -> None:
    """Measure all models."""
    peers = [peer for peer in PEERS.values() if is_installed(peer, options.peers)]
    for peer in peers:
        report.measured(f"{peer.name} is installed", version=version_of(peer, options.peers))
    with (
        embedded("--MLServeApp.result_cache=off") as jupyter,
        standalone("--result-cache=off") as ours,
        empty_tornado() as empty,
    ):
        for model in MODELS:
            targets = [*limits(model, jupyter, empty), *own_targets(model, jupyter, ours)]
            found = _drive_all(model, targets, peers, report, options)
            _judge(model, found, [peer.name for peer in peers], report)
            _compare_with_computing(compute_cost(model), found, report)


def limits(model: str, jupyter: LiveServer, empty_url: str) -> list[Target]:
    """Return the handlers that do nothing with the model's rows."""
    n_features = MODELS[model].n_features
    token = {"Authorization": f"token {jupyter.token}"}
    return [
        Target(TORNADO, empty_url, n_features),
        Target(JUPYTER, f"{jupyter.jupyter_url}limits/empty", n_features, token),
    ]


def own_targets(model: str, jupyter: LiveServer, ours: StandaloneServer) -> list[Target]:
    """Deploy a model to both hosts, compiled where that verifies and as it is."""
    targets = []
    hosts: dict[str, LiveServer | StandaloneServer] = {"standalone": ours, "embedded": jupyter}
    runtimes: dict[Runtime, str] = {"auto": "", "native": "-native"}
    for host, server in hosts.items():
        key = with_quota(server)
        for runtime, suffix in runtimes.items():
            deploy(server.url, server.key, model + suffix, MODELS[model], runtime)
            targets.append(
                Target(
                    f"{host} {model}{suffix}",
                    f"{server.url}api/v1/predict/{model}{suffix}",
                    MODELS[model].n_features,
                    key,
                )
            )
    return targets


def _drive_all(
    model: str, targets: list[Target], peers: list[Peer], report: Report, options: Options
) -> Rounds:
    with ExitStack() as stack:
        for peer in peers:
            try:
                targets.append(stack.enter_context(started_peer(peer, model, options.peers)))
            except RuntimeError as error:
                report.measured(f"{peer.name} {model}", error=str(error)[:200])
        found: Rounds = {target.name: [] for target in targets}
        for i in range(options.rounds(ROUNDS)):
            # Each round begins with another one, so that nobody always follows the same.
            for target in targets[i:] + targets[:i]:
                load = drive(target, n_connections=N_CONNECTIONS, seconds=options.seconds(SECONDS))
                found[target.name].append(load)
                report.measured(
                    target.name, model=model, round=i + 1, requests_s=load.requests_s,
                    p50_ms=load.p50_ms, p99_ms=load.p99_ms, bad=load.n_bad,
                )  # fmt: skip
    return found


@contextmanager
def started_peer(peer: Peer, model: str, folder: Path) -> Iterator[Target]:
    """Start a peer with one model; yields where it answers."""
    with tempfile.TemporaryDirectory() as work_dir:
        place = Place(folder / peer.name, Path(work_dir), model, free_port())
        target = Target(
            peer.name,
            f"http://127.0.0.1:{place.port}{peer.path(model)}",
            MODELS[model].n_features,
            body=peer.body,
        )
        with running(
            peer.command(place),
            target.url,
            bodies_of(target, 1)[0].encode(),
            env=environment(place),
            log_path=Path(work_dir, "log"),
        ):
            yield target


def _judge(model: str, found: Rounds, peers: list[str], report: Report) -> None:
    native = f"{model}-native"
    own = {f"{host} {name}" for host in ("standalone", "embedded") for name in (model, native)}
    bad = {name: sum(load.n_bad for load in found[name]) for name in own}

    def judge(name: str, against: str, requirement: Requirement | None = None) -> None:
        report.figure(
            f"{name} / {against}",
            ratio(found[name], found[against]),
            requirement=requirement,
            is_spoiled=bad[name] > 0,
            note=f"{bad[name]} bad answers" if bad[name] else "",
        )

    # The boosted trees are held to the peers, whatever they run as.
    judge(f"standalone {model}", TORNADO, None if model == "hgb" else Requirement(0.8, 1.0))
    judge(f"embedded {model}", JUPYTER, Requirement(0.9, 1.2))
    judge(f"embedded {native}", JUPYTER)
    measured = [name for name in peers if name in found]
    if not measured:
        report.figure(f"standalone {model} / the best peer", 0.0, note="no peer is installed")
        return
    best = max(measured, key=lambda name: median_requests_s(found[name]))
    against_peers = {"lr": Requirement(2.5, 3.5), "rf": Requirement(3.5, 5.0)}
    judge(f"standalone {model}", best, against_peers.get(model, Requirement(2.2, 3.0)))
    judge(f"standalone {native}", best, None if model == "hgb" else Requirement(2.2, 3.0))


def _compare_with_computing(cost: ComputeCost, found: Rounds, report: Report) -> None:
    report.measured(
        f"{cost.model}: computing alone, ms",
        predict_1_row=cost.predict_ms[1],
        predict_64_rows=cost.predict_ms[64],
        onnx_1_row=cost.onnx_ms[1],
        onnx_64_rows=cost.onnx_ms[64],
    )
    for name, cost_ms in {
        cost.model: cost.onnx_ms,
        f"{cost.model}-native": cost.predict_ms,
    }.items():
        one_by_one = 1e3 / cost_ms[1]
        report.figure(
            f"standalone {name} / computing alone, row by row",
            median_requests_s(found[f"standalone {name}"]) / one_by_one,
        )


def ratio(loads: list[Load], against: list[Load]) -> float:
    """Return the median over the rounds of one load's requests a second to another's.

    A round in which the other one answered nothing at all says nothing.
    """
    pairs = zip(loads, against, strict=True)
    ratios = [a.requests_s / b.requests_s for a, b in pairs if b.requests_s]
    return statistics.median(ratios) if ratios else math.nan


def median_requests_s(loads: list[Load]) -> float:
    """Return the median over the rounds."""
    return statistics.median(load.requests_s for load in loads)
