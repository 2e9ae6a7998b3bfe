"""A model that takes a while for each call, however many rows it has."""

from __future__ import annotations

import time
from typing import Any

import numpy as np


class SlowModel:
    """Sleeps, and gives the first column back, less its mean: calls of it are never joined."""

    def __init__(self, call_s: float) -> None:
        self._call_s = call_s

    def predict(self, X: Any) -> Any:
        """Answer."""
        time.sleep(self._call_s)
        column = np.asarray(X)[:, 0]
        return column - column.mean()
