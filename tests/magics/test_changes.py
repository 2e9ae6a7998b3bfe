"""What is said of a version that calls for the one before it do not fit."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlserve_jupyter.api.manifest import Environment, Provenance
from mlserve_jupyter.api.resources import DescribeVersion, Verification
from mlserve_jupyter.api.signature import Signature
from mlserve_jupyter.artifacts.infer import infer_inputs
from mlserve_jupyter.magics.changes import change_for_callers

FRAME = pd.DataFrame({"a": [1.0, 2.0], "b": [1, 2], "c": ["x", "y"]})


def version(number: int, sample: Any, method: str = "predict", drops: bool = False) -> Any:
    return DescribeVersion(
        id="1",
        model="wine",
        version=number,
        status="active",
        format="joblib",
        sha256="",
        size_bytes=1,
        method=method,
        methods=[method],
        signature=Signature(infer_inputs(sample)),
        environment=Environment(interpreter="python", python_version="3.11.0"),
        provenance=Provenance(model_class="m"),
        runtime="native",
        extra_columns="drop" if drops else "refuse",
        verification=Verification(verified=True),
        note="",
        created_at=datetime.now(timezone.utc),
        predict_path="/",
    )


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (np.ones((3, 13)), np.ones((3, 2)), "took 13 columns, this one takes 2: calls that were"),
        (FRAME, FRAME[["a"]], "took 3 columns, this one takes 1"),
        (FRAME[["a"]], FRAME, "took 1 column, this one takes 3"),
        (FRAME, FRAME.rename(columns={"a": "z"}), "took the column 'a', this one takes the column"),
        (FRAME, FRAME.assign(b=["u", "v"]), "the column 'b' as int64"),
        (FRAME.assign(a=[1.0, None]), FRAME, "missing values in the column 'a'"),
        (np.ones((3, 2)), np.ones((3, 2, 2)), "took rows of 2, this one takes rows of 2 × 2"),
        (["a text"], np.ones((3, 2)), "took single values, this one takes rows of 2"),
        (["a text"], [1.5], "took its values as"),
    ],
)
def test_what_would_be_refused_is_said(before: Any, now: Any, said: str) -> None:
    change = change_for_callers(version(1, before), version(2, now))
    assert change is not None
    assert said in change
    assert change.endswith("will be refused")


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (FRAME, FRAME),
        (FRAME, FRAME[["c", "a", "b"]]),
        (FRAME, FRAME.assign(b=[1.5, 2.5])),
        (FRAME, FRAME.assign(a=[1.0, None])),
        (FRAME, FRAME.assign(d=[None, 1.0])),
        (np.ones((3, 2)), np.zeros((9, 2))),
    ],
)
def test_what_still_fits_is_not_mentioned(before: Any, now: Any) -> None:
    assert change_for_callers(version(1, before), version(2, now)) is None


def test_columns_that_are_dropped_are_not_refused() -> None:
    now = version(2, FRAME[["a", "b"]], drops=True)
    assert change_for_callers(version(1, FRAME), now) is None


def test_another_method_is_said() -> None:
    change = change_for_callers(version(1, FRAME), version(2, FRAME, method="transform"))
    assert change is not None
    assert "answered with `predict`, this one with `transform`" in change
