"""What ``%mlserve show`` says of how a version was verified."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from mlserve_jupyter.api.compiled import CompiledMethod, CompiledRecord
from mlserve_jupyter.api.manifest import Environment, Provenance
from mlserve_jupyter.api.resources import DescribeVersion, Verification
from mlserve_jupyter.api.signature import InputSpec, Signature
from mlserve_jupyter.magics.show import runtime_words, verified_words


def version(**verification: Any) -> DescribeVersion:
    return DescribeVersion(
        id="1",
        model="wine",
        version=1,
        status="active",
        format="joblib",
        sha256="",
        size_bytes=1,
        method="predict",
        methods=["predict"],
        signature=Signature(InputSpec(container="ndarray", shape=(None,), columns=())),
        environment=Environment(interpreter="python", python_version="3.11.0"),
        provenance=Provenance(model_class="m"),
        runtime="auto",
        extra_columns="refuse",
        verification=Verification(verified=True, n_rows=8, **verification),
        note="",
        created_at=datetime.now(timezone.utc),
        predict_path="/",
    )


def test_a_random_method_is_not_said_to_be_exact() -> None:
    both = version(methods=["predict", "score"], not_deterministic=["score"])
    assert verified_words(both) == (
        "8 rows answered exactly as in the notebook (predict); 8 rows answered in the same shape "
        "as in the notebook, with other values each time (score)"
    )
    alone = version(methods=["predict"], not_deterministic=["predict"])
    assert "exactly" not in verified_words(alone)


def test_what_the_model_answers_is_told_apart_from_what_its_graph_answers() -> None:
    method = CompiledMethod(finish="array", max_difference=8.6e-8)
    compiled = version(
        methods=["predict"], compiled=CompiledRecord(methods={"predict": method}, n_rows=9)
    )
    assert "answered by the model itself exactly" in verified_words(compiled)
    assert "to within 8.6e-08 as the model" in runtime_words(compiled)
    native = version(methods=["predict"], compiled=CompiledRecord(native={"predict": "why"}))
    assert "8 rows answered exactly" in verified_words(native)
