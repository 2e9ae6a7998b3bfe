"""The process that archives, as a server starts it."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest

from mlserve_jupyter import archiving
from mlserve_jupyter.accounts.audit import SERVER
from mlserve_jupyter.analytics.archives import read_archives
from mlserve_jupyter.archiving import Archiver, opened_retention
from mlserve_jupyter.errors import Conflict, Unavailable
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.leadership import leading
from tests.analytics.archives import (
    CUTOFF,
    DAY,
    OLD,
    TODAY,
    ids_in_files,
    log_calls,
    rows_of,
    times_on,
)
from tests.analytics.calls import WAIT_S
from tests.registry.deploys import Deploys
from tests.standalone.hosts import start_standalone
from tests.storage.databases import opened, processes
from tests.stores import Stores


@pytest.fixture
def settings(stores: Stores, tmp_path: Path) -> Settings:
    return stores.settings(tmp_path)


def wait_until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "waited for too long"
        time.sleep(0.02)


def children() -> list[psutil.Process]:
    """Return the processes of this one that archive."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.is_running() and "mlserve_jupyter.archiving" in " ".join(_command_line(child))
    ]


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def test_a_process_of_its_own_archives(settings: Settings) -> None:
    with opened(settings) as engine:
        served = Deploys(engine, settings.artifacts_dir)()
        log_calls(engine, settings, served, *times_on(OLD, 3), *times_on(TODAY - DAY, 2))
        Archiver(settings, engine).run(lambda: True)
        assert len(rows_of(engine)) == 2


def test_no_process_is_started_for_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving.sys, "executable", "/nowhere")
    with opened(settings) as engine:
        served = Deploys(engine, settings.artifacts_dir)()
        log_calls(engine, settings, served, *times_on(TODAY - DAY, 2))
        Archiver(settings, engine).run(lambda: True)
        log_calls(engine, settings, served, *times_on(OLD, 2))
        keeping = archiving.Settings(data_dir=settings.data_dir, retention_days=0)
        Archiver(keeping, engine).run(lambda: True)
        with pytest.raises(FileNotFoundError):
            Archiver(settings, engine).run(lambda: True)


def test_without_pyarrow_it_says_so_once_and_keeps_all(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(archiving, "find_spec", lambda name: None)
    with opened(settings) as engine:
        served = Deploys(engine, settings.artifacts_dir)()
        log_calls(engine, settings, served, *times_on(OLD, 2))
        archiver = Archiver(settings, engine)
        with caplog.at_level(logging.WARNING):
            archiver.run(lambda: True)
            archiver.run(lambda: True)
        assert [record.getMessage() for record in caplog.records] == [
            "Old predictions are not archived: pyarrow is not installed: "
            "`pip install 'mlserve_jupyter[arrow]'`."
        ]
        assert len(rows_of(engine)) == 2


def test_what_goes_wrong_there_is_said_here(settings: Settings) -> None:
    with opened(settings) as engine:
        served = Deploys(engine, settings.artifacts_dir)()
        log_calls(engine, settings, served, *times_on(OLD, 2))
        (settings.data_dir / "archiving").write_text("a file where a folder should be")
        with pytest.raises(Unavailable, match="archiving.* cannot be used"):
            Archiver(settings, engine).run(lambda: True)
        assert len(rows_of(engine)) == 2


def test_two_do_not_archive_at_once(settings: Settings) -> None:
    with opened(settings) as engine:
        served = Deploys(engine, settings.artifacts_dir)()
        log_calls(engine, settings, served, *times_on(OLD, 2))
        with leading(engine, "archives"):
            with (
                opened(settings) as other,
                pytest.raises(Conflict, match="Another process"),
                opened_retention(settings, other, SERVER),
            ):
                pass
            Archiver(settings, engine).run(lambda: True)
            assert len(rows_of(engine)) == 2


def test_it_ends_when_it_may_not_go_on(settings: Settings) -> None:
    with opened(settings) as engine:
        served = Deploys(engine, settings.artifacts_dir)()
        log_calls(engine, settings, served, *times_on(OLD, 2))
        Archiver(settings, engine).run(lambda: False)
        assert not children()


@pytest.mark.slow
def test_it_ends_with_the_process_that_started_it(settings: Settings) -> None:
    with opened(settings) as engine:
        served = Deploys(engine, settings.artifacts_dir)()
        log_calls(engine, settings, served, *times_on(OLD, 2000))
        parent = processes.Process(target=_archive, args=(settings,))
        parent.start()
        wait_until(children)
        assert parent.pid is not None
        own = children()
        os.kill(parent.pid, signal.SIGKILL)
        parent.join(WAIT_S)
        wait_until(lambda: not any(_is_alive(child) for child in own))


def _is_alive(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


def _archive(settings: Settings) -> None:
    with opened(settings) as engine:
        Archiver(settings, engine).run(lambda: True)


@pytest.mark.slow
def test_killed_again_and_again_while_calls_are_logged_it_loses_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    with opened(settings) as engine:
        served = Deploys(engine, settings.artifacts_dir)()
        for day in range(3):
            log_calls(engine, settings, served, *times_on(OLD + day * DAY, 1500))
        old = {id for id, row in rows_of(engine).items() if row["created_at"] < CUTOFF}
        is_done = Event()
        Thread(target=_kill_children, args=(is_done,), daemon=True).start()
        n_kills = 0
        while rows_of(engine).keys() & old:
            log_calls(engine, settings, served, *times_on(TODAY - DAY, 50))
            try:
                Archiver(settings, engine).run(lambda: True)
            except Unavailable as error:
                if "ended with -9" not in error.message:
                    raise
                n_kills += 1
            in_files = ids_in_files(engine, settings, tmp_path / "files")
            assert old <= {*rows_of(engine), *in_files}
            assert len(in_files) == len(set(in_files))
        is_done.set()
        assert n_kills > 0
        assert set(in_files) == old


def _kill_children(is_done: Event) -> None:
    """Kill what archives after 0.4, 0.6, 0.8 … seconds: at first it cannot get far."""
    wait_s = 0.4
    while not is_done.wait(0.01):
        for child in children():
            is_done.wait(wait_s)
            wait_s += 0.2
            with suppress(psutil.Error):
                child.kill()


@pytest.mark.slow
def test_a_server_archives_by_itself(stores: Stores, tmp_path: Path) -> None:
    settings = stores.at(tmp_path / "data" / "mlserve")
    with opened(settings) as engine:
        served = Deploys(engine, settings.artifacts_dir)()
        log_calls(engine, settings, served, *times_on(OLD, 20), *times_on(TODAY - DAY, 2))
        with start_standalone(tmp_path, "--workers=2", stores=stores) as server:
            server.request("GET", "api/v1/models")
            states = ["verified", "archived"]
            wait_until(lambda: [kept.n_rows for kept in read_archives(engine, states)] == [20])
            if engine.dialect.name == "sqlite":  # elsewhere they may wait for the end of a month
                wait_until(lambda: len(rows_of(engine)) == 2)
            assert server.request("GET", "api/v1/models").status_code == 200
