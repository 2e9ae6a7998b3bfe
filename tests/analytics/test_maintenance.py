"""Of all processes on a database one runs the jobs, and another one soon after it has ended."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event
from time import monotonic, sleep

import pytest
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.maintenance import Maintenance, MayGoOn, PeriodicJob
from mlserve_jupyter.errors import StorageUnavailable
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.leadership import leadership_of
from tests.storage.databases import opened, processes, settings_in
from tests.storage.postgres_process import PostgresProcess

WAIT_S = 60.0


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    return settings_in(tmp_path, database_url=url)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    with opened(settings) as engine:
        yield engine


@contextmanager
def maintained(engine: Engine, *jobs: PeriodicJob) -> Iterator[Maintenance]:
    maintenance = Maintenance(engine, jobs, first_after_s=0, confirm_s=0.05)
    maintenance.start()
    try:
        yield maintenance
    finally:
        maintenance.close(WAIT_S)


def wait_until(condition: Callable[[], object]) -> None:
    deadline_s = monotonic() + WAIT_S
    while not condition():
        assert monotonic() < deadline_s, "waited for too long"
        sleep(0.01)


def test_a_job_runs_at_once_and_then_as_often_as_it_says(engine: Engine) -> None:
    often: list[float] = []
    rarely: list[float] = []
    jobs = (
        PeriodicJob("often", 0.05, lambda may_go_on: often.append(monotonic())),
        PeriodicJob("rarely", 3600, lambda may_go_on: rarely.append(monotonic())),
    )
    with maintained(engine, *jobs):
        wait_until(lambda: len(often) >= 5)
    assert len(rarely) == 1
    assert often[4] - often[0] >= 0.15


def test_a_job_that_fails_stops_neither_itself_nor_the_others(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    failed: list[str] = []
    fine: list[str] = []

    def fail(may_go_on: MayGoOn) -> None:
        failed.append("")
        raise StorageUnavailable("away") if len(failed) % 2 else RuntimeError("a bug")

    with (
        caplog.at_level(logging.WARNING),
        maintained(
            engine,
            PeriodicJob("failing", 0.05, fail),
            PeriodicJob("fine", 0.05, lambda may_go_on: fine.append("")),
        ),
    ):
        wait_until(lambda: len(failed) >= 4)
        wait_until(lambda: len(fine) >= 4)
    assert {record.levelname for record in caplog.records} == {"WARNING", "ERROR"}
    assert all("failing" in record.getMessage() for record in caplog.records)


def test_a_long_job_holds_up_no_other_and_is_not_begun_twice(engine: Engine) -> None:
    may_end, n_begun, others = Event(), [], []

    def long(may_go_on: MayGoOn) -> None:
        n_begun.append("")
        may_end.wait(WAIT_S)

    with maintained(
        engine,
        PeriodicJob("long", 0.01, long),
        PeriodicJob("short", 0.01, lambda may_go_on: others.append("")),
    ):
        wait_until(lambda: len(others) >= 5)
        assert len(n_begun) == 1
        may_end.set()
        wait_until(lambda: len(n_begun) >= 2)


def test_at_the_end_a_job_is_told_to_stop(engine: Engine) -> None:
    begun, stopped = Event(), Event()

    def work(may_go_on: MayGoOn) -> None:
        begun.set()
        wait_until(lambda: not may_go_on())
        stopped.set()

    with maintained(engine, PeriodicJob("work", 3600, work)):
        assert begun.wait(WAIT_S)
    assert stopped.is_set()
    assert leadership_of(engine, "maintenance").acquire(), "the lock was not given up"


@pytest.mark.slow
def test_of_many_processes_one_works_and_another_takes_over_when_it_is_killed(
    settings: Settings,
) -> None:
    with opened(settings), ExitStack() as stack:
        ours, theirs = processes.Pipe(duplex=False)
        children = {}
        for _ in range(4):
            child = processes.Process(target=_work, args=(settings, theirs))
            child.start()
            stack.callback(child.kill)
            assert child.pid is not None
            children[child.pid] = child
        while children:
            leader = _next_run(ours)
            assert {_next_run(ours) for _ in range(20)} == {leader}
            os.kill(leader, signal.SIGKILL)
            children.pop(leader).join(WAIT_S)
            while ours.poll():  # what it had said before
                assert ours.recv() in {leader, *children}


def _next_run(pipe: Connection) -> int:
    assert pipe.poll(WAIT_S), "nobody works"
    return int(pipe.recv())


def _work(settings: Settings, pipe: Connection) -> None:
    with opened(settings) as engine:
        job = PeriodicJob("tell", 0.02, lambda may_go_on: pipe.send(os.getpid()))
        with maintained(engine, job):
            Event().wait()


@pytest.mark.slow
def test_the_leader_of_a_database_that_restarts_is_one_again(
    postgres: PostgresProcess, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path, database_url=postgres.new_database())
    runs: list[str] = []
    with opened(settings) as engine, maintained(engine, _noting("job", runs)) as maintenance:
        wait_until(lambda: runs)
        postgres.stop()
        try:
            wait_until(lambda: not maintenance.leads)
        finally:
            postgres.start()
        runs.clear()
        wait_until(lambda: runs)


def _noting(name: str, runs: list[str]) -> PeriodicJob:
    return PeriodicJob(name, 0.02, lambda may_go_on: runs.append(name))


@pytest.mark.slow
def test_a_leader_that_falls_silent_loses_the_lock_before_another_can_have_it(
    postgres_url: str, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path, database_url=postgres_url)
    with opened(settings) as engine:
        silent, other = leadership_of(engine, "it", lease_s=0.4), leadership_of(engine, "it")
        assert silent.acquire()
        assert silent.is_held()
        wait_until(lambda: not silent.is_held() or other.acquire())
        assert not other.is_held()
        wait_until(other.acquire)
        with pytest.raises(StorageUnavailable):
            silent.acquire()
        assert not silent.acquire()
        other.release()
        assert silent.acquire()
        silent.release()
