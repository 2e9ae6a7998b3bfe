"""Ten times as many requests as can be answered: what is still answered, and what is said else.

The peak is the goodput of a server that is asked for about as much as it can answer; requests come
at a fixed rate, whatever becomes of those before.
"""

from __future__ import annotations

import os
from dataclasses import replace

import mlserve_jupyter
from benchmarks.hosts import standalone, with_quota
from benchmarks.models import MODELS, deploy
from benchmarks.open_loop import Outcome, Plan, run
from benchmarks.report import Options, Report, Requirement
from benchmarks.wrk import Target, drive
from tests.standalone.hosts import StandaloneServer

SECONDS = 6
WARM_UP_S = 4
FACTOR = 10
N_CONNECTIONS = 4000
"""Each waits for its answer, so that no more requests than these are ever under way."""

CALL_S = 0.005
"""What the slow model takes for a call: the server itself can refuse all that are too many."""


def measure(report: Report, options: Options) -> None:
    """Overload a compiled model, one in its worker, and a slow one."""
    with standalone("--result-cache=off") as server:
        deploy(server.url, server.key, "rf", MODELS["rf"])
        deploy(server.url, server.key, "rf-native", MODELS["rf"], "native")
        _deploy_slow(server)
        for name in ("rf", "rf-native", "slow"):
            _overload(name, server, report, options)


def _deploy_slow(server: StandaloneServer) -> None:
    import cloudpickle

    from benchmarks import slow_model

    os.environ.update(MLSERVE_URL=server.url, MLSERVE_KEY=server.key)
    # The server's worker cannot import this package.
    cloudpickle.register_pickle_by_value(slow_model)
    model = slow_model.SlowModel(CALL_S)
    mlserve_jupyter.deploy(
        model, name="slow", sample=[[float(i)] * 4 for i in range(8)], format="cloudpickle"
    )


def _overload(name: str, server: StandaloneServer, report: Report, options: Options) -> None:
    seconds = options.seconds(SECONDS)
    target = Target(name, f"{server.url}api/v1/predict/{name}", 4, with_quota(server))
    closed = drive(target, n_connections=64, seconds=seconds)
    report.measured(f"{name}, 64 connections in turn", answered_s=closed.requests_s)
    warm_up_s = options.seconds(WARM_UP_S)
    plan = Plan(target, N_CONNECTIONS, closed.requests_s, seconds, warm_up_s)
    peak = run(plan)
    _note(f"{name}, at capacity", plan, peak, report)
    plan = replace(plan, rate_s=FACTOR * closed.requests_s)
    over = run(plan)
    _note(f"{name}, at ten times the capacity", plan, over, report)
    after = run(replace(plan, rate_s=closed.requests_s / 2))
    _note(f"{name}, at half the capacity after that", plan, after, report)
    _judge(name, max(peak.goodput_s, closed.requests_s), over, report)


def _note(what: str, plan: Plan, outcome: Outcome, report: Report) -> None:
    report.measured(
        what,
        sent_s=outcome.n_sent / (plan.seconds + plan.warm_up_s),
        goodput_s=outcome.goodput_s,
        p99_ms=outcome.percentile_ms(99),
        statuses=str(dict(outcome.statuses)),
        errors=outcome.n_errors,
        without_retry_after=outcome.n_without_retry_after,
    )


def _judge(name: str, peak_s: float, over: Outcome, report: Report) -> None:
    others = over.statuses.total() - sum(over.statuses[code] for code in (200, 429, 503))
    report.figure(
        f"{name}: goodput under ten times the capacity / peak",
        over.goodput_s / peak_s,
        requirement=Requirement(0.9),
    )
    report.figure(
        f"{name}: neither answered nor refused with Retry-After",
        float(others + over.n_errors + over.n_without_retry_after),
        "",
        Requirement(0, at_most=True),
    )
