"""The process that archives old predictions, and how the leader of the platform starts it.

Reading and writing Parquet takes memory, and Python's interpreter lock, that a server's process
has for requests; so this is a process of its own, of low priority. It ends with its parent.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, BinaryIO

from mlserve_jupyter.accounts.audit import SERVER, Origin
from mlserve_jupyter.errors import Conflict, MLServeError, SettingsInvalid, Unavailable
from mlserve_jupyter.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from mlserve_jupyter.analytics.maintenance import MayGoOn
    from mlserve_jupyter.analytics.retention import Retention

log = logging.getLogger(__name__)

CHECK_S = 3600.0
"""How often the leader looks for days that are old enough."""

_POLL_S = 0.2
_NICE = 10
_FOLDER = "archiving"
_START = """
import sys
sys.path[0] = sys.argv.pop(1)
from mlserve_jupyter.archiving import main
main()
"""


class Archiver:
    """Starts the process where there is something to archive.

    Parameters
    ----------
    settings
        ``retention_days``, and what else the process is to know.
    engine
        Of a database whose schema is prepared.
    """

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._is_told = False

    def run(self, may_go_on: MayGoOn) -> None:
        """Archive what is old enough; a job of :mod:`mlserve_jupyter.analytics.maintenance`.

        Raises
        ------
        Unavailable
            Saying what the process could not do.
        StorageUnavailable
            The database does not answer.
        """
        from mlserve_jupyter.analytics.archives import is_due

        days = self._settings.retention_days
        if not days or not is_due(self._engine, cutoff(days)):
            return
        if find_spec("pyarrow") is None:
            if not self._is_told:
                self._is_told = True
                log.warning("Old predictions are not archived: %s", _missing())
            return
        package = Path(__file__).parent
        with subprocess.Popen(
            [sys.executable, "-c", _START, str(package.parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            try:
                _watch(process, self._settings, may_go_on)
            finally:
                process.kill()


def cutoff(retention_days: int) -> datetime:
    """Return the midnight (UTC) before which all calls are at least so many days old."""
    from mlserve_jupyter.analytics.archives import DAY, day_of

    return day_of(datetime.now(timezone.utc)) - retention_days * DAY


@contextmanager
def opened_retention(settings: Settings, engine: Engine, origin: Origin) -> Iterator[Retention]:
    """Give what archives and restores, while no other process does.

    Raises
    ------
    Conflict
        Another one does.
    SettingsInvalid
        pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        raise SettingsInvalid(_missing())
    from mlserve_jupyter.analytics.retention import Retention
    from mlserve_jupyter.storage.leadership import leading
    from mlserve_jupyter.storage.object_store import open_object_store

    with leading(engine, "archives") as may_go_on:
        objects = open_object_store(settings)
        try:
            yield Retention(engine, objects, settings.data_dir / _FOLDER, origin.write, may_go_on)
        finally:
            objects.close()


def main() -> None:
    """Archive what the settings on the standard input say; what goes wrong is printed."""
    settings = pickle.load(sys.stdin.buffer)
    assert isinstance(settings, Settings)
    Thread(target=_end_with, args=(sys.stdin.buffer,), daemon=True).start()
    os.nice(_NICE)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    from mlserve_jupyter.storage.engine import open_engine

    try:
        engine = open_engine(settings)
        try:
            with opened_retention(settings, engine, SERVER) as retention:
                retention.archive(cutoff(settings.retention_days))
        finally:
            engine.dispose()
    except Conflict as error:
        log.info("%s", error)  # somebody does it already
    except MLServeError as error:
        print(error, flush=True)
        os._exit(1)
    os._exit(0)


def _watch(process: subprocess.Popen[bytes], settings: Settings, may_go_on: MayGoOn) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):  # what it ended with says more
        process.stdin.write(pickle.dumps(settings))
        process.stdin.flush()
    while True:
        try:
            process.wait(_POLL_S)
            break
        except subprocess.TimeoutExpired:
            if not may_go_on():
                return  # the next one goes on from there
    if process.returncode:
        said = process.stdout.read().decode(errors="replace").strip()
        raise Unavailable(
            said or f"The process that archives predictions ended with {process.returncode}."
        )


def _end_with(parent: BinaryIO) -> None:
    """End this process when the other end of a pipe is closed, however that one ended."""
    parent.read()
    os._exit(1)


def _missing() -> str:
    return "pyarrow is not installed: `pip install 'mlserve_jupyter[arrow]'`."
