"""Predictions a second, against the limits of the hosts.

``python -m benchmarks.serving`` deploys three models (see ``models.py``) and drives each with
``wrk``; ``--seconds`` and ``--only`` shorten the run. Only ratios within one run mean anything.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.models import MODELS, deploy
from benchmarks.wrk import Load, drive
from tests.live import LiveServer, start_server

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Target:
    """Something to drive.

    Attributes
    ----------
    limit
        Name of the target that it is compared with, or None.
    """

    name: str
    url: str
    headers: dict[str, str]
    n_features: int
    limit: str | None = None


@contextmanager
def embedded(*options: str) -> Iterator[LiveServer]:
    """Start a Jupyter server with the extension and the empty handler."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config", "jupyter_server_config.d")
        config.mkdir(parents=True)
        enabled = {"ServerApp": {"jpserver_extensions": {"benchmarks.limits": True}}}
        (config / "limits.json").write_text(json.dumps(enabled))
        with start_server(
            Path(folder), "--ServerApp.log_level=ERROR", *options, env={"PYTHONPATH": str(ROOT)}
        ) as server:
            yield server


def targets_of(server: LiveServer) -> list[Target]:
    """Deploy the models; return what to drive."""
    token = {"Authorization": f"token {server.token}"}
    empty = f"{server.jupyter_url}limits/empty"
    targets = [Target("empty APIHandler", empty, token, 4)]
    for name, model in MODELS.items():
        deploy(server.url, server.key, name, model)
        targets.append(
            Target(
                f"embedded {name}",
                f"{server.url}api/v1/predict/{name}",
                {"X-MLServe-Key": server.key},
                model.n_features,
                "empty APIHandler",
            )
        )
    return targets


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    found: dict[str, tuple[Load, Load]] = {}
    print(
        f"{'':22}{'req/s':>8}{'p50':>8}{'p99 ms':>8}{'bad':>5}{'p50 of 1':>10}  against the limit"
    )
    # wrk repeats its bodies, and what is measured here are models.
    with embedded("--MLServeApp.result_cache=off") as server:
        for target in targets_of(server):
            if options.only and target.limit and options.only not in target.name:
                continue
            many, one = (
                drive(
                    target.url, target.n_features, target.headers,
                    n_connections=n, seconds=options.seconds,
                )
                for n in (64, 1)
            )  # fmt: skip
            found[target.name] = many, one
            line = (
                f"{target.name:22}{many.requests_s:>8.0f}{many.p50_ms:>8.1f}{many.p99_ms:>8.1f}"
                f"{many.n_bad + one.n_bad:>5}{one.p50_ms:>10.2f}"
            )
            if target.limit in found:
                limit_many, limit_one = found[target.limit]
                line += (
                    f"  {many.requests_s / limit_many.requests_s:.2f} ×,"
                    f" p50 {one.p50_ms / limit_one.p50_ms:.2f} ×"
                )
            print(line, flush=True)


if __name__ == "__main__":
    main()
