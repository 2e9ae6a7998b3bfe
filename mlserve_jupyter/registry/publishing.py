"""How a version comes to be, and how what is left of one that did not is removed.

Where artifacts lie elsewhere they are sent there first, as no lock may be held while another
machine is waited for: under the number that is free, and under the id that no other version will
ever have. If another deploy has got that number meanwhile, it is sent again under the next one.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timezone
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.api.manifest import Manifest
from mlserve_jupyter.api.resources import Verification
from mlserve_jupyter.errors import ArtifactRejected, Overloaded, StorageFull, StorageUnavailable
from mlserve_jupyter.registry.baselines import write_baseline
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.registry.log_policies import keep
from mlserve_jupyter.registry.queries import (
    Journal,
    changing,
    expected_version,
    lock,
    next_version,
)
from mlserve_jupyter.registry.rows import artifact_path, metadata_json, new_version, version_row
from mlserve_jupyter.settings import check_name
from mlserve_jupyter.storage.blobs import GRAPH_NAME, ArtifactStore, VersionKey
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.staging import StagedArtifact
from mlserve_jupyter.storage.tables import model_versions, models
from mlserve_jupyter.storage.users import User

ATTEMPTS = 8
"""How often an artifact is sent, where other deploys of the model come first each time."""


class Publication:
    """One deploy, on its way to become a version.

    Parameters
    ----------
    engine, store
        Where row and artifact go.
    owner, manifest, verification
        Who deploys what, and what was verified.
    """

    def __init__(
        self,
        engine: Engine,
        store: ArtifactStore,
        owner: User,
        manifest: Manifest,
        verification: Verification,
    ) -> None:
        self._engine = engine
        self._store = store
        self._owner = owner
        self._manifest = manifest
        self._verification = verification

    def publish(self, staged: StagedArtifact, graph: bytes, journal: Journal) -> ServedVersion:
        """Make a staged artifact a version, see :meth:`Registry.publish`."""
        with staged:
            check_name(self._manifest.name)
            _check_bytes(self._manifest, staged)
            if graph:
                staged.add(GRAPH_NAME, graph)
            for _ in range(ATTEMPTS):
                sent = self._send(staged) if self._store.is_shared else None
                try:
                    return self._commit(staged, sent, journal)
                except _Overtaken:
                    continue
        raise Overloaded(
            f"Other deploys of {self._manifest.name!r} came first {ATTEMPTS} times. Deploy again."
        )

    def _send(self, staged: StagedArtifact) -> VersionKey:
        with reading(self._engine) as connection:
            version = expected_version(connection, self._owner, self._manifest.name)
        key = VersionKey(self._owner.id, self._manifest.name, version, new_id())
        served = self._version(key, model_id="", created_at=datetime.now(timezone.utc))
        try:
            self._store.send(staged, key, metadata_json(served))
        except BaseException:
            self._store.take_back([key])
            raise
        return key

    def _commit(
        self, staged: StagedArtifact, sent: VersionKey | None, journal: Journal
    ) -> ServedVersion:
        touched = [] if sent is None else [sent]
        try:
            with changing(self._engine) as connection:
                now = datetime.now(timezone.utc)
                model_id, version = next_version(connection, self._owner, self._manifest, now)
                if sent is not None and sent.version != version:
                    raise _Overtaken
                wanted = self._manifest.logging
                policy = None if wanted is None else keep(connection, model_id, wanted, now)
                key = sent or VersionKey(self._owner.id, self._manifest.name, version, new_id())
                served = self._version(key, model_id, now)
                connection.execute(model_versions.insert().values(version_row(served)))
                write_baseline(connection, served.id, model_id, self._manifest.baseline)
                facts: dict[str, Any] = {"format": served.format, "sha256": served.sha256}
                if policy is not None:
                    facts["logging"] = msgspec.to_builtins(policy)
                target = f"version {served.owner}~{served.model} {served.version}"
                journal(connection, "version.deploy", target, facts)
                self._store.publish(staged, key, metadata_json(served))
                touched = [key]
        except BaseException:
            remove_without_row(self._engine, self._store, touched)
            raise
        return served

    def _version(self, key: VersionKey, model_id: str, created_at: datetime) -> ServedVersion:
        return new_version(
            key,
            model_id=model_id,
            owner=self._owner.name,
            manifest=self._manifest,
            verification=self._verification,
            path=artifact_path(self._store, key, self._manifest.format),
            created_at=created_at,
        )


class _Overtaken(Exception):
    """Another deploy has got the number under which the artifact was sent."""


def remove_without_row(engine: Engine, store: ArtifactStore, keys: Collection[VersionKey]) -> None:
    """Remove the artifacts of those versions of one model that have no row.

    The rows are read anew, under the lock: a commit may have arrived although its answer did
    not, and another process may have published meanwhile.
    """
    if not keys:
        return
    owner_id, model_name = next((key.user_id, key.model_name) for key in keys)
    try:
        with writing(engine) as connection:
            lock(connection)
            known = {
                row.version: row.id
                for row in connection.execute(
                    sa.select(model_versions.c.version, model_versions.c.id)
                    .join(models, models.c.id == model_versions.c.model_id)
                    .where(models.c.owner_id == owner_id, models.c.name == model_name)
                )
            }
            gone = [key for key in keys if known.get(key.version) != key.id]
            for key in gone:
                if store.is_shared or key.version not in known:
                    store.remove(key)
    except (StorageUnavailable, StorageFull):
        # An orphan is never served, and a sweep sets it aside. The error that led here is the one
        # that the caller must see.
        return
    store.take_back(gone)


def _check_bytes(manifest: Manifest, staged: StagedArtifact) -> None:
    sha256, size_bytes = staged.finish()
    if (sha256, size_bytes) != (manifest.sha256, manifest.size_bytes):
        raise ArtifactRejected(
            f"The artifact that came ({size_bytes} bytes, sha256 {sha256[:12]}…) is not the one "
            f"that the manifest announces ({manifest.size_bytes} bytes, sha256 "
            f"{manifest.sha256[:12]}…): deploy again.",
        )
