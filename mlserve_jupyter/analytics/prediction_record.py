"""One call, as the path of a prediction hands it to the log."""

from __future__ import annotations

from datetime import datetime

import msgspec

from mlserve_jupyter.api.log_policy import LoggedAs

_ROW_BYTES = 1024


class PredictionRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call that a version answered, or failed to.

    Attributes
    ----------
    model_id, version_id
        Primary keys.
    request_id, principal, method
        As the caller got, was and named them.
    created_at
        When the call came; with a time zone.
    status
        ``ok``, or the code of the error that the caller got.
    cached
        Whether the answer came from the result cache.
    n_rows
        Rows of the input; 0 where it could not be read.
    queue_ms, load_ms, predict_ms, total_ms
        What took how long.
    inputs, outputs
        JSON text in UTF-8; None where there is none to log.
    error
        What the model raised, for the owner's eyes.
    logged_as
        What of it the log may keep; None for all.
    """

    model_id: str
    version_id: str
    request_id: str
    principal: str
    method: str
    created_at: datetime
    status: str = "ok"
    cached: bool = False
    n_rows: int = 0
    queue_ms: float = 0.0
    load_ms: float = 0.0
    predict_ms: float = 0.0
    total_ms: float = 0.0
    inputs: bytes | None = None
    outputs: bytes | None = None
    error: str | None = None
    logged_as: LoggedAs | None = None

    @property
    def size_bytes(self) -> int:
        """About the memory that it takes while it waits."""
        return _ROW_BYTES + len(self.inputs or b"") + len(self.outputs or b"")
