"""Drives an endpoint with ``wrk``: one thread, distinct one-row bodies."""

from __future__ import annotations

import json
import random
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

N_BODIES = 2000

_UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


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
    url: str,
    n_features: int,
    headers: dict[str, str],
    *,
    n_connections: int,
    seconds: int,
    n_bodies: int = N_BODIES,
) -> Load:
    """POST random rows to ``url``, in turn; the first second is not measured."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "rows.lua")
        script.write_text(_script(n_features, headers, n_bodies))
        _run(url, script, n_connections, 1)
        text = _run(url, script, n_connections, seconds)
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


def _run(url: str, script: Path, n_connections: int, seconds: int) -> str:
    return subprocess.run(
        [
            "wrk", "-t1", f"-c{n_connections}", f"-d{seconds}s", "--timeout", "20s",
            "--latency", "-s", str(script), url,
        ],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def _script(n_features: int, headers: dict[str, str], n_bodies: int) -> str:
    rng = random.Random(0)
    bodies = [
        json.dumps({"instances": [[round(rng.random() * 5, 4) for _ in range(n_features)]]})
        for _ in range(n_bodies)
    ]
    lines = ['wrk.method="POST"', 'wrk.headers["Content-Type"]="application/json"']
    lines += [f'wrk.headers["{name}"]="{value}"' for name, value in headers.items()]
    lines += ["local bodies={" + ",".join(f"[==[{body}]==]" for body in bodies) + "}", "local i=0"]
    lines += ["function request() i=i%#bodies+1 return wrk.format(nil,nil,nil,bodies[i]) end"]
    return "\n".join(lines)


def _found(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk said something else:\n{text}")
    return match


def _latency_ms(percentile: str, text: str) -> float:
    match = _found(rf"{percentile}%\s+([\d.]+)(us|ms|s)", text)
    return float(match[1]) * _UNITS_MS[match[2]]
