"""What the kernel says of a model when it deploys it: the ``manifest`` part of the upload."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from mlserve_jupyter.api.log_policy import LogChanges
from mlserve_jupyter.api.names import Name
from mlserve_jupyter.api.profile import Profile
from mlserve_jupyter.api.signature import Signature

Format = Literal["joblib", "cloudpickle", "skops"]
Runtime = Literal["auto", "native", "onnx"]


class Environment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Python environment that the model was fitted in and will run in.

    Attributes
    ----------
    interpreter
        Absolute path of the kernel's ``sys.executable``.
    python_version
        Such as ``3.11.7``.
    packages
        Versions of the distributions whose modules the artifact needs, such as
        ``{"scikit-learn": "1.9.1", "numpy": "2.4.6"}``.
    modules
        The top-level modules that the artifact imports when it is loaded.
    """

    interpreter: str
    python_version: str
    packages: dict[str, str] = {}
    modules: list[str] = []


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the model came from.

    Attributes
    ----------
    model_class
        Fully qualified name of its class, or of the function.
    notebook
        Path of the notebook as the kernel knows it, or None.
    kernel_id
        The Jupyter kernel's id, or None.
    source
        How the sample was found, in words, such as ``the DataFrame `X_train` of the notebook``.
    by_value
        Names of the classes, functions and modules that travel inside the artifact because they
        cannot be imported elsewhere.
    """

    model_class: str
    notebook: str | None = None
    kernel_id: str | None = None
    source: str | None = None
    by_value: list[str] = []


class Sample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rows by which a deploy is verified, and the kernel's own answers to them.

    Attributes
    ----------
    body
        A JSON predict body with the rows, as an outside caller would send it.
    answers
        By method, the JSON value that ``predictions`` must have (arbitrary by nature).
    deterministic
        By method, whether the kernel gave the same answers twice.
    """

    body: msgspec.Raw
    answers: dict[str, msgspec.Raw] = {}
    deterministic: dict[str, bool] = {}


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything of a deploy but the artifact's bytes.

    Attributes
    ----------
    name
        The model's name. A new name makes version 1 of a new model, a known one its next version.
    format
        How the artifact was written.
    size_bytes, sha256
        Of the artifact, as the kernel wrote it; a different upload is refused. ``sha256`` is hex.
    method
        The method that answers when a call names none.
    methods
        All methods that may be called.
    signature, environment, provenance
        See the classes.
    sample
        None where the deploy should not be verified (``--no-verify``).
    runtime
        ``native`` runs the object itself.
    extra_columns
        What happens to columns that the signature does not know: ``refuse`` or ``drop``.
    note
        Free text of the person who deploys.
    logging
        What changes of what the prediction log keeps of the model's calls; None for nothing.
    baseline
        How the values of the sample are distributed; None for a sample that is too small to say.
    """

    name: Name
    format: Format
    size_bytes: int
    sha256: str
    method: str
    methods: list[str]
    signature: Signature
    environment: Environment
    provenance: Provenance
    sample: Sample | None = None
    runtime: Runtime = "auto"
    extra_columns: Literal["refuse", "drop"] = "refuse"
    note: str = ""
    description: str = ""
    logging: LogChanges | None = None
    baseline: Profile | None = None


def encode_json(value: Any) -> bytes:
    """Encode a wire type (any of this package's, hence ``Any``) as JSON."""
    return msgspec.json.encode(value)
