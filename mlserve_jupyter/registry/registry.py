"""The registry: models and their versions, in the database and on the disk as one.

Every change is one transaction that first locks the registry's one row of state and at its end
raises the epoch, by which other processes see that they must read anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from threading import Lock

import msgspec
import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.api.compiled import CompiledRecord
from mlserve_jupyter.api.log_policy import LogPolicy
from mlserve_jupyter.api.manifest import Manifest
from mlserve_jupyter.api.resources import UpdateModel, UpdateVersion, Verification
from mlserve_jupyter.errors import VersionNotFound
from mlserve_jupyter.registry.catalog import Catalog, CatalogModel, ServedVersion
from mlserve_jupyter.registry.log_policies import change_log_policy
from mlserve_jupyter.registry.publishing import Publication, remove_without_row
from mlserve_jupyter.registry.queries import (
    Journal,
    changing,
    check_inactive,
    lock,
    model_gone,
    no_journal,
    read_epoch,
)
from mlserve_jupyter.registry.rows import (
    change_query,
    compiled_values,
    log_policy_of,
    metadata_json,
    read_version,
    served_version,
    version_query,
    with_changes,
)
from mlserve_jupyter.registry.sharing import change_sharing, read_shares
from mlserve_jupyter.storage.blobs import (
    GRAPH_NAME,
    METADATA_NAME,
    ArtifactStore,
    VersionKey,
)
from mlserve_jupyter.storage.engine import check_space, reading, writing
from mlserve_jupyter.storage.monitoring_tables import (
    alert_limits,
    alerts,
    baselines,
    caller_stats,
    labels,
    live_histograms,
    model_stats,
    prediction_stats,
    stat_deltas,
)
from mlserve_jupyter.storage.staging import StagedArtifact
from mlserve_jupyter.storage.tables import (
    artifact_approvals,
    model_shares,
    model_versions,
    models,
    prediction_counts,
    predictions,
    users,
)
from mlserve_jupyter.storage.users import User

_CHUNK_ROWS = 500
_DELETE_ROWS = 5000


class Registry:
    """What is deployed.

    Parameters
    ----------
    engine
        Of a database whose schema is prepared.
    store
        Where the artifacts lie.
    """

    def __init__(self, engine: Engine, store: ArtifactStore) -> None:
        self._engine = engine
        self._store = store
        self._decoded: dict[str, tuple[datetime, ServedVersion]] = {}
        self._decoding = Lock()

    def epoch(self) -> int:
        """Return a number that is raised by every change of the registry, in any process."""
        with reading(self._engine) as connection:
            return read_epoch(connection)

    def check_database(self) -> None:
        """Return if the database answers and could be written to.

        Raises
        ------
        StorageUnavailable, StorageFull
            If not.
        """
        self.epoch()
        check_space(self._engine)

    def snapshot(self) -> Catalog:
        """Return all models and versions as they are now.

        What was decoded for an earlier snapshot is used again.

        Raises
        ------
        StorageUnavailable
            The database does not answer.
        """
        with self._decoding, reading(self._engine) as connection:
            epoch = read_epoch(connection)
            versions = self._read_versions(connection)
            shares = read_shares(connection)
            approved = frozenset(connection.scalars(sa.select(artifact_approvals.c.sha256)))
            rows = connection.execute(
                sa.select(models, users.c.name.label("owner")).join(
                    users, users.c.id == models.c.owner_id
                )
            )
            return Catalog(
                [
                    CatalogModel(
                        id=row.id,
                        owner_id=row.owner_id,
                        owner=row.owner,
                        name=row.name,
                        description=row.description,
                        created_at=row.created_at,
                        updated_at=row.updated_at,
                        versions=versions.get(row.id, {}),
                        visibility=row.visibility,
                        shared_with=shares.get(row.id, {}),
                        logging=log_policy_of(row) or LogPolicy(),
                        keep_warm=row.keep_warm,
                    )
                    for row in rows
                ],
                epoch,
                approved,
            )

    def publish(
        self,
        owner: User,
        manifest: Manifest,
        staged: StagedArtifact,
        verification: Verification,
        graph: bytes = b"",
        journal: Journal = no_journal,
    ) -> ServedVersion:
        """Make a staged artifact the next version of a model, which is made if it is new.

        Row and folder appear together or not at all, also where this process is killed on the
        way: a folder without a row is never served, and the next deploy or sweep removes it.

        Parameters
        ----------
        owner
            Who deploys.
        manifest
            What the kernel says of the model.
        staged
            Its bytes. Published or discarded afterwards, whatever happens.
        verification
            What was verified before.
        graph
            The compiled graph that is published with it, if any.
        journal
            Writes the audit event.

        Returns
        -------
        ServedVersion
            Active, with the number that it got.

        Raises
        ------
        InvalidName
            The manifest's name is not a name.
        ArtifactRejected
            The bytes are not those that the manifest announces.
        StorageUnavailable, StorageFull
            Database or disk refused; nothing was published.
        """
        publication = Publication(self._engine, self._store, owner, manifest, verification)
        return publication.publish(staged, graph, journal)

    def update_model(
        self, model_id: str, changes: UpdateModel, journal: Journal = no_journal
    ) -> None:
        """Change a model's description, who may call it, what is logged, or whether it stays warm.

        Raises
        ------
        ModelNotFound
            It is gone.
        InvalidRequest
            It cannot be shared, or logged, so.
        """
        now = datetime.now(timezone.utc)
        with changing(self._engine) as connection:
            given = {"description": changes.description, "keep_warm": changes.keep_warm}
            values = {name: value for name, value in given.items() if value is not UNSET}
            changed = connection.execute(
                models.update().where(models.c.id == model_id).values(updated_at=now, **values)
            )
            if not changed.rowcount:
                raise model_gone(model_id)
            facts = change_sharing(connection, model_id, changes)
            if facts:
                journal(connection, "model.share", _shown_model(connection, model_id), facts)
            policy = change_log_policy(connection, model_id, changes.logging, now)
            if policy:
                journal(connection, "model.logging", _shown_model(connection, model_id), policy)
            if "keep_warm" in values:
                warmth = {"keep_warm": changes.keep_warm}
                journal(connection, "model.keep_warm", _shown_model(connection, model_id), warmth)

    def update_version(
        self,
        model_id: str,
        version: int,
        changes: UpdateVersion,
        journal: Journal = no_journal,
    ) -> ServedVersion:
        """Change a version's status, its note or both.

        Every status may follow every other: an archived version can be made active again.

        Raises
        ------
        VersionNotFound
            There is no such version, or it is gone.
        """
        now = datetime.now(timezone.utc)
        with changing(self._engine) as connection:
            served = read_version(connection, self._store, model_id, version)
            if served is None:
                raise VersionNotFound(
                    f"The model {model_id} has no version {version}: list its versions.",
                    version=version,
                )
            before = served.status
            served = replace(
                served,
                status=before if changes.status is UNSET else changes.status,
                note=served.note if changes.note is UNSET else changes.note,
            )
            connection.execute(
                model_versions.update()
                .where(model_versions.c.id == served.id)
                .values(status=served.status, note=served.note, updated_at=now)
            )
            connection.execute(
                models.update().where(models.c.id == model_id).values(updated_at=now)
            )
            if served.status != before:
                facts = {"status": served.status, "status_before": before}
                journal(connection, "version.status", _shown(served), facts)
        return served

    def set_compiled(
        self, model_id: str, version: int, compiled: CompiledRecord, graph: bytes
    ) -> ServedVersion:
        """Record what compiling a version has given, and switch it over if there is a graph.

        Raises
        ------
        VersionNotFound
            It is gone.
        StorageUnavailable, StorageFull
            Database or disk refused; the version answers as before.
        """
        if graph and self._store.is_shared:
            with reading(self._engine) as connection:
                served = _existing_version(connection, self._store, model_id, version)
            self._store.send_files(_key_of(served), {GRAPH_NAME: graph})
        with changing(self._engine) as connection:
            served = _existing_version(connection, self._store, model_id, version)
            served = replace(
                served,
                runtime="onnx" if graph else "native",
                verification=msgspec.structs.replace(served.verification, compiled=compiled),
            )
            connection.execute(
                model_versions.update()
                .where(model_versions.c.id == served.id)
                .values(**compiled_values(served), updated_at=datetime.now(timezone.utc))
            )
            files = {METADATA_NAME: metadata_json(served)}
            if graph:
                files = {GRAPH_NAME: graph, **files}
            self._store.replace_files(_key_of(served), files)
        self._store.send_files(_key_of(served), {METADATA_NAME: metadata_json(served)})
        return served

    def delete_model(self, model_id: str, journal: Journal = no_journal) -> None:
        """Delete a model that has no active version: its rows, its log and its artifacts.

        Its deprecated versions stop answering first. Its log goes in small transactions, so that
        other writers do not wait for it; if that is cut short, the same call goes on with it.

        Raises
        ------
        Conflict
            It has active versions.
        ModelNotFound
            It is gone.
        """
        with changing(self._engine) as connection:
            check_inactive(connection, model_id)
            connection.execute(
                model_versions.update()
                .where(model_versions.c.model_id == model_id)
                .values(status="archived", updated_at=datetime.now(timezone.utc))
            )
        place = sa.tuple_(predictions.c.created_at, predictions.c.id)
        some = sa.select(predictions.c.created_at, predictions.c.id).where(
            predictions.c.model_id == model_id
        )
        while True:
            with writing(self._engine) as connection:
                deleted = connection.execute(
                    predictions.delete().where(place.in_(some.limit(_DELETE_ROWS)))
                )
            if deleted.rowcount < _DELETE_ROWS:
                break
        with changing(self._engine) as connection:
            owner_id, name = check_inactive(connection, model_id)
            keys = [
                VersionKey(owner_id, name, row.version, row.id)
                for row in connection.execute(
                    # Locked, so that the prediction log writes no more of their calls.
                    sa.select(model_versions.c.version, model_versions.c.id)
                    .where(model_versions.c.model_id == model_id)
                    .with_for_update()
                )
            ]
            journal(
                connection,
                "model.delete",
                _shown_model(connection, model_id),
                {"n_versions": len(keys)},
            )
            for table in (
                alerts,
                alert_limits,
                labels,
                live_histograms,
                baselines,
                stat_deltas,
                caller_stats,
                prediction_stats,
                model_stats,
                predictions,
                prediction_counts,
                model_versions,
                model_shares,
            ):
                connection.execute(table.delete().where(table.c.model_id == model_id))
            connection.execute(models.delete().where(models.c.id == model_id))
        remove_without_row(self._engine, self._store, keys)

    def sweep(self) -> list[Path]:
        """Clear away what killed deploys have left on the disk; for the start of a process.

        Folders of users whom this database does not know are left alone: they are another's.

        Returns
        -------
        list of Path
            What is no more where it was; see ``ArtifactStore.sweep``.

        Raises
        ------
        StorageUnavailable
            The database or the disk does not answer.
        """
        with writing(self._engine) as connection:
            lock(connection)
            return self._store.sweep(*_known(connection))

    def sweep_sent(self, may_go_on: Callable[[], bool]) -> None:
        """Clear away what deploys have sent to where all hosts find it, and that has no row.

        Raises
        ------
        StorageUnavailable
            The database or the artifact store does not answer.
        """
        with reading(self._engine) as connection:
            known = _known(connection)
        self._store.sweep_sent(*known, may_go_on)

    def _read_versions(self, connection: Connection) -> dict[str, dict[int, ServedVersion]]:
        """Return by model id all its versions, newest first, decoding only the new ones."""
        rows = connection.execute(
            sa.select(
                model_versions.c.id,
                model_versions.c.model_id,
                model_versions.c.version,
                model_versions.c.updated_at,
            ).order_by(model_versions.c.model_id, model_versions.c.version.desc())
        ).all()
        decoded = {
            row.id: known for row in rows if (known := self._decoded.get(row.id)) is not None
        }
        changed = iter([r.id for r in rows if r.id in decoded and decoded[r.id][0] != r.updated_at])
        while chunk := list(islice(changed, _CHUNK_ROWS)):
            for new in connection.execute(change_query().where(model_versions.c.id.in_(chunk))):
                decoded[new.id] = new.updated_at, with_changes(decoded[new.id][1], new)
        missing = iter([row.id for row in rows if row.id not in decoded])
        while chunk := list(islice(missing, _CHUNK_ROWS)):
            for full in connection.execute(version_query().where(model_versions.c.id.in_(chunk))):
                decoded[full.id] = full.updated_at, served_version(full, self._store)
        versions: dict[str, dict[int, ServedVersion]] = {}
        for row in rows:
            found = decoded.get(row.id)
            if found is not None:  # else it was deleted between the two reads
                versions.setdefault(row.model_id, {})[row.version] = found[1]
        self._decoded = decoded
        return versions


def _existing_version(
    connection: Connection, store: ArtifactStore, model_id: str, version: int
) -> ServedVersion:
    served = read_version(connection, store, model_id, version)
    if served is None:
        raise VersionNotFound(
            f"The model {model_id} has no version {version} any more.", version=version
        )
    return served


def _key_of(served: ServedVersion) -> VersionKey:
    return VersionKey(served.owner_id, served.model, served.version, served.id)


def _known(connection: Connection) -> tuple[set[VersionKey], set[str]]:
    """Return the versions and the users that have a row."""
    rows = connection.execute(
        sa.select(
            models.c.owner_id, models.c.name, model_versions.c.version, model_versions.c.id
        ).join(models, models.c.id == model_versions.c.model_id)
    )
    keys = {VersionKey(row.owner_id, row.name, row.version, row.id) for row in rows}
    return keys, set(connection.scalars(sa.select(users.c.id)))


def _shown(served: ServedVersion) -> str:
    return f"version {served.owner}~{served.model} {served.version}"


def _shown_model(connection: Connection, model_id: str) -> str:
    row = connection.execute(
        sa.select(users.c.name.label("owner"), models.c.name)
        .join_from(models, users)
        .where(models.c.id == model_id)
    ).one()
    return f"model {row.owner}~{row.name}"
