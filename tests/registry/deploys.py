"""Toy deploys: real bytes, and the smallest manifest that describes them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from sqlalchemy.engine import Engine

from mlserve_jupyter.accounts.owners import ensure_user
from mlserve_jupyter.api.manifest import Environment, Manifest, Provenance
from mlserve_jupyter.api.resources import Verification
from mlserve_jupyter.api.signature import Column, InputSpec, OutputSpec, Signature
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.registry.registry import Registry
from mlserve_jupyter.storage.blobs import EXTENSIONS, ArtifactStore
from mlserve_jupyter.storage.users import User

SIGNATURE = Signature(
    InputSpec(
        container="dataframe",
        shape=(None, 2),
        columns=(
            Column("size", "float", "float64", nullable=True, minimum=0.5, maximum=2**60),
            Column("kind", "category", "category", categories=("a", "é"), categories_dtype="str"),
        ),
        n_sample_rows=3,
    ),
    {"predict": OutputSpec("ndarray", "int64", (None,))},
)
VERIFICATION = Verification(verified=True, n_rows=3, methods=["predict"], not_deterministic=["sim"])


class Deploys:
    """Deploys as one user into one registry."""

    def __init__(self, engine: Engine, store: ArtifactStore | Path, user: str = "owner") -> None:
        self.store = ArtifactStore(store) if isinstance(store, Path) else store
        self.registry = Registry(engine, self.store)
        self.user: User = ensure_user(engine, user)

    def __call__(
        self,
        name: str = "clf",
        content: bytes = b"model",
        description: str = "",
        **others: Any,
    ) -> ServedVersion:
        manifest = replace(manifest_of(name, content, description), **others)
        staged = self.store.stage(EXTENSIONS[manifest.format])
        staged.write(content)
        return self.registry.publish(self.user, manifest, staged, VERIFICATION)


def manifest_of(name: str, content: bytes, description: str = "") -> Manifest:
    return Manifest(
        name=name,
        description=description,
        format="cloudpickle",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        method="predict",
        methods=["predict", "sim"],
        signature=SIGNATURE,
        environment=Environment(interpreter="/env/bin/python", python_version="3.12.1"),
        provenance=Provenance(model_class="sklearn.svm.SVC", by_value=["Mine"]),
        note="first",
    )
