"""Rows of the prediction log, as ``insert_rows`` takes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from mlserve_jupyter.storage.bulk import timestamp_text
from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.tables import predictions


def prediction_row(created_at: datetime, **changes: Any) -> tuple[Any, ...]:
    """Return a row; its values differ in type, hence ``Any``."""
    values: dict[str, Any] = {
        "id": new_id(),
        "model_id": new_id(),
        "version_id": new_id(),
        "created_at": timestamp_text(created_at),
        "request_id": new_id(),
        "principal": "user:ann",
        "method": "predict",
        "status": "ok",
        "cached": False,
        "n_rows": 1,
        "queue_ms": 0.1,
        "load_ms": 0.0,
        "predict_ms": 0.3,
        "total_ms": 0.5,
        "inputs": '{"instances": [[5.1, 3.5, 1.4, 0.2]]}',
        "outputs": "[0]",
        "truncated": False,
        "error": None,
        "process_id": new_id(),
        "sequence": 1,
        **changes,
    }
    return tuple(values[column.name] for column in predictions.columns)
