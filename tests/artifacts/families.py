"""Every estimator of scikit-learn, fitted on small data that suits it."""

from __future__ import annotations

import inspect
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.cluster import KMeans
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators, get_tags

ESTIMATORS: dict[str, type[BaseEstimator]] = dict(all_estimators())

WITHOUT_METHODS = {
    "AgglomerativeClustering": "clusters what it is fitted on, and only that (fit_predict)",
    "ClassicalMDS": "embeds what it is fitted on, and only that (fit_transform)",
    "DBSCAN": "clusters what it is fitted on, and only that (fit_predict)",
    "HDBSCAN": "clusters what it is fitted on, and only that (fit_predict)",
    "MDS": "embeds what it is fitted on, and only that (fit_transform)",
    "OPTICS": "clusters what it is fitted on, and only that (fit_predict)",
    "SpectralBiclustering": "clusters what it is fitted on, and only that (fit)",
    "SpectralClustering": "clusters what it is fitted on, and only that (fit_predict)",
    "SpectralCoclustering": "clusters what it is fitted on, and only that (fit)",
    "SpectralEmbedding": "embeds what it is fitted on, and only that (fit_transform)",
    "TSNE": "embeds what it is fitted on, and only that (fit_transform)",
}
"""Estimators that have no method to call on new data, and why."""

_RNG = np.random.default_rng(0)
N_ROWS = 48
POSITIVE = np.abs(_RNG.normal(size=(N_ROWS, 4))) + 0.01
GROUPS = np.arange(N_ROWS) % 3
CENTRED = _RNG.normal(size=(N_ROWS, 4)) + GROUPS[:, None]
LABELS = np.array(["no", "yes", 'perhaps, "maybe"'])[GROUPS]
BINARY = np.array(["no", "yes"])[GROUPS % 2]
TARGET = np.abs(CENTRED @ np.array([1.0, 2.0, 0.5, 3.0])) + 0.1
TARGETS = np.column_stack([TARGET, CENTRED[:, 0]])
HOLED = np.where(_RNG.random((N_ROWS, 4)) < 0.2, np.nan, CENTRED)
LEVELS = _RNG.integers(0, 3, size=(N_ROWS, 3))
CITIES = pd.DataFrame({"city": LABELS, "n": GROUPS})
TEXTS = [f"the {word} text has é and {word}" for word in LABELS]
RECORDS = [{"city": str(city), "n": float(n)} for city, n in zip(LABELS, GROUPS, strict=True)]
COUNTS = sparse.csr_matrix(_RNG.poisson(0.7, size=(N_ROWS, 6)))
IMAGES = _RNG.random((6, 8, 8))
SETS = [("a", "b"), ("b",), ()] * 4
MULTI_LABEL = np.column_stack([GROUPS == 0, GROUPS == 1]).astype(int)

_PAIR = [("a", LogisticRegression()), ("b", DecisionTreeClassifier(random_state=0))]
_REGRESSORS = [("a", LinearRegression()), ("b", Ridge())]

ARGUMENTS: dict[str, dict[str, Any]] = {
    "BernoulliRBM": {"n_components": 3},
    "ClassifierChain": {"estimator": LogisticRegression()},
    "ColumnTransformer": {
        "transformers": [("hot", OneHotEncoder(), ["city"]), ("scale", StandardScaler(), ["n"])]
    },
    "EllipticEnvelope": {"support_fraction": 1.0},
    "FeatureUnion": {"transformer_list": [("s", StandardScaler()), ("k", SelectKBest(k=2))]},
    "FixedThresholdClassifier": {"estimator": LogisticRegression()},
    "FrozenEstimator": {"estimator": LogisticRegression().fit(CENTRED, LABELS)},
    "GaussianRandomProjection": {"n_components": 2},
    "GridSearchCV": {"estimator": LogisticRegression(), "param_grid": {"C": [0.1, 1.0]}},
    "KernelPCA": {"fit_inverse_transform": True},
    "LocalOutlierFactor": {"novelty": True},
    "MultiOutputClassifier": {"estimator": LogisticRegression()},
    "MultiOutputRegressor": {"estimator": LinearRegression()},
    "OneVsOneClassifier": {"estimator": LogisticRegression()},
    "OneVsRestClassifier": {"estimator": LogisticRegression()},
    "OutputCodeClassifier": {"estimator": LogisticRegression()},
    "PatchExtractor": {"patch_size": (2, 3)},
    "Pipeline": {"steps": [("scale", StandardScaler()), ("model", LogisticRegression())]},
    "RFE": {"estimator": Ridge()},
    "RFECV": {"estimator": Ridge()},
    "RadiusNeighborsClassifier": {"radius": 9.0},
    "RadiusNeighborsRegressor": {"radius": 9.0},
    "RandomizedSearchCV": {
        "estimator": LogisticRegression(),
        "param_distributions": {"C": [0.1, 1.0]},
        "n_iter": 2,
    },
    "RegressorChain": {"estimator": LinearRegression()},
    "SelectFromModel": {"estimator": LogisticRegression()},
    "SelectKBest": {"k": 2},
    "SelfTrainingClassifier": {"estimator": LogisticRegression()},
    "SequentialFeatureSelector": {"estimator": Ridge(), "n_features_to_select": 2},
    "SimpleImputer": {"add_indicator": True},
    "SparseCoder": {"dictionary": np.eye(4)[:3]},
    "SparseRandomProjection": {"n_components": 2},
    "StackingClassifier": {"estimators": _PAIR},
    "StackingRegressor": {"estimators": _REGRESSORS},
    "TSNE": {"perplexity": 5},
    "TunedThresholdClassifierCV": {"estimator": LogisticRegression()},
    "VotingClassifier": {"estimators": _PAIR, "voting": "soft"},
    "VotingRegressor": {"estimators": _REGRESSORS},
}

SAMPLES: dict[str, Any] = {
    "AdditiveChi2Sampler": POSITIVE,
    "BernoulliRBM": POSITIVE / POSITIVE.max(),
    "CategoricalNB": LEVELS,
    "ColumnTransformer": CITIES,
    "IsotonicRegression": TARGET,
    "KNNImputer": HOLED,
    "KernelCenterer": CENTRED @ CENTRED.T,
    "LabelBinarizer": LABELS,
    "LabelEncoder": LABELS,
    "MissingIndicator": HOLED,
    "MultiLabelBinarizer": SETS,
    "OneHotEncoder": CITIES,
    "OrdinalEncoder": CITIES,
    "PatchExtractor": IMAGES,
    "SkewedChi2Sampler": POSITIVE,
    "SimpleImputer": HOLED,
    "TargetEncoder": CITIES,
    "TfidfTransformer": COUNTS,
}

TWO_BLOCKS = ("CCA", "PLSCanonical", "PLSSVD")
TWO_CLASSES = (
    "FixedThresholdClassifier",
    "GaussianProcessClassifier",
    "TunedThresholdClassifierCV",
)
SUPERVISED_BY_CLASSES = (
    "FeatureUnion",
    "GenericUnivariateSelect",
    "NeighborhoodComponentsAnalysis",
    "SelectKBest",
    "SelectPercentile",
)
SUPERVISED_BY_NUMBERS = ("SequentialFeatureSelector",)
LABEL_TRANSFORMERS = ("LabelBinarizer", "LabelEncoder", "MultiLabelBinarizer")


def sample_for(name: str, estimator: BaseEstimator) -> Any:
    """Give data that suits an estimator, by its tags where they say enough."""
    if name in SAMPLES:
        return SAMPLES[name]
    tags = get_tags(estimator).input_tags
    if tags.string:
        return TEXTS
    if tags.dict:
        return RECORDS
    return POSITIVE if tags.positive_only else CENTRED


def target_for(name: str, estimator: BaseEstimator) -> Any:
    """Give a target that suits an estimator, by its tags where they say enough."""
    tags = get_tags(estimator)
    if name in ("ClassifierChain", "MultiOutputClassifier"):
        return MULTI_LABEL
    if name == "SelfTrainingClassifier":
        return np.where(np.arange(N_ROWS) % 5 == 0, -1, GROUPS)
    if name in TWO_BLOCKS:
        return TARGETS
    if name in TWO_CLASSES or (is_classifier(estimator) and not tags.classifier_tags.multi_class):
        return BINARY
    if is_classifier(estimator) or name in SUPERVISED_BY_CLASSES or name.startswith("SelectF"):
        return LABELS
    if is_regressor(estimator) and tags.target_tags.multi_output:
        return TARGETS
    if is_regressor(estimator) or tags.target_tags.required or name in SUPERVISED_BY_NUMBERS:
        return TARGET
    return None


def fitted(name: str) -> tuple[BaseEstimator, Any]:
    """Fit an estimator; give it and the data that its methods take."""
    kind = ESTIMATORS[name]
    arguments = dict(ARGUMENTS.get(name, {}))
    accepted = inspect.signature(kind).parameters
    if "random_state" in accepted:
        arguments["random_state"] = 0
    if "n_estimators" in accepted:
        arguments["n_estimators"] = 5
    if kind is KMeans or "n_init" in accepted:
        arguments["n_init"] = 1
    estimator = kind(**arguments)
    sample = sample_for(name, estimator)
    if name in LABEL_TRANSFORMERS:
        return estimator.fit(sample), sample
    return estimator.fit(sample, target_for(name, estimator)), sample


def data_for(method: str, estimator: Any, sample: Any) -> Any:
    """Give what one method takes: rows as fitted on, or as ``transform`` gives them."""
    if method == "inverse_transform":
        return estimator.transform(sample)
    # A product of an array with itself rounds otherwise than one with its equal, so that no
    # request could get what the very array gets that the model was fitted on.
    return deepcopy(sample)
