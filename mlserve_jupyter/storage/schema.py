"""The schema's revision: checked at each start by one SELECT, and made or upgraded where needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import OperationalError, ProgrammingError

from mlserve_jupyter.errors import SchemaUnknown
from mlserve_jupyter.storage import monitoring_tables  # noqa: F401  adds its tables
from mlserve_jupyter.storage.engine import (
    allow_statements,
    reading,
    shown_url,
    translated_errors,
)
from mlserve_jupyter.storage.lock_retries import wait_briefly, with_lock_retries
from mlserve_jupyter.storage.tables import metadata

if TYPE_CHECKING:
    from alembic.config import Config

HEAD_REVISION = "0006"
"""The newest revision under ``migrations/versions``; a test holds the two together."""

MIGRATIONS = Path(__file__).parent / "migrations"

_LOCK_FOR_S = 120.0
"""How long an upgrade tries to get its locks from those who use the tables."""

# Any constant will do: it keeps the processes that upgrade one PostgreSQL database apart.
_ADVISORY_LOCK = 0x6D6C7365727665


def prepare_schema(engine: Engine) -> None:
    """Make sure that the database has the schema of this release.

    A database at the newest revision costs one SELECT. A new one is made and an older one is
    upgraded in one transaction, while any other process that starts at the same time waits.

    Raises
    ------
    SchemaUnknown
        The database was made by a newer release or by another program. It is left as it is.
    StorageUnavailable, StorageFull
        The database does not answer, or has no space left.
    """
    if _revisions(engine) != (HEAD_REVISION,):
        _migrate(engine)


def revision_of(engine: Engine) -> str | None:
    """Return the revision that a database is at; None for one without our tables.

    Of one that says to be at several, which none is, all of them.

    Raises
    ------
    StorageUnavailable
        The database does not answer.
    """
    return ", ".join(sorted(_revisions(engine))) or None


def advice_of(engine: Engine) -> str | None:
    """Return what to do about a database's revision; None where nothing is.

    Raises
    ------
    StorageUnavailable
        The database does not answer.
    """
    revisions = _revisions(engine)
    if revisions == (HEAD_REVISION,):
        return None
    refused = _refusal(revisions, engine)
    if refused is not None:
        return refused.message
    return (
        f"The schema is at revision {', '.join(revisions) or 'none'}; this release has "
        f"{HEAD_REVISION}: run `jupyter mlserve db upgrade` with the same options."
    )


def _revisions(engine: Engine) -> tuple[str, ...]:
    try:
        with reading(engine) as connection:
            return _read_revisions(connection)
    except (OperationalError, ProgrammingError):  # there is no such table yet
        return ()


def _read_revisions(connection: Connection) -> tuple[str, ...]:
    return tuple(connection.scalars(sa.text("SELECT version_num FROM alembic_version")))


def _migrate(engine: Engine) -> None:
    # Alembic takes half a second to import, which only this start should pay.
    from alembic import command

    config = _config()

    def upgrade() -> None:
        with translated_errors(engine), _exclusive(engine) as connection:
            _refuse_unknown(connection, engine)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            _check_references(connection, engine)

    with_lock_retries(upgrade, _LOCK_FOR_S)


def _check_references(connection: Connection, engine: Engine) -> None:
    """Refuse a migration after which an SQLite file has rows that refer to nothing."""
    if engine.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if broken:
            raise SchemaUnknown(
                f"The database {shown_url(engine.url)} has rows that refer to missing ones "
                f"({broken[0][0]} to {broken[0][2]}), so it was not upgraded. Restore a "
                "backup, or set database_url to another database.",
            )


@contextmanager
def _exclusive(engine: Engine) -> Iterator[Connection]:
    """Give a connection in a transaction in which no other process can migrate."""
    with engine.connect() as connection:
        sqlite = engine.dialect.name == "sqlite"
        if sqlite:
            # A migration that rebuilds a table drops the old one, which must not cascade; the
            # pragma does nothing within a transaction, hence on the driver's own connection.
            driver = connection.connection.cursor()
            driver.execute("PRAGMA foreign_keys=OFF")
        try:
            connection = connection.execution_options(mlserve_writing=True)
            with connection.begin():
                if not sqlite:
                    allow_statements(connection, inf)
                    connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
                    wait_briefly(connection)
                yield connection
        finally:
            if sqlite:
                driver.execute("PRAGMA foreign_keys=ON")
                driver.close()


def _refuse_unknown(connection: Connection, engine: Engine) -> None:
    there = set(sa.inspect(connection).get_table_names())
    revisions = _read_revisions(connection) if "alembic_version" in there else ()
    refused = _refusal(revisions, engine)
    if refused is not None:
        raise refused
    taken = sorted(there & set(metadata.tables))
    if taken and not revisions:
        raise SchemaUnknown(
            f"The database {shown_url(engine.url)} already has a table {taken[0]!r} that another "
            "program made. Set database_url to a database of its own, such as "
            "sqlite:////folder/mlserve.db.",
        )


def _refusal(revisions: Sequence[str], engine: Engine) -> SchemaUnknown | None:
    """Return why a database at these revisions cannot be upgraded, or None if it can."""
    from alembic.script import ScriptDirectory

    shown = shown_url(engine.url)
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    unknown = [revision for revision in revisions if revision not in known]
    if unknown:
        return SchemaUnknown(
            f"The database {shown} has revision {unknown[0]!r}, which this release does not know "
            f"(its newest is {HEAD_REVISION!r}): a newer release made it. Run `pip install "
            "--upgrade mlserve_jupyter`, or set database_url to another database.",
            revision=unknown[0],
        )
    if len(revisions) > 1:
        several = ", ".join(map(repr, sorted(revisions)))
        return SchemaUnknown(
            f"The database {shown} says to be at several revisions ({several}), of which it can "
            "have one: its table alembic_version was changed by hand, or restored twice. Restore "
            "a backup, or set database_url to another database.",
            revision=", ".join(sorted(revisions)),
        )
    return None


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
