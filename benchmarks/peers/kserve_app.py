"""KServe's Python server."""

from __future__ import annotations

import os
from typing import Any

import joblib
import numpy as np
from kserve import Model, ModelServer


class Served(Model):
    """One model."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._model = joblib.load(os.environ["ARTIFACT"])
        self.ready = True

    def predict(self, payload: dict[str, Any], *_: object, **__: object) -> dict[str, Any]:
        """Predict."""
        return {"predictions": self._model.predict(np.array(payload["instances"])).tolist()}


if __name__ == "__main__":
    server = ModelServer(http_port=int(os.environ["PORT"]), enable_grpc=False, workers=1)
    server.start([Served(os.environ["MODEL"])])
