"""Has the server start a worker for this kernel's interpreter before it is needed."""

from __future__ import annotations

import logging
import sys
import threading
from importlib.util import find_spec

from mlserve_jupyter.errors import MLServeError

log = logging.getLogger(__name__)


def warm_in_background(target: str | None = None) -> None:
    """Ask the server to get ready, without waiting and without failing.

    Only so that a deploy is fast: whatever goes wrong here, the deploy will say.

    Parameters
    ----------
    target
        URL of another server than the notebook's own.
    """
    threading.Thread(target=_warm, args=(target,), name="mlserve-warm", daemon=True).start()


def _warm(target: str | None) -> None:
    from mlserve_jupyter.client.http import connect

    # What a deploy needs is imported here, ahead of it.
    from mlserve_jupyter.magics import deploy as _  # noqa: F401

    try:
        connect(target).warm(sys.executable, _likely_modules())
    except MLServeError:
        log.debug("The server was not asked to get ready.", exc_info=True)


def _likely_modules() -> list[str]:
    """Name the modules that the models of this notebook will need, as far as one can tell."""
    loaded = [
        name
        for name in list(sys.modules)
        if name.startswith("sklearn.") and name.count(".") == 1 and "._" not in name
    ]
    if loaded:
        return [*sorted(loaded), *(["pandas"] if "pandas" in sys.modules else [])]
    # Nothing has been fitted yet: what most notebooks come to use.
    wanted = ("sklearn.compose", "sklearn.ensemble", "sklearn.linear_model", "sklearn.pipeline")
    return [*wanted, "pandas"] if find_spec("sklearn") else []
