"""Reads an artifact back: the worker's side, in whatever environment the model was fitted in.

Only the standard library is imported here, and by :func:`load` what the format needs.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
from importlib import metadata
from pathlib import Path
from typing import Any

LEAST_SKOPS = (0, 12)
"""Releases before it let an artifact call what it names (CVE-2025-54412, CVE-2025-54413)."""

MMAP_MIN_BYTES = 4 * 2**20
"""Below this size an artifact is read faster than its arrays are mapped one by one."""

_DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "imblearn": "imbalanced-learn",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "yaml": "PyYAML",
    "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil",
    "category_encoders": "category-encoders",
    "sklego": "scikit-lego",
    "umap": "umap-learn",
    "hdbscan": "hdbscan",
    "Levenshtein": "python-Levenshtein",
    "attr": "attrs",
    "skl2onnx": "skl2onnx",
    "mpl_toolkits": "matplotlib",
}

TRUSTED_SKOPS_TYPES = (
    "numpy.dtype",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
)
"""Classes of scikit-learn, and what imputers keep, that skops leaves to its callers to trust."""


class MissingModule(ImportError):
    """A module that the artifact needs cannot be imported here.

    Attributes
    ----------
    name
        The module, such as ``sklearn``.
    distribution
        What to install so that it can be imported, as far as it is known, such as
        ``scikit-learn``.
    """

    def __init__(self, name: str, distribution: str) -> None:
        super().__init__(
            f"No module named {name!r} in this environment: run `pip install {distribution}` "
            "in it.",
            name=name,
        )
        self.distribution = distribution


class UntrustedType(Exception):
    """A skops artifact holds types that are not known to be harmless."""


def load(path: str | os.PathLike[str], format: str) -> Any:
    """Construct the model that an artifact holds (any object, hence ``Any``).

    Loading ``joblib`` and ``cloudpickle`` artifacts runs whatever code they hold. Arrays of large
    ``joblib`` artifacts are mapped copy-on-write rather than read: they can be written to, and the
    file stays as it is.

    Parameters
    ----------
    path
        The file.
    format
        ``joblib``, ``cloudpickle`` or ``skops``.

    Raises
    ------
    MissingModule
        A module that the artifact needs is not installed.
    UntrustedType
        A ``skops`` artifact holds types that are not on the list of trusted ones.
    Exception
        Whatever the model's own code raises.
    """
    try:
        if format == "joblib":
            return _load_joblib(path)
        if format == "cloudpickle":
            with open(path, "rb") as file:
                return pickle.load(file)
        if format == "skops":
            return _load_skops(path)
    except ModuleNotFoundError as error:
        if error.name is None:
            raise
        raise MissingModule(error.name, distribution_of(error.name)) from error
    raise ValueError(f"{format!r} is not a format of artifacts.")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the hex sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def distribution_of(module_name: str) -> str:
    """Name what to install for a module: by a list of those that differ, else its top level."""
    top = module_name.partition(".")[0]
    return _DISTRIBUTIONS.get(top, top)


def _load_joblib(path: str | os.PathLike[str]) -> Any:
    import joblib

    if Path(path).stat().st_size >= MMAP_MIN_BYTES:
        try:
            return joblib.load(path, mmap_mode="c")
        except OSError as error:
            # Each array is a mapping of its own, and their number in a process is limited.
            if error.errno != errno.ENOMEM:
                raise
    return joblib.load(path)


def _load_skops(path: str | os.PathLike[str]) -> Any:
    installed = metadata.version("skops")
    if tuple(int(part) for part in installed.split(".")[:2]) < LEAST_SKOPS:
        raise UntrustedType(f"skops {installed} is not safe: run `pip install -U skops`.")
    from skops.io import get_untrusted_types
    from skops.io import load as skops_load

    unknown = sorted(set(get_untrusted_types(file=path)) - set(TRUSTED_SKOPS_TYPES))
    if unknown:
        raise UntrustedType(f"These types are not on the list of trusted ones: {unknown}.")
    return skops_load(path, trusted=list(TRUSTED_SKOPS_TYPES))
