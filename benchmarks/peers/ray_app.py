"""Ray Serve with its batching."""

import os
import time

import joblib
import numpy as np
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.5})
class Served:
    """One model."""

    def __init__(self) -> None:
        self._model = joblib.load(os.environ["ARTIFACT"])

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def predict(self, rows: list[list[list[float]]]) -> list[int]:
        """Predict requests of one row each together."""
        return [int(label) for label in self._model.predict(np.array([row[0] for row in rows]))]

    async def __call__(self, request: Request) -> dict[str, list[int]]:
        """Answer a request."""
        return {"predictions": [await self.predict((await request.json())["instances"])]}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(Served.bind(), route_prefix="/predict")
    while True:
        time.sleep(1)
