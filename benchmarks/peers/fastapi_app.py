"""What one writes first: FastAPI, and ``model.predict`` in the handler."""

from __future__ import annotations

import os

import joblib
import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

model = joblib.load(os.environ["ARTIFACT"])
app = FastAPI()


class Body(BaseModel):
    """Rows of a prediction."""

    instances: list[list[float]]


@app.post("/predict")
async def predict(body: Body) -> dict[str, list[int]]:
    """Answer."""
    return {"predictions": model.predict(np.array(body.instances)).tolist()}


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(os.environ["PORT"]), loop="uvloop", http="httptools",
        log_level="error", access_log=False,
    )  # fmt: skip
