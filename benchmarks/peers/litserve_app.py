"""LitServe with its batching: up to 64 rows, as many as come within 1 ms."""

import os
from typing import Any

import joblib
import litserve
import numpy as np


class Api(litserve.LitAPI):
    """One model."""

    def setup(self, device: str) -> None:
        """Load it."""
        self._model = joblib.load(os.environ["ARTIFACT"])

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """Return the rows of a request; LitServe would read an annotation as a query argument."""
        return request["instances"]

    def batch(self, inputs: list[list[list[float]]]) -> Any:
        """Put requests of one row each together."""
        return np.array([rows[0] for rows in inputs])

    def predict(self, rows: Any) -> Any:
        """Predict."""
        return self._model.predict(rows)

    def unbatch(self, output: Any) -> list[Any]:
        """Take answers apart."""
        return list(output)

    def encode_response(self, output: Any) -> dict[str, list[int]]:
        """Return the answer of one request."""
        return {"predictions": [int(output)]}


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(max_batch_size=64, batch_timeout=0.001), accelerator="cpu", workers_per_device=1
    )
    server.run(
        host="127.0.0.1", port=int(os.environ["PORT"]), num_api_servers=1, log_level="error",
        generate_client_file=False,
    )  # fmt: skip
