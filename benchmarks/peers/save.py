"""Fits and saves the models under a peer's interpreter, so that it reads what it has written."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import joblib

from benchmarks.models import MODELS

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for name, model in MODELS.items():
    estimator, _ = model.fit()
    joblib.dump(estimator, folder / f"{name}.joblib")
    if find_spec("mlflow") is not None:
        import mlflow.sklearn

        mlflow.sklearn.save_model(
            estimator, str(folder / f"mlflow-{name}"), serialization_format="cloudpickle"
        )
(folder / "saved").touch()
