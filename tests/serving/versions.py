"""Versions as the catalog has them, for artifacts that were written without a deploy."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

from mlserve_jupyter.api.manifest import Environment, Provenance
from mlserve_jupyter.api.resources import Verification
from mlserve_jupyter.api.signature import Signature
from mlserve_jupyter.registry.catalog import CatalogModel, ServedVersion
from mlserve_jupyter.serving.protocol import ModelRef

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def served(ref: ModelRef, **changes: Any) -> ServedVersion:
    """Return the version that a reference was made for."""
    values: dict[str, Any] = {
        "id": ref.key,
        "model_id": str(uuid4()),
        "owner_id": "owner-1",
        "model": "toy",
        "owner": "owner",
        "version": 1,
        "status": "active",
        "format": ref.format,
        "path": Path(ref.path),
        "sha256": ref.sha256,
        "size_bytes": ref.size_bytes,
        "method": "predict",
        "methods": ("predict",),
        "signature": Signature(ref.inputs),
        "environment": Environment(interpreter=sys.executable, python_version="3.12.1"),
        "provenance": Provenance(model_class="tests.toys.Toy"),
        "runtime": "native",
        "extra_columns": "refuse",
        "verification": Verification(verified=True, methods=["predict"]),
        "note": "",
        "created_at": NOW,
    }
    return ServedVersion(**{**values, **changes})


def model_of(version: ServedVersion) -> CatalogModel:
    """Return the model that has this one version."""
    return CatalogModel(
        id=version.model_id,
        owner_id=version.owner_id,
        owner=version.owner,
        name=version.model,
        description="",
        created_at=NOW,
        updated_at=NOW,
        versions={version.version: version},
    )
