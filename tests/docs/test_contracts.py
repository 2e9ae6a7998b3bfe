"""What the documentation lists is what there is."""

from __future__ import annotations

import re
from pathlib import Path

from mlserve_jupyter import errors
from mlserve_jupyter.server.exposition import exposition
from mlserve_jupyter.server.extension import MLServeApp
from mlserve_jupyter.server.routes import ROUTES
from mlserve_jupyter.server.settings_traits import SettingsTraits
from mlserve_jupyter.serving.measurement import Measurement
from mlserve_jupyter.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"


def test_every_setting_is_a_trait_and_is_documented() -> None:
    shared = SettingsTraits.class_own_traits(config=True)
    embedded = MLServeApp.class_own_traits(config=True)
    assert set(shared) == set(Settings.__dataclass_fields__)
    assert set(embedded) == {"enabled"}
    traits = set(shared) | set(embedded)
    documented = re.findall(r"^\| `(\w+)` \|", (DOCS / "settings.md").read_text(), re.MULTILINE)
    assert set(documented) == traits
    assert all(trait.help for trait in [*shared.values(), *embedded.values()])


def test_every_route_is_documented() -> None:
    text = (DOCS / "rest.md").read_text()
    for pattern, _ in ROUTES:
        if pattern.endswith(".*"):
            continue
        path = re.escape(
            pattern.removeprefix("mlserve/").replace("([^/]+)", "*").replace(r"\.", ".")
        )
        assert re.search(path.replace(r"\*", r"\{\w+\}") + "[`?]", text), pattern


def test_every_error_has_a_code_of_its_own_and_stands_in_the_tree() -> None:
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.MLServeError)
    ]
    codes = [cls.__dict__["code"] for cls in classes]
    assert len(set(codes)) == len(codes)
    assert errors.__doc__ is not None
    for cls in classes:
        assert re.search(rf"\b{cls.__name__}\b", errors.__doc__), cls.__name__


def test_the_codes_that_the_server_sends_are_documented() -> None:
    text = (DOCS / "rest.md").read_text()
    for cls in vars(errors).values():
        if not isinstance(cls, type) or not issubclass(cls, errors.MLServeError):
            continue
        is_sent = not issubclass(cls, errors.NotebookError) and not cls.__subclasses__()
        if is_sent:
            assert f"`{cls.code}`" in text, cls.code


def test_every_metric_is_documented() -> None:
    text = exposition({"": Measurement(requests=[])}).decode()
    names = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    documented = re.findall(r"`(mlserve_\w+)`", (DOCS / "metrics.md").read_text())
    assert names <= set(documented)
