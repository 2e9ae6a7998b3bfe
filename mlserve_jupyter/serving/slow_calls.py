"""Says which calls took long, and where their time went."""

from __future__ import annotations

import logging
import time

from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.registry.catalog import ServedVersion

log = logging.getLogger(__name__)

MAX_LINES_PER_S = 10
"""An overload makes every call slow, and must not be made worse by what is said of it."""


class SlowCalls:
    """Warns of calls that took long, of a bounded number a second.

    Parameters
    ----------
    slow_request_s
        What is long; 0 for nothing.

    Attributes
    ----------
    n_slow
        How many there were, whether a line says so or not.
    """

    def __init__(self, slow_request_s: float) -> None:
        self.n_slow = 0
        self._second = 0
        self._n_lines = 0
        self._n_left_out = 0
        self.apply(slow_request_s)

    def apply(self, slow_request_s: float) -> None:
        """Go on with another limit."""
        self._limit_ms = slow_request_s * 1e3 if slow_request_s else float("inf")

    def note(self, version: ServedVersion, record: PredictionRecord) -> None:
        """Take note of a call that has ended."""
        if record.total_ms < self._limit_ms:
            return
        self.n_slow += 1
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._n_lines = second, 0
        if self._n_lines >= MAX_LINES_PER_S:
            self._n_left_out += 1
            return
        self._n_lines += 1
        n_left_out, self._n_left_out = self._n_left_out, 0
        name = f"{version.owner}~{version.model}"
        log.warning(
            "A call of %s, version %d, took %.0f ms (queue %.0f, load %.0f, predict %.0f): %s, %d "
            "rows, request %s%s",
            name,
            version.version,
            record.total_ms,
            record.queue_ms,
            record.load_ms,
            record.predict_ms,
            record.status,
            record.n_rows,
            record.request_id,
            f"; {n_left_out} more before it" if n_left_out else "",
            extra={
                "request_id": record.request_id,
                "model": name,
                "version": version.version,
                "method": record.method,
                "principal": record.principal,
                "status": record.status,
                "rows": record.n_rows,
                "cached": record.cached,
                "queue_ms": round(record.queue_ms, 3),
                "load_ms": round(record.load_ms, 3),
                "predict_ms": round(record.predict_ms, 3),
                "total_ms": round(record.total_ms, 3),
                **({"left_out": n_left_out} if n_left_out else {}),
            },
        )
