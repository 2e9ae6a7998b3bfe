"""Names the next step for what goes wrong only in a process that is not the notebook's."""

from __future__ import annotations

from mlserve_jupyter.errors import RequestFailed

_NEXT_STEPS = {
    "ModuleNotFoundError": (
        "Import it at the top of a cell, outside the function that needs it: then it is found, and "
        "travels with the model where it is not installed."
    ),
    "FileNotFoundError": (
        "A fresh process works in another folder: open the file by its absolute path, or read it "
        "in the notebook and keep its content in the model."
    ),
}


def with_next_step(error: RequestFailed) -> RequestFailed:
    """Return the error of a deploy with what to do about it, where that is known."""
    if error.server_code != "verification_failed":
        return error
    for raised, step in _NEXT_STEPS.items():
        if f": {raised}: " in error.message:
            message = f"{error.message.rstrip('.')}. {step}"
            return RequestFailed(
                message,
                status=error.status,
                server_code=error.server_code,
                request_id=error.request_id,
                **error.details,
            )
    return error
