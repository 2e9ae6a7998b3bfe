"""The examples of the documentation fit the model that the README makes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from sklearn.datasets import load_wine

from mlserve_jupyter.api.decode import InputDecoder
from mlserve_jupyter.artifacts.infer import infer_inputs
from mlserve_jupyter.magics.snippet import example_body

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/rest.md"])
def test_a_body_of_curl_is_what_the_wine_model_takes(page: str) -> None:
    inputs = infer_inputs(load_wine(as_frame=True, return_X_y=True)[0])
    bodies = re.findall(r"-d '([^']*)'", (ROOT / page).read_text())
    assert bodies
    for body in bodies:
        assert InputDecoder(inputs, "refuse").decode(body.encode(), "application/json").n_rows == 1


def test_the_readme_shows_the_body_that_the_snippet_prints() -> None:
    (body,) = re.findall(r"-d '([^']*)'", (ROOT / "README.md").read_text())
    inputs = infer_inputs(load_wine(as_frame=True, return_X_y=True)[0])
    (key,) = json.loads(body)
    assert key == "dataframe_records"
    assert set(json.loads(body)[key][0]) == set(example_body(inputs)["instances"][0])
