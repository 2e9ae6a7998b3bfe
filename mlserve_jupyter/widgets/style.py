"""How a dashboard looks: colours and type of JupyterLab's theme, light or dark."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files


@lru_cache(maxsize=1)
def style() -> str:
    """Return the element that goes into the page with each dashboard."""
    css = (files("mlserve_jupyter.widgets") / "dashboard.css").read_text(encoding="utf-8")
    return f"<style>{css}</style>"
