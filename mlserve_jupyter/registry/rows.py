"""Rows of the registry's tables to domain objects, and back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from mlserve_jupyter.api.log_policy import LogPolicy, logged_as
from mlserve_jupyter.api.manifest import Environment, Manifest, Provenance, encode_json
from mlserve_jupyter.api.resources import Verification
from mlserve_jupyter.api.signature import Signature
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.storage.blobs import EXTENSIONS, ArtifactStore, VersionKey
from mlserve_jupyter.storage.tables import model_versions, models, users


class ArtifactMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """``metadata.json``: what a person who finds the folder wants to know of it."""

    model: str
    owner: str
    version: int
    id: str
    format: str
    sha256: str
    size_bytes: int
    method: str
    methods: list[str]
    runtime: str
    extra_columns: str
    signature: Signature
    environment: Environment
    provenance: Provenance
    verification: Verification
    note: str
    created_at: datetime


def version_query() -> sa.Select[Any]:
    """Return the query of all that makes a version; the columns' types differ, hence ``Any``."""
    return (
        sa.select(
            model_versions,
            models.c.name.label("model"),
            models.c.owner_id,
            models.c.log_policy,
            users.c.name.label("owner"),
        )
        .join(models, models.c.id == model_versions.c.model_id)
        .join(users, users.c.id == models.c.owner_id)
    )


def change_query() -> sa.Select[Any]:
    """Return the query of what may change of a version that is published."""
    columns = model_versions.c
    return sa.select(
        columns.id, columns.status, columns.note, columns.runtime, columns.verification,
        columns.updated_at, models.c.log_policy,
    ).join(models, models.c.id == columns.model_id)  # fmt: skip


def with_changes(served: ServedVersion, row: Row[Any]) -> ServedVersion:
    """Return a version as a row of :func:`change_query` says that it is now."""
    return replace(
        served,
        status=row.status,
        note=row.note,
        runtime=row.runtime,
        verification=msgspec.json.decode(row.verification, type=Verification),
        logged_as=logged_as(log_policy_of(row), served.signature.inputs),
    )


def log_policy_of(row: Row[Any]) -> LogPolicy | None:
    """Return the policy in a row of a model or of a version; None where none was set."""
    text = row.log_policy
    return None if text is None else msgspec.json.decode(text, type=LogPolicy)


def read_version(
    connection: Connection, store: ArtifactStore, model_id: str, version: int
) -> ServedVersion | None:
    """Return one version, or None where there is none."""
    row = connection.execute(
        version_query().where(
            model_versions.c.model_id == model_id, model_versions.c.version == version
        )
    ).one_or_none()
    return None if row is None else served_version(row, store)


def served_version(row: Row[Any], store: ArtifactStore) -> ServedVersion:
    """Return the version in a row of :func:`version_query`."""
    key = VersionKey(row.owner_id, row.model, row.version, row.id)
    signature = msgspec.json.decode(row.signature, type=Signature)
    return ServedVersion(
        id=row.id,
        model_id=row.model_id,
        owner_id=row.owner_id,
        model=row.model,
        owner=row.owner,
        version=row.version,
        status=row.status,
        format=row.format,
        path=artifact_path(store, key, row.format),
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        method=row.method,
        methods=msgspec.json.decode(row.methods, type=tuple[str, ...]),
        signature=signature,
        environment=msgspec.json.decode(row.environment, type=Environment),
        provenance=msgspec.json.decode(row.provenance, type=Provenance),
        runtime=row.runtime,
        extra_columns=row.extra_columns,
        verification=msgspec.json.decode(row.verification, type=Verification),
        note=row.note,
        created_at=row.created_at,
        logged_as=logged_as(log_policy_of(row), signature.inputs),
    )


def new_version(
    key: VersionKey,
    *,
    model_id: str,
    owner: str,
    manifest: Manifest,
    verification: Verification,
    path: Path,
    created_at: datetime,
) -> ServedVersion:
    """Return the version that a deploy makes."""
    return ServedVersion(
        id=key.id,
        model_id=model_id,
        owner_id=key.user_id,
        model=key.model_name,
        owner=owner,
        version=key.version,
        status="active",
        format=manifest.format,
        path=path,
        sha256=manifest.sha256,
        size_bytes=manifest.size_bytes,
        method=manifest.method,
        methods=tuple(manifest.methods),
        signature=manifest.signature,
        environment=manifest.environment,
        provenance=manifest.provenance,
        runtime=manifest.runtime,
        extra_columns=manifest.extra_columns,
        verification=verification,
        note=manifest.note,
        created_at=created_at,
    )


def version_row(served: ServedVersion) -> dict[str, Any]:
    """Return the values of a version's row, by column; their types differ, hence ``Any``."""
    return {
        "id": served.id,
        "model_id": served.model_id,
        "version": served.version,
        "status": served.status,
        "format": served.format,
        "sha256": served.sha256,
        "size_bytes": served.size_bytes,
        "method": served.method,
        "methods": encode_json(served.methods).decode(),
        "signature": encode_json(served.signature).decode(),
        "environment": encode_json(served.environment).decode(),
        "provenance": encode_json(served.provenance).decode(),
        "runtime": served.runtime,
        "extra_columns": served.extra_columns,
        "verification": encode_json(served.verification).decode(),
        "note": served.note,
        "created_at": served.created_at,
        "updated_at": served.created_at,
    }


def compiled_values(served: ServedVersion) -> dict[str, Any]:
    """Return those values of a version's row that compiling it changes, by column."""
    values = version_row(served)
    return {name: values[name] for name in ("runtime", "verification")}


def metadata_json(served: ServedVersion) -> bytes:
    """Return the content of a version's ``metadata.json``."""
    content = encode_json(
        ArtifactMetadata(
            model=served.model,
            owner=served.owner,
            version=served.version,
            id=served.id,
            format=served.format,
            sha256=served.sha256,
            size_bytes=served.size_bytes,
            method=served.method,
            methods=list(served.methods),
            runtime=served.runtime,
            extra_columns=served.extra_columns,
            signature=served.signature,
            environment=served.environment,
            provenance=served.provenance,
            verification=served.verification,
            note=served.note,
            created_at=served.created_at,
        )
    )
    return msgspec.json.format(content, indent=2)


def artifact_path(store: ArtifactStore, key: VersionKey, format: str) -> Path:
    """Return where the artifact of a version lies."""
    return store.artifact_path(key, EXTENSIONS[format])
