"""The models that are measured: the ones that every serving framework is measured with here."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Runtime = Literal["auto", "native"]


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
    import mlserve_jupyter

    os.environ.update(MLSERVE_URL=url, MLSERVE_KEY=key)
    estimator, sample = model.fit()
    mlserve_jupyter.deploy(estimator, name=name, sample=sample, runtime=runtime)
