"""What a worker sent, in the words of the error tree; nothing of it is taken on trust."""

from __future__ import annotations

from typing import NoReturn

from mlserve_jupyter.errors import (
    ArtifactCorrupt,
    InputRejected,
    MLServeError,
    ModelFailed,
    WorkerOutOfMemory,
)
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.serving.decoding import is_json
from mlserve_jupyter.serving.replies import WorkerError


def checked_json(body: bytes, name: str) -> bytes:
    """Return a worker's body if it is JSON: what a model wrote is not trusted to be.

    Raises
    ------
    ModelFailed
        If it is not.
    """
    if not is_json(body):
        raise not_json(name)
    return body


def not_json(name: str) -> ModelFailed:
    """Return the error of an answer that is not JSON."""
    return ModelFailed(f"The answer of {name} is not JSON.")


def raise_worker_error(error: WorkerError, name: str, *, is_owner: bool) -> NoReturn:
    """Raise what a worker reported, in the words of the error tree.

    Parameters
    ----------
    name
        The version in words, such as ``clf version 3``.
    is_owner
        Whether the caller may read what the model raised; others read that it did.
    """
    shown = f"{error.type}: {error.message}" if is_owner else "an error that its owner can see"
    raised: MLServeError
    match error.kind:
        case "memory":
            raised = WorkerOutOfMemory(
                f"{name} asked for more memory than worker_memory_bytes allows. Send fewer rows "
                "at once."
            )
        case "corrupt":
            raised = ArtifactCorrupt(
                f"The artifact of {name} on disk is not the one that was deployed. Deploy it again."
            )
        case "rejected" | "input":
            raised = InputRejected(f"{name} refused this input: {shown}")
        case "missing_module" | "load":
            raised = ModelFailed(f"{name} cannot be loaded: {shown}")
        case "output":
            raised = ModelFailed(f"The answer of {name} has no JSON form: {shown}")
        case _:
            raised = ModelFailed(f"{name} failed on this input: {shown}")
    raised.traceback_text = error.traceback
    raise raised


def version_name(version: ServedVersion) -> str:
    """Return a version in words."""
    return f"{version.model} version {version.version}"
