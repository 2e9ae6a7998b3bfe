"""The folder of this host where archives are written and fetched, each in a place of its own.

Who works in such a place owns a file beside it, so that what was left can be told from what is in
use: also where a lock of the database was lost, and also by another database of the same folder.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlserve_jupyter.analytics.archive_states import overtaken
from mlserve_jupyter.analytics.archives import Archive
from mlserve_jupyter.storage.folders import (
    disk_errors,
    make_private_folder,
    open_and_own,
    remove_tree,
)

_LOCK = ".lock"


class ArchiveFolder:
    """The places of archives under way.

    Parameters
    ----------
    root
        Made at the first use.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def working_on(self, archive: Archive) -> Iterator[Path]:
        """Give an empty folder for an archive's files, removed at the end.

        Raises
        ------
        Conflict
            Another process of this host works on the same archive.
        StorageUnavailable, StorageFull
            The disk refuses.
        """
        make_private_folder(self._root)
        with self._owned(archive.id) as place:
            if place is None:
                raise overtaken(archive)
            with disk_errors(place):
                remove_tree(place)
            make_private_folder(place)
            yield place

    def clear(self, archives: Collection[Archive]) -> None:
        """Remove what nobody works on any more.

        Raises
        ------
        Conflict
            Another process of this host works on one of these archives.
        StorageUnavailable
            The disk refuses.
        """
        make_private_folder(self._root)
        own = {archive.id: archive for archive in archives}
        with disk_errors(self._root):
            names = {entry.name.removesuffix(_LOCK) for entry in self._root.iterdir()}
        for name in sorted(names):
            with self._owned(name) as place:
                if place is None and name in own:
                    raise overtaken(own[name])

    @contextmanager
    def _owned(self, name: str) -> Iterator[Path | None]:
        """Own a place, and remove it at the end; None where another process does."""
        place, lock = self._root / name, self._root / f"{name}{_LOCK}"
        with disk_errors(lock):
            fd = open_and_own(lock, os.O_CREAT | os.O_RDWR)
        if fd is None:
            yield None
            return
        try:
            yield place
        finally:
            try:
                with disk_errors(place):
                    remove_tree(place)
                    lock.unlink(missing_ok=True)
            finally:
                os.close(fd)
