"""Manifests for tests that deploy without a notebook."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import msgspec

from mlserve_jupyter.api.manifest import Environment, Manifest, Provenance, Sample
from mlserve_jupyter.api.signature import Signature
from tests import toys


def manifest_of(name: str, artifact: Path | bytes, **changes: Any) -> Manifest:
    """Return a manifest of a toy model that takes one feature and has no sample."""
    content = artifact if isinstance(artifact, bytes) else artifact.read_bytes()
    manifest = Manifest(
        name=name,
        format="cloudpickle",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        method="predict",
        methods=["predict"],
        signature=Signature(inputs=toys.ONE_FEATURE),
        environment=Environment(interpreter=sys.executable, python_version="3"),
        provenance=Provenance(model_class="tests.Toy"),
    )
    return msgspec.structs.replace(manifest, **changes)


def sample_of(rows: list[list[float]], answers: Any) -> Sample:
    """Return a sample with what ``predict`` must answer."""
    return Sample(
        body=msgspec.Raw(msgspec.json.encode({"instances": rows})),
        answers={"predict": msgspec.Raw(msgspec.json.encode(answers))},
        deterministic={"predict": True},
    )
