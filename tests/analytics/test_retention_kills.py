"""Archiving that is killed at any of its steps loses no prediction, and has none twice."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.archives import read_archives
from mlserve_jupyter.settings import Settings
from tests.analytics.archives import (
    CUTOFF,
    OLD,
    archive,
    ids_in_files,
    keys_in_store,
    log_calls,
    retention_of,
    rows_of,
    times_on,
)
from tests.registry.deploys import Deploys
from tests.storage.databases import opened, processes

MAX_STEPS = 400
_STEPS_ON_DISK = {"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_row_36_archiving_killed_at_any_step_loses_nothing(
    engine: Engine, settings: Settings, deploy: Deploys, tmp_path: Path
) -> None:
    # Files in a folder: a put into S3 is one step, and a slow one.
    settings = replace(settings, artifacts_url="")
    served = deploy()
    for step in range(1, MAX_STEPS):
        log_calls(engine, settings, served, *times_on(OLD, 3))
        fresh = set(rows_of(engine))
        assert len(fresh) == 3
        known = {kept.id for kept in read_archives(engine)}
        child = processes.Process(target=_archive_and_die, args=(settings, step))
        child.start()
        child.join(60)
        left = set(rows_of(engine))
        in_files = ids_in_files(engine, settings, tmp_path / "files", known)
        assert len(in_files) == len(set(in_files)), "a call is in two files"
        assert left | set(in_files) == fresh, "a call is nowhere"
        archive(engine, settings)
        assert not rows_of(engine)
        archived = ids_in_files(engine, settings, tmp_path / "files", known)
        assert sorted(archived) == sorted(fresh)
        assert {kept.state for kept in read_archives(engine)} == {"archived"}
        assert len(keys_in_store(settings)) == len(read_archives(engine))
        assert not list((settings.data_dir / "archiving").iterdir())
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL, f"step {step}"
    assert child.exitcode == 0, "the last run was killed as well"
    assert step > 30


def _archive_and_die(settings: Settings, last_step: int) -> None:
    with opened(settings) as engine, retention_of(engine, settings) as retention:
        n_steps = 0

        def step(*of_the_event: object) -> None:
            nonlocal n_steps
            n_steps += 1
            if n_steps == last_step:
                os.kill(os.getpid(), signal.SIGKILL)

        def on_audit(what: str, args: tuple[object, ...]) -> None:
            if what in _STEPS_ON_DISK and str(settings.data_dir) in str(args[0]):
                step()

        event.listen(engine, "before_cursor_execute", step)
        event.listen(engine, "commit", step)
        event.listen(engine, "checkin", step)
        sys.addaudithook(on_audit)
        retention.archive(CUTOFF)
        last_step = -1
