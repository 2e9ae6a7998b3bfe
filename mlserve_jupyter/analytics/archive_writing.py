"""How the file of a day is written, put into the store, and read back from there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.archive_file import ArchiveWriter, read_content
from mlserve_jupyter.analytics.archive_rows import read_groups
from mlserve_jupyter.analytics.archives import Archive
from mlserve_jupyter.errors import ArtifactCorrupt
from mlserve_jupyter.storage.object_store import ObjectStore


class VerifiedFile(NamedTuple):
    """What a file is that came back from the store as it was written; by the columns' names."""

    sha256: str
    size_bytes: int
    n_rows: int


def write_day(
    engine: Engine,
    objects: ObjectStore,
    folder: Path,
    archive: Archive,
    check: Callable[[], None],
) -> VerifiedFile:
    """Write what the table has of an archive's day into the store, and compare what comes back.

    Parameters
    ----------
    folder
        An empty one.
    check
        Called between the steps; raises where it is to stop.

    Raises
    ------
    ArtifactCorrupt
        What came back is something else.
    StorageUnavailable, StorageFull
        The database, the store or the disk.
    """
    new, back = folder / "new.parquet", folder / "back.parquet"
    writer = ArchiveWriter(new)
    for rows in read_groups(engine, archive.begins_at, archive.ends_at):
        check()
        writer.write(rows)
    content = writer.close()
    check()
    sha256 = objects.put(archive.key, new)
    check()
    objects.get(archive.key, back, sha256)
    if read_content(back) != content:
        raise ArtifactCorrupt(
            f"The archive {archive.key} does not read as it was written, so that the "
            "predictions of that day stay where they are."
        )
    check()
    return VerifiedFile(sha256, back.stat().st_size, content.n_rows)
