"""The page of ``docs``: one file with its style and its script, allowed by their hashes alone."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files

_SCRIPTS = ("elements.js", "schemas.js", "operation.js", "docs.js")


@lru_cache(maxsize=1)
def page() -> bytes:
    """Return the page."""
    html = _read("docs.html").replace("/* style */", _style()).replace("/* script */", _script())
    return html.encode()


@lru_cache(maxsize=1)
def content_security_policy() -> str:
    """Return what the page may do: its own script and style, and calls of its own server."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(_script())}",
            f"style-src {_hash(_style())}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _style() -> str:
    return _read("docs.css")


def _script() -> str:
    return "\n".join(map(_read, _SCRIPTS))


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _read(name: str) -> str:
    return (files("mlserve_jupyter.server.openapi") / "assets" / name).read_text(encoding="utf-8")
