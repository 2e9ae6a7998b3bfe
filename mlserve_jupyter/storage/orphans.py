"""Versions on disk that the database does not know: set aside, so that a person can get them back.

A deploy that was killed leaves one, and so does a database that was lost or put back to an older
state; from the folder alone the two cannot be told apart.

::

    models/.orphans/<user id>/<model name>/v<N>-<uuid>/
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from uuid import uuid4

from mlserve_jupyter.storage.folders import make_parents, remove_tree, sync_folder

log = logging.getLogger(__name__)

KEPT_DAYS = 30
"""How long an orphan is kept."""

_ORPHANS = ".orphans"
_DAY_S = 86_400


def set_aside(root: Path, folder: Path) -> Path:
    """Move a version's folder to the orphans, durably, and return where it is now.

    Raises
    ------
    OSError
        The disk refused; the folder is where it was.
    """
    place = root / _ORPHANS / folder.relative_to(root)
    place = place.with_name(f"{folder.name}-{uuid4()}")
    make_parents(place, root)
    os.utime(folder)  # its age as an orphan counts from now
    os.rename(folder, place)
    sync_folder(place.parent)
    sync_folder(folder.parent)
    log.warning(
        "%s is not in the database; it was moved to %s and is kept for %d days.",
        folder,
        place,
        KEPT_DAYS,
    )
    return place


def remove_old_orphans(root: Path) -> None:
    """Remove the orphans that were set aside over ``KEPT_DAYS`` days ago."""
    oldest_s = time.time() - KEPT_DAYS * _DAY_S
    for folder in (root / _ORPHANS).glob("*/*/v*-*"):
        if folder.stat().st_mtime < oldest_s:
            remove_tree(folder)
