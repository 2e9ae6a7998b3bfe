"""Configuration of Sphinx: ``python -m sphinx -W -b html docs docs/_build``."""

from __future__ import annotations

from importlib.metadata import version as version_of

project = "mlserve_jupyter"
author = "The mlserve_jupyter contributors"
release = version_of("mlserve_jupyter")
version = release

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "mlserve_jupyter"
exclude_patterns = ["_build"]
