"""The servers that are measured, each started in folders of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.live import NO_TLS, LiveServer, free_port, start_server
from tests.standalone.hosts import StandaloneServer, start_standalone

ROOT = Path(__file__).parents[1]
START_TIMEOUT_S = 120.0
QUOTA = 100_000_000
"""Requests a minute: counted at each, and never used up."""


@contextmanager
def embedded(*options: str) -> Iterator[LiveServer]:
    """Start a Jupyter server with the extension and the empty handler of ``limits.py``."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config", "jupyter_server_config.d")
        config.mkdir(parents=True)
        enabled = {"ServerApp": {"jpserver_extensions": {"benchmarks.limits": True}}}
        (config / "limits.json").write_text(json.dumps(enabled))
        with start_server(
            Path(folder), "--ServerApp.log_level=ERROR", *options, env={"PYTHONPATH": str(ROOT)}
        ) as server:
            yield server


@contextmanager
def standalone(*options: str, folder: Path | None = None) -> Iterator[StandaloneServer]:
    """Start the standalone server as it is by default, but that it takes all artifacts.

    Parameters
    ----------
    folder
        Where its data are, and stay; None for a folder that goes with it.
    """
    with (
        tempfile.TemporaryDirectory() as own,
        start_standalone(folder or Path(own), "--allow-pickle=True", *options) as server,
    ):
        yield server


def with_quota(server: LiveServer | StandaloneServer) -> dict[str, str]:
    """Make an API key that may only predict, with a quota that holds; returns its header."""
    wanted = {"name": f"benchmark-{time.time_ns()}", "scopes": ["predict"], "rate_limit": QUOTA}
    made = server.request("POST", "api/v1/api-keys", json=wanted)
    made.raise_for_status()
    return {"X-MLServe-Key": made.json()["key"]}


@contextmanager
def empty_tornado() -> Iterator[str]:
    """Start an application of an empty ``RequestHandler``; yields its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-m", "benchmarks.tornado_limit", str(port)]
    with running(command, url, b"{}"):
        yield url


@contextmanager
def running(
    command: Sequence[str],
    url: str,
    body: bytes,
    *,
    env: dict[str, str] | None = None,
    log_path: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; it is there once it has answered ``body``."""
    with (log_path or Path(os.devnull)).open("wb") as log:
        process = subprocess.Popen(
            list(command), cwd=ROOT, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    try:
        _wait_until_it_answers(process, url, body)
        yield process
    finally:
        end_session(process)


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    deadline = time.monotonic() + START_TIMEOUT_S
    last = "it did not answer"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answer = httpx.post(url, content=body, headers=headers, timeout=10, verify=NO_TLS)
            if answer.status_code == 200:
                return
            last = f"{answer.status_code} {answer.text[:200]}"
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} did not start: {last}")


def end_session(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started in its session."""
    for number in (15, 9):
        for pid in _session(process.pid):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + 10
        while _session(process.pid) and time.monotonic() < deadline:
            process.poll()
            time.sleep(0.05)
        if not _session(process.pid):
            break
    process.wait()


def _session(session_id: int) -> list[int]:
    """Return the processes of a session that run."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(session) == session_id and state != "Z":
            found.append(int(entry.name))
    return found


def proc_kilobytes(pid: int, name: str) -> int:
    """Return ``Rss`` or ``Pss`` of a process; 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(text.split(f"\n{name}:")[1].split()[0])


def tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        try:
            for task in Path(f"/proc/{found[-1]}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
