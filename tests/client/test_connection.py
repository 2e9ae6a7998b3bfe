"""The search for the kernel's server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlserve_jupyter.client.connection import Connection, find_connection, start_ticks
from mlserve_jupyter.errors import ServerNotFound


def write(
    folder: Path,
    pid: int,
    port: int,
    *,
    root_dir: str = "",
    age_s: int = 0,
    start_ticks: int | None = None,
) -> str:
    url = f"http://127.0.0.1:{port}/mlserve/"
    path = folder / f"mlserve-{pid}.json"
    content = {
        **{"url": url, "pid": pid, "start_ticks": start_ticks, "key": f"mls_{port}"},
        **{"version": "0", "root_dir": root_dir},
    }
    path.write_text(json.dumps(content))
    time_s = path.stat().st_mtime - age_s
    os.utime(path, (time_s, time_s))
    return url


@pytest.fixture
def living_pid() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate(b"\n", timeout=30)


@pytest.fixture
def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(30)
    return process.pid


def test_the_server_that_started_the_kernel_comes_first(tmp_path: Path, living_pid: int) -> None:
    mine = write(tmp_path, living_pid, 1, age_s=60)
    write(tmp_path, os.getpid(), 2)
    environ = {"JUPYTER_RUNTIME_DIR": str(tmp_path), "JPY_PARENT_PID": str(living_pid)}
    assert find_connection(environ=environ) == Connection(mine, "mls_1")


def test_without_a_parent_the_newest_of_those_alive_is_taken(
    tmp_path: Path, living_pid: int, ended_pid: int
) -> None:
    write(tmp_path, living_pid, 1, age_s=60)
    newest = write(tmp_path, os.getpid(), 2, age_s=30)
    write(tmp_path, ended_pid, 3)
    (tmp_path / "mlserve-9.json").write_text("{half")
    assert find_connection(environ={"JUPYTER_RUNTIME_DIR": str(tmp_path)}).url == newest


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux says when a process was started.")
def test_a_process_that_got_the_id_of_a_killed_server_is_not_that_server(
    tmp_path: Path, living_pid: int
) -> None:
    started = start_ticks(living_pid)
    assert started is not None
    write(tmp_path, living_pid, 1, start_ticks=started - 1)
    environ = {"JUPYTER_RUNTIME_DIR": str(tmp_path), "JPY_PARENT_PID": str(living_pid)}
    with pytest.raises(ServerNotFound):
        find_connection(environ=environ)
    mine = write(tmp_path, living_pid, 2, start_ticks=started)
    assert find_connection(environ=environ) == Connection(mine, "mls_2")


@pytest.mark.skipif(sys.platform != "linux", reason="Only Linux says when a process was started.")
def test_the_start_of_a_process_is_read_whatever_its_program_is_called(tmp_path: Path) -> None:
    program = tmp_path / "a) S (1 2"
    shutil.copy("/bin/sleep", program)
    process = subprocess.Popen([program, "30"])
    try:
        started = start_ticks(process.pid)
        ours = start_ticks(os.getpid())
        assert started is not None
        assert ours is not None
        assert started >= ours > 0
    finally:
        process.kill()
        process.wait(30)
    assert start_ticks(process.pid) is None


def test_the_server_of_the_folder_is_preferred_to_a_newer_one(
    tmp_path: Path, living_pid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = write(tmp_path, living_pid, 1, root_dir=str(tmp_path), age_s=60)
    write(tmp_path, os.getpid(), 2, root_dir="/elsewhere")
    assert find_connection(environ={"JUPYTER_RUNTIME_DIR": str(tmp_path)}).url == mine


def test_no_server_says_what_to_start(tmp_path: Path, ended_pid: int) -> None:
    write(tmp_path, ended_pid, 1)
    with pytest.raises(ServerNotFound, match="jupyter lab"):
        find_connection(environ={"JUPYTER_RUNTIME_DIR": str(tmp_path)})


def test_the_environment_names_a_server(tmp_path: Path) -> None:
    write(tmp_path, os.getpid(), 2)
    environ = {
        "JUPYTER_RUNTIME_DIR": str(tmp_path),
        "MLSERVE_URL": "https://example.org/user/ann/mlserve/",
        "MLSERVE_KEY": "mls_k",
    }
    connection = find_connection(environ=environ)
    assert connection == Connection("https://example.org/user/ann/mlserve/", "mls_k")
    assert connection.headers == {"X-MLServe-Key": "mls_k"}


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:7/base/?token=secret",
        "http://127.0.0.1:7/base/lab?token=secret",
        "http://127.0.0.1:7/base/mlserve?token=secret",
    ],
)
def test_the_address_of_a_jupyter_server_can_be_given_as_it_prints_it(
    tmp_path: Path, target: str
) -> None:
    connection = find_connection(target, environ={"JUPYTER_RUNTIME_DIR": str(tmp_path)})
    assert connection.url == "http://127.0.0.1:7/base/mlserve/"
    assert connection.headers == {"Authorization": "token secret"}


def test_the_address_of_a_server_of_ones_own_needs_no_key(tmp_path: Path) -> None:
    url = write(tmp_path, os.getpid(), 2)
    environ = {"JUPYTER_RUNTIME_DIR": str(tmp_path)}
    assert find_connection(url.removesuffix("mlserve/"), environ=environ).key == "mls_2"


def test_a_name_that_is_no_server_s_is_refused_with_the_next_step() -> None:
    with pytest.raises(ServerNotFound, match=r"'production'.*%mlserve targets.*%mlserve login"):
        find_connection("production", environ={})


@pytest.mark.parametrize("target", ["ftp://x/", "http://"])
def test_what_is_not_an_address_is_refused(target: str) -> None:
    with pytest.raises(ServerNotFound, match="not the URL of a server"):
        find_connection(target, environ={})


def test_the_key_is_not_shown() -> None:
    assert "mls_" not in repr(Connection("http://h/mlserve/", "mls_secret"))


def test_whether_the_server_has_a_token_is_read_and_taken_for_granted(
    tmp_path: Path, living_pid: int
) -> None:
    write(tmp_path, living_pid, 1)
    environ = {"JUPYTER_RUNTIME_DIR": str(tmp_path)}
    path = tmp_path / f"mlserve-{living_pid}.json"
    found = find_connection(environ=environ)
    assert found.has_token
    assert found.path == str(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "has_token": False}))
    assert not find_connection(environ=environ).has_token
