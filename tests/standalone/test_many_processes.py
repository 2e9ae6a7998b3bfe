"""Eight processes on one SQLite file, all of which read and write."""

from __future__ import annotations

import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests import toys
from tests.standalone.hosts import StandaloneServer, start_standalone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

N_PROCESSES = 8
LASTS_S = float(os.environ.get("MLSERVE_TEST_MANY_PROCESSES_S", "20"))
"""Ten minutes find more than seconds; set it to 600 where there is time."""


def test_row_34_eight_processes_on_one_sqlite_file_never_answer_that_it_is_locked(
    tmp_path: Path,
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    with start_standalone(
        tmp_path, f"--workers={N_PROCESSES}", "--allow-pickle=True", "--catalog-poll-s=0.2"
    ) as server:
        assert server.deploy(artifact, "clf").status_code == 201
        ends_s = time.monotonic() + LASTS_S
        work = [
            *[lambda: predict(server)] * 6,
            lambda: server.deploy(artifact, "clf", description=str(time.monotonic())),
            lambda: change(server),
            lambda: keys(server),
            lambda: server.request("GET", "api/v1/analytics/models/clf/predictions"),
        ]
        statuses: Counter[int] = Counter()
        trouble: list[str] = []

        def go_on(number: int) -> None:
            while time.monotonic() < ends_s:
                answer = work[number]()
                statuses[answer.status_code] += 1
                if answer.status_code not in (200, 201, 204):
                    trouble.append(f"{answer.request.method} {answer.request.url}: {answer.text}")

        with ThreadPoolExecutor(len(work)) as threads:
            list(threads.map(go_on, range(len(work))))
        assert len(server.pids()) == N_PROCESSES
        assert trouble == []
        assert statuses[200] > 100
        assert statuses[201] > 10
    log = server.log()
    assert "locked" not in log
    assert "Traceback" not in log


def predict(server: StandaloneServer) -> httpx.Response:
    return server.request("POST", "api/v1/predict/clf", json={"instances": [[1.0]]})


def change(server: StandaloneServer) -> httpx.Response:
    body = {"description": str(time.monotonic())}
    return server.request("PATCH", "api/v1/models/clf", json=body)


def keys(server: StandaloneServer) -> httpx.Response:
    """Make a key and revoke it."""
    made = server.request("POST", "api/v1/api-keys", json={"name": "one", "scopes": ["predict"]})
    if made.status_code != 201:
        return made
    return server.request("DELETE", f"api/v1/api-keys/{made.json()['id']}")
