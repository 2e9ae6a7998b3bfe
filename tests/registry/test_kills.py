"""A deploy that is killed at each of its steps leaves the old version or the new one, whole."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from mlserve_jupyter.registry.registry import Registry
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading
from mlserve_jupyter.storage.tables import model_versions
from tests.registry.deploys import Deploys
from tests.storage.databases import opened, processes, settings_in

MAX_STEPS = 200


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clf", "new-model"])
def test_row_28_a_deploy_killed_at_any_step_leaves_nothing_in_part(
    tmp_path: Path, name: str
) -> None:
    template = settings_in(tmp_path)
    with opened(template) as engine:
        Deploys(engine, template.artifacts_dir)(content=b"old")
    outcomes = []
    for step in range(1, MAX_STEPS):
        settings = settings_in(tmp_path / str(step))
        shutil.copytree(template.data_dir, settings.data_dir)
        ours, theirs = processes.Pipe(duplex=False)
        child = processes.Process(target=_deploy_and_die, args=(settings, name, step, theirs))
        child.start()
        theirs.close()
        child.join(60)
        died_at = ours.recv() if child.exitcode else None
        outcomes.append((died_at, check_whole(settings, name)))
        shutil.rmtree(settings.data_dir)
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
    steps = [step for step, _ in outcomes]
    assert steps[-1] is None, "the last run was not killed"
    assert {"open", "os.mkdir", "os.rename", "COMMIT", "after COMMIT"} <= set(steps)
    published = [new for _, new in outcomes]
    assert published == sorted(published), "once it is published it stays so"
    assert published[0] is False
    assert published[steps.index("COMMIT")] is False
    assert published[steps.index("after COMMIT")] is True


def check_whole(settings: Settings, name: str) -> bool:
    """Return whether the new version is there; fail where anything is there in part."""
    with opened(settings) as engine:
        deploy = Deploys(engine, settings.artifacts_dir)
        catalog = deploy.registry.snapshot()
        assert catalog.resolve(deploy.user, "clf", 1).path.read_bytes() == b"old"
        with reading(engine) as connection:
            n_rows = connection.execute(
                sa.select(sa.func.count()).select_from(model_versions)
            ).scalar_one()
        served = [
            version
            for model in catalog.list_models(deploy.user).items
            for version in model.versions.values()
        ]
        assert len(served) == n_rows
        assert len(catalog) == len({version.model for version in served})
        for version in served:
            assert hashlib.sha256(version.path.read_bytes()).hexdigest() == version.sha256
        Registry(engine, deploy.store).sweep()
        assert set(deploy.store.root.glob("*/*/v*")) == {v.path.parent for v in served}
        assert not list((deploy.store.root / ".staging").iterdir())
        newest = max((v.version for v in served if v.model == name), default=0)
        assert deploy(name, b"next").version == newest + 1
        return n_rows == 2


def _deploy_and_die(settings: Settings, name: str, last_step: int, pipe: Connection) -> None:
    with opened(settings) as engine:
        deploy = Deploys(engine, settings.artifacts_dir)
        n_steps = 0

        def step(what: str) -> None:
            nonlocal n_steps
            n_steps += 1
            if n_steps == last_step:
                pipe.send(what)
                os.kill(os.getpid(), signal.SIGKILL)

        def on_audit(what: str, args: tuple[object, ...]) -> None:
            if what in {"open", "os.mkdir", "os.rename", "os.chmod", "os.rmdir", "os.remove"} and (
                str(settings.data_dir) in str(args[0])
            ):
                step(what)

        event.listen(engine, "before_cursor_execute", lambda *args: step(args[2].split()[0]))
        event.listen(engine, "commit", lambda *args: step("COMMIT"))
        event.listen(engine, "checkin", lambda *args: step("after COMMIT"))
        sys.addaudithook(on_audit)
        deploy(name, b"new")
        last_step = -1
