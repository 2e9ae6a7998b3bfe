"""Old predictions go into files, a day at a time, and come back where they are asked for.

::

    a day is older than the cutoff
      row in ``archives``: writing
      Parquet file → artifact store → read back: each value as it was read from the table
      verified
      SQLite: its rows are deleted, in small transactions   PostgreSQL: when all days of a month
                                                            are verified, its partition is dropped
      archived

Each arrow is a transaction, or is found out about by the next run, so that it may be cut off
anywhere; each goes from the state that was read, so that of two processes at most one makes it. No
row goes before the file that holds it was read back from the store; which rows go is read from that
file, and they go while its archive is kept ``verified``. Rollups stay. What is restored is archived
already, and goes again in time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.analytics.archive_file import read_rows
from mlserve_jupyter.analytics.archive_folder import ArchiveFolder
from mlserve_jupyter.analytics.archive_partitions import (
    detach,
    detached_partitions,
    drop_detached,
)
from mlserve_jupyter.analytics.archive_rows import (
    Restored,
    delete_rows,
    restore_rows,
)
from mlserve_jupyter.analytics.archive_states import (
    begin,
    begin_restoring,
    change,
    discard,
    hold,
    hold_span,
    take_over,
)
from mlserve_jupyter.analytics.archive_writing import write_day
from mlserve_jupyter.analytics.archives import (
    BEGINNING,
    DAY,
    Archive,
    day_of,
    oldest_prediction,
    read_archives,
)
from mlserve_jupyter.errors import ArtifactCorrupt, Conflict, Unavailable
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.lock_retries import with_lock_retries
from mlserve_jupyter.storage.object_store import ObjectStore
from mlserve_jupyter.storage.partitions import Partition, read_partitions

log = logging.getLogger(__name__)

LOCK_FOR_S = 60.0
"""How long a partition's table is tried to be locked; then the next run tries it."""

_MAX_PAUSE_S = 1.0

Journal = Callable[[Connection, str, str, dict[str, Any]], None]
"""Writes an event of the audit log: action, target and facts, which are JSON values."""


class Retention:
    """Archives and restores; one at a time on a database, which the caller sees to.

    Where that fails, nothing is lost: the one that was overtaken stops.

    Parameters
    ----------
    engine
        Of a database whose schema is prepared.
    objects
        Where the files lie.
    folder
        For files under way.
    journal
        Is told of what is archived, removed and restored.
    may_go_on
        Asked between the steps.
    """

    def __init__(
        self,
        engine: Engine,
        objects: ObjectStore,
        folder: Path,
        journal: Journal,
        may_go_on: Callable[[], bool],
    ) -> None:
        self._engine = engine
        self._objects = objects
        self._folder = ArchiveFolder(folder)
        self._journal = journal
        self._may_go_on = may_go_on

    def archive(self, before: datetime) -> list[Archive]:
        """Archive the days that ended before a time, and remove what is archived.

        A day whose file is not what it should be does not keep the others from being archived.

        Returns
        -------
        list of Archive
            The days that were written now.

        Raises
        ------
        ArtifactCorrupt
            The first of these.
        StorageUnavailable, StorageFull, Unavailable
            The database, the store or the disk; or it was stopped.
        Conflict
            Another process works on the same archives; this one stops.
        """
        failures: list[ArtifactCorrupt] = []
        written: list[Archive] = []
        self._sweep()
        for partition in self._detached():
            with _kept(failures):
                self._drop(partition)
        for archive in self._removable():
            with _kept(failures):
                self._check()
                self._remove_rows(archive)
        for begins_at in self._days_to_archive(before):
            with _kept(failures):
                archive = self._archive_day(begins_at)
                written.append(archive)
                log.info(
                    "The %d predictions of %s are in %s.", archive.n_rows, archive.day, archive.key
                )
        for partition in self._droppable(before):
            self._detach(partition)
        for partition in self._detached():
            with _kept(failures):
                self._drop(partition)
        if failures:
            raise failures[0]
        return written

    def restore(
        self, begins_at: datetime, ends_at: datetime, kept_until: datetime
    ) -> list[tuple[Archive, Restored]]:
        """Put the calls of a span's days back into the table, for a time.

        Raises
        ------
        ArtifactCorrupt
            A file is gone, or is another one.
        StorageUnavailable, StorageFull
            The database or the store; the same call goes on with it.
        Conflict
            Another process works on the same archives; this one stops.
        """
        restored = []
        self._sweep()
        for archive in read_archives(self._engine):
            if archive.state == "writing" or not _overlap(archive, begins_at, ends_at):
                continue
            self._check()
            n_rows = n_without_model = 0
            with self._fetched(archive) as path:
                with writing(self._engine) as connection:
                    archive = begin_restoring(connection, archive, kept_until)
                for rows in read_rows(path):
                    self._check()
                    with self._paced(), writing(self._engine) as connection:
                        hold(connection, archive)
                        done = restore_rows(connection, rows)
                    n_rows += done.n_rows
                    n_without_model += done.n_without_model
            facts = {"n_rows": n_rows, "kept_until": kept_until.isoformat()}
            archive = self._set(archive, "predictions.restore", facts, state="restored")
            restored.append((archive, Restored(n_rows, n_without_model)))
            log.info("The %d predictions of %s are back.", n_rows, archive.day)
        return restored

    def _days_to_archive(self, before: datetime) -> Iterator[datetime]:
        """Give the days that have rows in no archive, or in one that has them no more."""
        since = BEGINNING
        while True:
            self._check()
            with reading(self._engine, timeout_s=inf) as connection:
                first = oldest_prediction(connection, since)
            if first is None or day_of(first) > before - DAY:
                return
            since = day_of(first) + DAY
            held = {
                archive.begins_at
                for archive in read_archives(self._engine, ["verified", "restoring", "restored"])
            }
            if day_of(first) not in held:
                yield day_of(first)

    def _archive_day(self, begins_at: datetime) -> Archive:
        archive = self._verified(self._begin(begins_at))
        return archive if self._is_in_partition(archive) else self._remove_rows(archive)

    def _verified(self, archive: Archive) -> Archive:
        with self._folder.working_on(archive) as folder, self._unless_overtaken(archive):
            file = write_day(self._engine, self._objects, folder, archive, self._check)
            facts = {"n_rows": file.n_rows, "key": archive.key, "sha256": file.sha256}
            return self._set(
                archive, "predictions.archive", facts, state="verified", **file._asdict()
            )

    @contextmanager
    def _unless_overtaken(self, archive: Archive) -> Iterator[None]:
        """Leave nothing of an archive that was taken over while it was written."""
        try:
            yield
        except (ArtifactCorrupt, Conflict):
            try:
                with writing(self._engine) as connection:
                    hold(connection, archive)
            except Conflict:
                # Whoever took it over may have removed the file before it was there.
                self._objects.delete(archive.key)
                raise
            raise

    def _begin(self, begins_at: datetime) -> Archive:
        id = new_id()
        archive = Archive(
            id=id,
            begins_at=begins_at,
            ends_at=begins_at + DAY,
            key=f"archives/{begins_at:%Y/%m}/predictions-{begins_at:%Y-%m-%d}-{id}.parquet",
            state="writing",
            created_at=datetime.now(timezone.utc),
            sha256=None,
            size_bytes=None,
            n_rows=None,
            kept_until=None,
        )
        with writing(self._engine) as connection:
            begin(connection, archive)
        return archive

    def _sweep(self) -> None:
        """Clear away what runs that were cut off have left.

        Of two that begin the same day at most one verifies it; a file goes only when it cannot be
        verified any more.
        """
        self._folder.clear(read_archives(self._engine))
        for archive in read_archives(self._engine, ["writing"]):  # all of its rows are in the table
            with writing(self._engine) as connection:
                taken = take_over(connection, archive)
            self._objects.delete(taken.key)
            with writing(self._engine) as connection:
                discard(connection, taken)

    def _removable(self) -> list[Archive]:
        """Return the archives whose rows are to be deleted one by one.

        Rows of a partition stay until all of it goes, also those that were restored there.
        """
        now = datetime.now(timezone.utc)
        removable = []
        for archive in read_archives(self._engine, ["verified", "restoring", "restored"]):
            if archive.kept_until is not None and archive.kept_until > now:
                continue
            if archive.state != "verified":
                archive = self._set(archive, state="verified", kept_until=None)
            if not self._is_in_partition(archive):
                removable.append(archive)
        return removable

    def _remove_rows(self, archive: Archive) -> Archive:
        """Delete from the table what the file holds, which is fetched once more for it."""
        with self._fetched(archive) as path:
            for rows in read_rows(path):
                self._check()
                with self._paced(), writing(self._engine, durable=False) as connection:
                    hold(connection, archive)
                    delete_rows(connection, rows)
        facts = {"n_rows": archive.n_rows, "key": archive.key}
        return self._set(archive, "predictions.remove", facts, state="archived")

    def _is_in_partition(self, archive: Archive) -> bool:
        return any(
            partition.begins_at <= archive.begins_at < partition.ends_at
            for partition in self._partitions()
        )

    def _partitions(self) -> list[Partition]:
        with reading(self._engine) as connection:
            return read_partitions(connection)

    def _droppable(self, before: datetime) -> list[Partition]:
        """Return the partitions of which each day with a row is verified."""
        verified = {archive.begins_at for archive in read_archives(self._engine, ["verified"])}
        detached = [partition[1:] for partition in self._detached()]
        return [
            partition
            for partition in self._partitions()
            if partition.ends_at <= before
            and partition[1:] not in detached
            and self._days_of(partition) <= verified
        ]

    def _days_of(self, partition: Partition) -> set[datetime]:
        days: set[datetime] = set()
        since = partition.begins_at
        while since < partition.ends_at:
            self._check()
            with reading(self._engine, timeout_s=inf) as connection:
                first = oldest_prediction(connection, since)
            if first is None or first >= partition.ends_at:
                break
            days.add(day_of(first))
            since = day_of(first) + DAY
        return days

    def _detach(self, partition: Partition) -> None:
        def attempt() -> None:
            self._check()
            held = self._archives_of(partition)
            if not {archive.state for archive in held} <= {"verified", "archived"}:
                return
            with writing(self._engine) as connection:
                hold_span(connection, partition.begins_at, partition.ends_at, held)
                if partition in read_partitions(connection):
                    detach(connection, partition)

        with_lock_retries(attempt, LOCK_FOR_S)

    def _detached(self) -> list[Partition]:
        with reading(self._engine) as connection:
            return detached_partitions(connection)

    def _drop(self, partition: Partition) -> None:
        """Drop a detached partition, but not what came too late for its archives."""
        held = self._archives_of(partition)
        with ExitStack() as stack:
            paths = [
                stack.enter_context(self._fetched(archive))
                for archive in held
                if archive.state != "writing"
            ]
            self._check()
            with writing(self._engine, timeout_s=inf) as connection:
                hold_span(connection, partition.begins_at, partition.ends_at, held)
                if partition not in detached_partitions(connection):
                    return
                drop_detached(connection, partition, chain.from_iterable(map(read_rows, paths)))
                for archive in held:
                    if archive.state == "verified":
                        facts = {"n_rows": archive.n_rows, "key": archive.key}
                        change(connection, archive, state="archived")
                        self._journal(connection, "predictions.remove", _target(archive), facts)

    def _archives_of(self, partition: Partition) -> list[Archive]:
        return [
            archive
            for archive in read_archives(self._engine)
            if _overlap(archive, partition.begins_at, partition.ends_at)
        ]

    @contextmanager
    def _fetched(self, archive: Archive) -> Iterator[Path]:
        """Give the file of an archive, whose bytes are those that were verified."""
        with self._folder.working_on(archive) as folder:
            path = folder / "archive.parquet"
            self._objects.get(archive.key, path, str(archive.sha256))
            yield path

    @contextmanager
    def _paced(self) -> Iterator[None]:
        """Leave others as much of the time as the block takes."""
        began_s = time.monotonic()
        yield
        time.sleep(min(time.monotonic() - began_s, _MAX_PAUSE_S))

    def _check(self) -> None:
        if not self._may_go_on():
            raise Unavailable("Archiving was stopped; the next run goes on with it.")

    def _set(
        self,
        archive: Archive,
        action: str | None = None,
        facts: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Archive:
        """Change an archive's row, in one transaction with its event; values as the row's."""
        with writing(self._engine) as connection:
            changed = change(connection, archive, **changes)
            if action is not None:
                self._journal(connection, action, _target(archive), facts or {})
        return changed


def _target(archive: Archive) -> str:
    return f"predictions {archive.day}"


def _overlap(archive: Archive, begins_at: datetime, ends_at: datetime) -> bool:
    return archive.begins_at < ends_at and begins_at < archive.ends_at


@contextmanager
def _kept(failures: list[ArtifactCorrupt]) -> Iterator[None]:
    """Keep what is wrong with one file, and go on with the others."""
    try:
        yield
    except ArtifactCorrupt as error:
        failures.append(error)
