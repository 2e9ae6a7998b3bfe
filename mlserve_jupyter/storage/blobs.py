"""Artifacts on disk: written aside, hashed on the way, and published by one rename.

::

    models/
      <user id>/<model name>/v<N>/model.<ext>      published
                                  model.onnx       where it was compiled
                                  metadata.json
      .staging/<uuid>/model.<ext>                  an upload under way
               <uuid>.lock                         held by the process that uploads
      .orphans/…                                   versions without a row; see ``orphans.py``
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

from mlserve_jupyter.errors import ArtifactRejected
from mlserve_jupyter.settings import Settings, check_name
from mlserve_jupyter.storage.folders import (
    disk_errors,
    make_parents,
    make_private_folder,
    remove_tree,
    sync_folder,
)
from mlserve_jupyter.storage.orphans import remove_old_orphans, set_aside
from mlserve_jupyter.storage.staging import (
    StagedArtifact,
    stage,
    sweep_staged,
    write_private_file,
)

EXTENSIONS = {"joblib": "joblib", "cloudpickle": "pkl", "skops": "skops"}
"""The file name extension of each format."""

GRAPH_NAME = "model.onnx"
"""The compiled graph, beside the artifact."""

_STAGING = ".staging"
METADATA_NAME = "metadata.json"


class VersionKey(NamedTuple):
    """What names the folder of a version.

    Attributes
    ----------
    user_id, model_name, version
        Taken again by another version, once a model was deleted.
    id
        Of this version alone.
    """

    user_id: str
    model_name: str
    version: int
    id: str


class ArtifactStore:
    """The folder of all artifacts on this machine.

    ``SharedArtifacts`` is one whose artifacts lie elsewhere, and of which this machine has copies;
    what only that one does, is nothing here.

    Parameters
    ----------
    root
        ``Settings.artifacts_dir``; made with mode 0700 at the first use.
    """

    is_shared = False
    """Whether artifacts lie where other hosts find them, so that they must be sent and fetched."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def stage(self, extension: str) -> StagedArtifact:
        """Begin an artifact that is not published yet.

        Parameters
        ----------
        extension
            Of the file name, without a dot; one of the values of ``EXTENSIONS``.

        Raises
        ------
        StorageFull, StorageUnavailable
            The folder cannot be made.
        """
        if extension not in EXTENSIONS.values():
            raise ArtifactRejected(
                f"{extension!r} is not the extension of an artifact: use one of "
                f"{', '.join(sorted(EXTENSIONS.values()))}.",
            )
        make_private_folder(self.root)
        return stage(self.root / _STAGING, extension)

    def folder(self, key: VersionKey) -> Path:
        """Return where a version lies on this machine, or would lie."""
        return self.root / str(UUID(key.user_id)) / check_name(key.model_name) / f"v{key.version:d}"

    def artifact_path(self, key: VersionKey, extension: str) -> Path:
        """Return where the artifact of a version lies on this machine, or would lie."""
        return self.folder(key) / f"model.{extension}"

    def send(self, staged: StagedArtifact, key: VersionKey, metadata: bytes) -> None:
        """Bring a staged artifact to where all hosts find it, before it is published.

        Raises
        ------
        StorageFull, StorageUnavailable
            It is not there, or not all of it.
        """

    def send_files(self, key: VersionKey, contents: dict[str, bytes]) -> None:
        """Bring files of a version to where all hosts find them; raises as :meth:`send` does."""

    def take_back(self, keys: Collection[VersionKey]) -> None:
        """Remove what was sent for versions of one model, as far as that can be done now.

        What is left, a sweep will find.
        """

    def publish(self, staged: StagedArtifact, key: VersionKey, metadata: bytes) -> Path:
        """Move a staged artifact to where it will be served from, durably.

        Whoever calls this keeps others from publishing the same version meanwhile; a folder that
        is already there is therefore an orphan of a deploy that was killed or of a database that is
        no more, and is set aside.

        Parameters
        ----------
        staged
            Finished here if it is not yet.
        key
            Of the version.
        metadata
            The content of ``metadata.json``.

        Returns
        -------
        Path
            Of the published artifact.

        Raises
        ------
        StorageFull, StorageUnavailable
            Nothing was published, and the staged artifact is discarded.
        """
        folder = self.folder(key)
        with staged.owning:
            staged.check_owned()
            staged.finish()
            is_moved = False
            try:
                with disk_errors(folder):
                    write_private_file(staged.folder / METADATA_NAME, metadata)
                    sync_folder(staged.folder)
                    make_parents(folder, self.root)
                    if folder.exists():
                        set_aside(self.root, folder)
                    os.rename(staged.folder, folder)
                    is_moved = True
                    sync_folder(folder.parent)
                    sync_folder(self.root / _STAGING)
            except BaseException:
                if is_moved:
                    remove_tree(folder)
                staged.discard()
                raise
            staged.release()
        return folder / staged.path.name

    def replace_files(self, key: VersionKey, contents: dict[str, bytes]) -> None:
        """Write files into a version's folder, each whole or not at all, durably.

        Raises
        ------
        StorageFull, StorageUnavailable
            Some may not have been replaced.
        """
        folder = self.folder(key)
        with disk_errors(folder):
            for name, content in contents.items():
                aside = folder / f".{name}"
                aside.unlink(missing_ok=True)
                write_private_file(aside, content)
                os.rename(aside, folder / name)
            sync_folder(folder)

    def remove(self, key: VersionKey) -> None:
        """Remove a version's folder, and those above it that are then empty."""
        folder = self.folder(key)
        with disk_errors(folder):
            if folder.exists():
                self._throw_away(folder)
            for parent in (folder.parent, folder.parent.parent):
                try:
                    parent.rmdir()
                except OSError:  # not empty, or never made: either way there is nothing to do
                    break

    def sweep(self, known: Collection[VersionKey], user_ids: Collection[str]) -> list[Path]:
        """Clear away what deploys that were killed have left behind.

        Every staging folder whose process is gone is removed. Every version folder that is not
        ``known`` is set aside, where its user is known: the others belong to another database.
        Only ``Registry.sweep`` should call this, since it keeps deploys from publishing between
        the reading of ``known`` and the end of the sweep.

        Parameters
        ----------
        known
            The versions that have a row.
        user_ids
            The users that have a row.

        Returns
        -------
        list of Path
            What is no more where it was.
        """
        if not self.root.is_dir():
            return []
        make_private_folder(self.root / _STAGING)
        wanted = {self.folder(key) for key in known}
        removed = []
        with disk_errors(self.root):
            remove_old_orphans(self.root)
            for folder in self._version_folders():
                if folder not in wanted and folder.parent.parent.name in user_ids:
                    set_aside(self.root, folder)
                    removed.append(folder)
            return removed + sweep_staged(self.root / _STAGING)

    def sweep_sent(
        self,
        known: Collection[VersionKey],
        user_ids: Collection[str],
        may_go_on: Callable[[], bool],
    ) -> list[str]:
        """Set aside what was sent and has no row, as :meth:`sweep` does; return the keys."""
        return []

    def close(self) -> None:
        """Let go of connections."""

    def _version_folders(self) -> list[Path]:
        return sorted(
            folder
            for folder in self.root.glob("*/*/v*")
            if _version_of(folder) and not folder.parent.parent.name.startswith(".")
        )

    def _throw_away(self, folder: Path) -> None:
        """Take a folder from its place in one step, then delete it at leisure."""
        rubbish = self.root / _STAGING / str(uuid4())
        os.rename(folder, rubbish)
        sync_folder(folder.parent)
        remove_tree(rubbish)


def _version_of(folder: Path) -> int:
    """Return the version whose folder this is; 0 where it is none."""
    digits = folder.name[1:]
    return int(digits) if folder.name[:1] == "v" and digits.isdecimal() and folder.is_dir() else 0


def open_artifacts(settings: Settings) -> ArtifactStore:
    """Return the store of artifacts that the settings describe; nothing is connected yet."""
    if not settings.artifacts_url:
        return ArtifactStore(settings.artifacts_dir)
    from mlserve_jupyter.storage.object_store import open_object_store
    from mlserve_jupyter.storage.shared_artifacts import SharedArtifacts

    return SharedArtifacts(
        settings.data_dir / "artifact-copies",
        open_object_store(settings),
        settings.artifacts_cache_bytes,
        ArtifactStore(settings.artifacts_dir),
    )
