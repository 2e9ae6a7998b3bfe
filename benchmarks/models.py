"""The models that are measured: the ones that every serving framework is measured with here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Runtime = Literal["auto", "native"]

COMPILE_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Model:
    """A model to measure.

    Attributes
    ----------
    fit
        Returns the fitted estimator and its sample ``(n_rows, n_features)``.
    """

    n_features: int
    fit: Callable[[], tuple[Any, Any]]


def _lr() -> tuple[Any, Any]:
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = load_iris(return_X_y=True)
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(X, y), X


def _rf() -> tuple[Any, Any]:
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    X, y = load_iris(return_X_y=True)
    return RandomForestClassifier(100, random_state=0).fit(X, y), X


def _hgb() -> tuple[Any, Any]:
    from sklearn.datasets import make_classification
    from sklearn.ensemble import HistGradientBoostingClassifier

    X, y = make_classification(5000, 30, n_informative=20, random_state=0)
    return HistGradientBoostingClassifier(random_state=0).fit(X, y), X


MODELS = {"lr": Model(4, _lr), "rf": Model(4, _rf), "hgb": Model(30, _hgb)}


def deploy(url: str, key: str, name: str, model: Model, runtime: Runtime = "auto") -> None:
    """Deploy a model to the server at ``url``, as its notebook would."""
    estimator, sample = model.fit()
    deploy_fitted(url, key, name, estimator, sample, runtime)


def deploy_fitted(
    url: str, key: str, name: str, estimator: Any, sample: Any, runtime: Runtime
) -> None:
    """Deploy, and wait for the graph: a version answers before it is compiled and verified.

    Raises
    ------
    TimeoutError
        If it is not known in time whether the model can be compiled.
    """
    import httpx

    import mlserve_jupyter

    os.environ.update(MLSERVE_URL=url, MLSERVE_KEY=key)
    deployed = mlserve_jupyter.deploy(estimator, name=name, sample=sample, runtime=runtime)
    if runtime == "native":
        return
    path = f"{url}api/v1/models/{name}/versions/{deployed.version}"
    deadline = time.monotonic() + COMPILE_TIMEOUT_S
    while time.monotonic() < deadline:
        version = httpx.get(path, headers={"X-MLServe-Key": key}, timeout=60).json()
        if version["verification"]["compiled"] is not None:
            return
        time.sleep(0.2)
    raise TimeoutError(f"{name} was not compiled within {COMPILE_TIMEOUT_S:g} s.")
