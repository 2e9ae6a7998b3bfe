"""In a kernel: what a version's later calls will be held against, learned at the deploy."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

import msgspec

from mlserve_jupyter.api.labels import Label
from mlserve_jupyter.api.profile import MAX_CLASSES, Profile, Task, within_bounds
from mlserve_jupyter.api.signature import InputSpec
from mlserve_jupyter.magics.calling import call_on_copy
from mlserve_jupyter.magics.sampling import n_rows

log = logging.getLogger(__name__)


def baseline_of(obj: Any, method: str, sample: Any, inputs: InputSpec) -> Profile | None:
    """Return how the values of the sample, and the answers to it, are distributed.

    Parameters
    ----------
    obj
        The object that is deployed (a user's, hence ``Any``).
    method
        The method that answers.
    sample
        Rows as it takes them.
    inputs
        Their signature.

    Returns
    -------
    Profile or None
        None where the sample is too small to say what is usual, or cannot be counted.
    """
    from mlserve_jupyter.artifacts.profile import MAX_ROWS, MIN_ROWS, profile_inputs

    n_sample = n_rows(sample) or 0
    if n_sample < MIN_ROWS:
        return None
    try:
        return within_bounds(
            Profile(
                n_rows=min(n_sample, MAX_ROWS),
                features=profile_inputs(sample, inputs),
                method=method,
                outputs=_outputs(obj, method, sample),
                task=_task(obj),
                classes=_classes(obj),
            )
        )
    except Exception:  # the deploy itself can do without
        log.warning("The sample cannot be counted, so drift is not watched.", exc_info=True)
        return None


def _outputs(obj: Any, method: str, sample: Any) -> list[Any]:
    from mlserve_jupyter.artifacts.profile import profile_outputs

    try:
        return profile_outputs(lambda rows: call_on_copy(obj, method, rows), sample, method)
    except Exception:  # a user's model may fail on rows that were not among those verified
        log.debug("The answers to the sample cannot be counted.", exc_info=True)
        return []


def _task(obj: Any) -> Task | None:
    """Return what an estimator of scikit-learn's kind says that it is for."""
    if "sklearn" not in sys.modules:
        return None
    from sklearn.base import is_classifier, is_regressor

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if is_classifier(obj):
                return "classification"
            return "regression" if is_regressor(obj) else None
    except Exception:  # not an estimator at all
        return None


def _classes(obj: Any) -> list[Label]:
    """Return the classes of an estimator, in the order of its probabilities."""
    try:
        found: Any = getattr(obj, "classes_", None)
        listed = found.tolist() if hasattr(found, "tolist") else list(found or ())
        if len(listed) > MAX_CLASSES:
            return []
        return msgspec.convert(listed, type=list[Label])
    except Exception:  # a property of a user's class may raise, and hold, anything
        return []
