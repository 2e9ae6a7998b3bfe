"""BentoML with its adaptive batching."""

import os

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=1)
class service:
    """One model."""

    def __init__(self) -> None:
        self._model = joblib.load(os.environ["ARTIFACT"])

    @bentoml.api(batchable=True, max_batch_size=256, max_latency_ms=1000)
    def predict(self, instances: np.ndarray) -> np.ndarray:
        """Predict."""
        return self._model.predict(instances)
