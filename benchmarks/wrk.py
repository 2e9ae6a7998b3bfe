"""Drives an endpoint with ``wrk``: one thread, distinct one-row bodies."""

from __future__ import annotations

import json
import random
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.catalog import Row, instances

N_BODIES = 2000

_UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}


@dataclass(frozen=True)
class Target:
    """Something to drive.

    Attributes
    ----------
    n_features
        Columns of a row.
    body
        The JSON body of a row.
    """

    name: str
    url: str
    n_features: int
    headers: dict[str, str] = field(default_factory=dict)
    body: Callable[[Row], object] = instances


@dataclass(frozen=True)
class Load:
    """What ``wrk`` measured.

    Attributes
    ----------
    requests_s
        Requests a second.
    p50_ms, p99_ms
        Latencies.
    n_bad
        Answers other than 2xx, and socket errors.
    """

    requests_s: float
    p50_ms: float
    p99_ms: float
    n_bad: int


def drive(
    target: Target,
    *,
    n_connections: int,
    seconds: int,
    n_bodies: int = N_BODIES,
    warm_up_s: int = 1,
) -> Load:
    """POST random rows in turn; the first seconds are not measured."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "rows.lua")
        script.write_text(_script(target, n_bodies))
        if warm_up_s:
            _run(target.url, script, n_connections, warm_up_s)
        text = _run(target.url, script, n_connections, seconds)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text
    )
    return Load(
        requests_s=float(_found(r"Requests/sec:\s+([\d.]+)", text)[1]),
        p50_ms=_latency_ms("50", text),
        p99_ms=_latency_ms("99", text),
        n_bad=(int(bad[1]) if bad else 0)
        + (sum(int(group) for group in errors.groups()) if errors else 0),
    )


def bodies_of(target: Target, n_bodies: int = N_BODIES) -> list[str]:
    """Return different bodies for a target."""
    rng = random.Random(0)
    rows = [[round(rng.random() * 5, 4) for _ in range(target.n_features)] for _ in range(n_bodies)]
    return [json.dumps(target.body(row)) for row in rows]


def _run(url: str, script: Path, n_connections: int, seconds: int) -> str:
    return subprocess.run(
        [
            "wrk", "-t1", f"-c{n_connections}", f"-d{seconds}s", "--timeout", "20s",
            "--latency", "-s", str(script), url,
        ],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def _script(target: Target, n_bodies: int) -> str:
    lines = ['wrk.method="POST"', 'wrk.headers["Content-Type"]="application/json"']
    lines += [f'wrk.headers["{name}"]="{value}"' for name, value in target.headers.items()]
    bodies = ",".join(f"[==[{body}]==]" for body in bodies_of(target, n_bodies))
    lines += ["local bodies={" + bodies + "}", "local i=0"]
    lines += ["function request() i=i%#bodies+1 return wrk.format(nil,nil,nil,bodies[i]) end"]
    return "\n".join(lines)


def _found(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk said something else:\n{text}")
    return match


def _latency_ms(percentile: str, text: str) -> float:
    match = _found(rf"{percentile}%\s+([\d.]+)(us|ms|s|m)", text)
    return float(match[1]) * _UNITS_MS[match[2]]
