from __future__ import annotations

import ctypes
import os
import signal
import stat
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics import process_counter as module
from mlserve_jupyter.analytics.prediction_log import PredictionLog
from mlserve_jupyter.analytics.process_counter import (
    ProcessCounter,
    counter_files,
    ended_process,
)
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.settings import Settings
from tests.analytics.calls import WAIT_S, call, losses_by_reason, n_rows, opened_log
from tests.registry.deploys import Deploys
from tests.storage.databases import opened, processes


def test_a_counter_counts_in_a_private_file_that_outlives_it(tmp_path: Path) -> None:
    counter = ProcessCounter(tmp_path / "log")
    assert [counter.increment() for _ in range(3)] == [1, 2, 3]
    (path,) = counter_files(tmp_path / "log")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    counter.close()
    with ended_process(path) as ended:
        assert ended is not None
        assert (ended.process_id, ended.pid) == (counter.process_id, os.getpid())
        assert ended.n_appended == 3
    assert not path.exists()


def in_shared_memory(counter: ProcessCounter) -> Path:
    return Path("/dev/shm", f"mlserve-{counter.process_id}.seq")


def test_a_file_that_somebody_empties_stops_nothing_and_is_whole_when_it_is_kept(
    tmp_path: Path,
) -> None:
    counter = ProcessCounter(tmp_path)
    (path,) = counter_files(tmp_path)
    counter.increment()
    os.truncate(path, 0)
    assert counter.increment() == 2
    in_shared_memory(counter).unlink()
    counter.keep()
    counter.close()
    with ended_process(path) as ended:
        assert ended is not None
        assert ended.n_appended == 2


def test_counting_makes_no_system_call_and_a_killed_process_has_counted_all(
    tmp_path: Path,
) -> None:
    ours, theirs = processes.Pipe()
    child = processes.Process(target=_count_without_system_calls, args=(tmp_path, theirs))
    child.start()
    told = ours.recv_bytes()
    child.join(WAIT_S)
    if told == b"free":
        pytest.skip("the operating system does not hold a process to a few calls (seccomp)")
    assert child.exitcode == -signal.SIGKILL
    (path,) = counter_files(tmp_path)
    with ended_process(path) as ended:
        assert ended is not None
        assert (ended.process_id, ended.pid) == (path.stem, child.pid)
        assert ended.n_appended == N_COUNTED
    assert not Path("/dev/shm", f"mlserve-{path.name}").exists()


N_COUNTED = 10_000
_PR_SET_SECCOMP, _SECCOMP_MODE_STRICT = 22, 1


def _count_without_system_calls(folder: Path, pipe: Connection) -> None:
    """Count where the first call but ``read`` and ``write`` is death; so is the process's end."""
    counter = ProcessCounter(folder)
    if ctypes.CDLL(None).prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_STRICT, 0, 0, 0) != 0:
        pipe.send_bytes(b"free")
        return
    for _ in range(N_COUNTED):
        counter.increment()
    pipe.send_bytes(b"counted")


def test_where_the_shared_memory_is_gone_what_was_kept_counts(tmp_path: Path) -> None:
    n_counted = _killed(tmp_path)
    (path,) = counter_files(tmp_path)
    in_memory = Path("/dev/shm", f"mlserve-{path.name}")
    assert in_memory.stat().st_mode & 0o777 == 0o600
    in_memory.unlink()
    with ended_process(path) as ended:
        assert ended is not None
        assert ended.n_appended == n_counted
    assert not path.exists()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.write_bytes(b"x" * 99)])
def test_what_somebody_else_has_put_into_the_shared_memory_is_not_believed(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    n_counted = _killed(tmp_path)
    (path,) = counter_files(tmp_path)
    in_memory = Path("/dev/shm", f"mlserve-{path.name}")
    in_memory.unlink()
    make(in_memory)
    try:
        with ended_process(path) as ended:
            assert ended is not None
            assert ended.n_appended == n_counted
    finally:
        if in_memory.is_dir():
            in_memory.rmdir()


def test_without_shared_memory_a_process_counts_and_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHARED_MEMORY", tmp_path / "nowhere")
    counter = ProcessCounter(tmp_path)
    assert [counter.increment() for _ in range(3)] == [1, 2, 3]
    (path,) = counter_files(tmp_path)
    counter.close()
    counter.keep()
    with ended_process(path) as ended:
        assert ended is not None
        assert ended.n_appended == 3


def _killed(folder: Path) -> int:
    """Return how many calls a process has counted and kept that was killed then."""
    ours, theirs = processes.Pipe()
    child = processes.Process(target=_count_and_wait, args=(folder, theirs))
    child.start()
    n_counted = int(ours.recv())
    child.kill()
    child.join(WAIT_S)
    return n_counted


def _count_and_wait(folder: Path, pipe: Connection) -> None:
    counter = ProcessCounter(folder)
    for _ in range(7):
        counter.increment()
    counter.keep()
    pipe.send(7)
    signal.pause()


def test_the_counter_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    counter = ProcessCounter(tmp_path)
    (path,) = counter_files(tmp_path)
    with ended_process(path) as ended:
        assert ended is None
    assert path.exists()
    counter.close()


def test_a_file_is_kept_where_its_account_could_not_be_settled(tmp_path: Path) -> None:
    ProcessCounter(tmp_path).close()
    (path,) = counter_files(tmp_path)
    with pytest.raises(ZeroDivisionError), ended_process(path):
        raise ZeroDivisionError
    assert path.exists()


def test_a_file_that_was_never_filled_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "01a2087e-5878-7ea2-a7c5-56a22f16abec.seq"
    path.touch()
    with ended_process(path) as ended:
        assert ended is None
    assert not path.exists()


def test_the_calls_that_a_killed_process_did_not_write_are_counted_once(
    engine: Engine, settings: Settings, deploy: Deploys, caplog: pytest.LogCaptureFixture
) -> None:
    served = deploy()
    ours, theirs = processes.Pipe()
    child = processes.Process(target=_log_and_wait, args=(settings, served, theirs))
    child.start()
    n_written = ours.recv()
    with opened_log(engine, settings) as log:
        # It lives, so nothing is lost yet.
        assert log.losses() == 0
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join(10)
    assert child.exitcode == -signal.SIGKILL
    assert n_rows(engine) == n_written == 40

    with opened_log(engine, settings) as log:
        assert log.losses() == 65
    assert losses_by_reason(engine) == {"process_ended": 65}
    assert f"65 predictions of process {child.pid} never reached the log" in caplog.text
    assert counter_files(settings.data_dir / "log") == []
    with opened_log(engine, settings) as log:
        assert log.losses() == 65


def _log_and_wait(settings: Settings, served: ServedVersion, pipe: Connection) -> None:
    """Write 40 calls, then wait to be killed with 60 more in the buffer and 5 dropped."""
    hesitant = replace(settings, log_flush_s=1000.0, log_buffer_rows=60)
    with opened(settings) as engine:
        log = PredictionLog(engine, hesitant, settings.data_dir / "log")
        for number in range(40):
            log.append(call(served, number))
        assert log.flush(WAIT_S)
        for number in range(65):
            log.append(call(served, number))
        pipe.send(n_rows(engine))
        signal.pause()
