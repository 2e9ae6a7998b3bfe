"""The states of archives, each changed only from the one that it was read in.

A lock may be lost without a word, so that two processes archive for a moment. Whose step still
counts is decided here: a change is made to the row as it was read or not at all, what a step relies
on is locked for its transaction, and who takes an unfinished archive over gives it another id, so
that whoever began it finds it no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlserve_jupyter.analytics.archives import Archive
from mlserve_jupyter.errors import Conflict
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.monitoring_tables import archives


def begin(connection: Connection, archive: Archive) -> None:
    """Add the row of an archive that is to be written.

    Raises
    ------
    Conflict
        Another one has rows of that day, or is being written.
    """
    _lock_all(connection)
    if _has_other(connection, archive, archives.c.state != "archived"):
        raise overtaken(archive)
    connection.execute(archives.insert().values(**archive.__dict__))


def begin_restoring(connection: Connection, archive: Archive, kept_until: datetime) -> Archive:
    """Let the rows of an archive be put back; returns it as it is now.

    Raises
    ------
    Conflict
        It is not as it was read, or another one is being written of what the table has of its day.
    """
    _lock_all(connection)
    if _has_other(connection, archive, archives.c.state == "writing"):
        raise overtaken(archive)
    return change(connection, archive, state="restoring", kept_until=kept_until)


def change(connection: Connection, archive: Archive, **values: Any) -> Archive:
    """Change an archive that is as it was read; returns it as it is now.

    Parameters
    ----------
    values
        Of columns, of as many types.

    Raises
    ------
    Conflict
        It is not, and was left as it is.
    """
    changed = connection.execute(archives.update().where(_is_as(archive)).values(**values))
    if changed.rowcount != 1:
        raise overtaken(archive)
    return replace(archive, **values)


def take_over(connection: Connection, archive: Archive) -> Archive:
    """Take an archive from whoever writes it, so that it is never verified; returns it as it is.

    Raises
    ------
    Conflict
        It is not as it was read.
    """
    return change(connection, archive, id=new_id())


def discard(connection: Connection, archive: Archive) -> None:
    """Remove the row of an archive that was taken over, and whose file is gone."""
    connection.execute(archives.delete().where(_is_as(archive)))


def hold(connection: Connection, archive: Archive) -> None:
    """Keep an archive as it is until the transaction ends.

    Raises
    ------
    Conflict
        It is not as it was read.
    """
    query = sa.select(archives.c.id).where(_is_as(archive)).with_for_update()
    if connection.scalar(query) is None:
        raise overtaken(archive)


def hold_span(
    connection: Connection, begins_at: datetime, ends_at: datetime, held: Sequence[Archive]
) -> None:
    """Keep all archives of a span as they are, and others out of it, until the transaction ends.

    Parameters
    ----------
    held
        Those of the span, as they were read.

    Raises
    ------
    Conflict
        There are others now, or they are not as they were.
    """
    _lock_all(connection)
    query = (
        sa.select(archives)
        .where(archives.c.begins_at < ends_at, archives.c.ends_at > begins_at)
        .order_by(archives.c.begins_at, archives.c.id)
        .with_for_update()
    )
    found = [Archive(**row._mapping) for row in connection.execute(query)]
    if found != list(held):
        raise Conflict(
            f"Another process has changed the archives between {begins_at.date()} and "
            f"{ends_at.date()} meanwhile, so that this one stops; the next run goes on."
        )


def overtaken(archive: Archive) -> Conflict:
    """Return the error of an archive that another process is at."""
    return Conflict(
        f"Another process works on the archive of {archive.day} as well, so that this one stops; "
        "the next run goes on."
    )


def _is_as(archive: Archive) -> sa.ColumnElement[bool]:
    return (
        (archives.c.id == archive.id)
        & (archives.c.state == archive.state)
        & archives.c.kept_until.is_not_distinct_from(archive.kept_until)
        & archives.c.sha256.is_not_distinct_from(archive.sha256)
    )


def _has_other(connection: Connection, archive: Archive, where: sa.ColumnElement[bool]) -> bool:
    query = sa.select(archives.c.id).where(
        archives.c.begins_at == archive.begins_at, archives.c.id != archive.id, where
    )
    return connection.scalar(query.limit(1)) is not None


def _lock_all(connection: Connection) -> None:
    """Keep other transactions from adding or changing any; on SQLite they wait anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("LOCK TABLE archives IN SHARE ROW EXCLUSIVE MODE"))
