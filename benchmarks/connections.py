"""10,000 open connections with one request a second each, against the standalone host.

That is 10,000 requests a second for a machine whose cores the clients share, so that the same
connections are also driven at lower rates: what they cost is then seen apart from what the machine
can compute. A connection waits for its answer before it sends again.
"""

from __future__ import annotations

import resource

from benchmarks.hosts import proc_kilobytes, standalone, tree, with_quota
from benchmarks.models import MODELS, deploy
from benchmarks.open_loop import Outcome, Plan, run
from benchmarks.report import Options, Report, Requirement
from benchmarks.wrk import Target

N_CONNECTIONS = 10_000
RATES_S = (1000, 2000, 4000, 6000, 8000, 10_000)
SECONDS = 8
MODEL = "lr"
N_SERVER_PROCESSES = 2


def measure(report: Report, options: Options) -> None:
    """Drive one server at rising rates."""
    _allow_many_files()
    n_connections = 1000 if options.is_quick else N_CONNECTIONS
    with standalone("--result-cache=off", f"--workers={N_SERVER_PROCESSES}") as server:
        deploy(server.url, server.key, MODEL, MODELS[MODEL])
        target = Target(
            "standalone",
            f"{server.url}api/v1/predict/{MODEL}",
            MODELS[MODEL].n_features,
            with_quota(server),
        )
        before_kb = _server_kb(server.process.pid)
        outcome = Outcome()
        sustained_s = 0.0
        for rate_s in RATES_S:
            rate_s = rate_s * n_connections // N_CONNECTIONS
            plan = Plan(target, n_connections, rate_s, options.seconds(SECONDS))
            outcome = run(plan)
            p99_ms = outcome.percentile_ms(99)
            report.measured(
                f"{n_connections} connections",
                offered_s=rate_s,
                answered_s=outcome.goodput_s,
                connected=outcome.n_connected,
                p50_ms=outcome.percentile_ms(50),
                p99_ms=p99_ms,
                errors=outcome.n_errors,
                statuses=str(dict(outcome.statuses)),
            )
            if outcome.n_errors == 0 and p99_ms < 1000 and outcome.goodput_s > 0.98 * rate_s:
                sustained_s = rate_s
        after_kb = _server_kb(server.process.pid)
    n_bad = outcome.n_errors + outcome.statuses.total() - outcome.statuses[200]
    report.figure(
        f"{n_connections} connections, one request a second each: errors",
        float(n_bad),
        "",
        Requirement(0, at_most=True),
    )
    report.figure(
        f"{n_connections} connections, one request a second each: p99",
        outcome.percentile_ms(99),
        "ms",
        Requirement(1000, 100, at_most=True),
        is_spoiled=outcome.goodput_s < 0.98 * n_connections,
        note=f"{outcome.goodput_s:.0f} of {n_connections} a second were answered",
    )
    report.figure(
        f"{n_connections} connections: highest rate with p99 under 1 s and no error",
        float(sustained_s),
        "/s",
    )
    report.figure(
        "memory that a connection has left behind", (after_kb - before_kb) / n_connections, "kB"
    )


def _server_kb(pid: int) -> float:
    return sum(proc_kilobytes(child, "Pss") for child in tree(pid))


def _allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
