"""Serve the model in your notebook: a REST endpoint at your Jupyter server's URL.

In a notebook, ``%load_ext mlserve_jupyter`` gives ``%mlserve``, and each of its subcommands is a
function here: ``import mlserve_jupyter as mlserve; mlserve.deploy(clf)``.

Nothing is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlserve_jupyter.version import __version__

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from mlserve_jupyter.client.http import connect
    from mlserve_jupyter.magics.alerts import alerts
    from mlserve_jupyter.magics.archive import archive
    from mlserve_jupyter.magics.compare import compare
    from mlserve_jupyter.magics.dashboard import dashboard
    from mlserve_jupyter.magics.deploy import deploy
    from mlserve_jupyter.magics.drift import drift
    from mlserve_jupyter.magics.keys import keys
    from mlserve_jupyter.magics.label import label
    from mlserve_jupyter.magics.list import list  # noqa: A004
    from mlserve_jupyter.magics.logging import logging
    from mlserve_jupyter.magics.login import login
    from mlserve_jupyter.magics.logs import logs
    from mlserve_jupyter.magics.predict import predict
    from mlserve_jupyter.magics.quality import quality
    from mlserve_jupyter.magics.share import share
    from mlserve_jupyter.magics.show import show
    from mlserve_jupyter.magics.snippet import snippet
    from mlserve_jupyter.magics.stats import stats
    from mlserve_jupyter.magics.targets import targets
    from mlserve_jupyter.magics.warm import warm


__all__ = [
    "__version__",
    "alerts",
    "archive",
    "compare",
    "connect",
    "dashboard",
    "deploy",
    "drift",
    "keys",
    "label",
    "list",
    "logging",
    "login",
    "logs",
    "predict",
    "quality",
    "share",
    "show",
    "snippet",
    "stats",
    "targets",
    "warm",
]

_MODULES = {
    "alerts": "magics.alerts",
    "archive": "magics.archive",
    "compare": "magics.compare",
    "connect": "client.http",
    "dashboard": "magics.dashboard",
    "deploy": "magics.deploy",
    "drift": "magics.drift",
    "keys": "magics.keys",
    "label": "magics.label",
    "list": "magics.list",
    "logging": "magics.logging",
    "login": "magics.login",
    "logs": "magics.logs",
    "predict": "magics.predict",
    "quality": "magics.quality",
    "share": "magics.share",
    "show": "magics.show",
    "snippet": "magics.snippet",
    "stats": "magics.stats",
    "targets": "magics.targets",
    "warm": "magics.warm",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> tuple[str, ...]:
    """Offer the public names on Tab before they are imported."""
    return tuple(sorted({*globals(), *__all__}))


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """Set up ``%mlserve``; IPython calls this on ``%load_ext mlserve_jupyter``."""
    from mlserve_jupyter.magics.magic import load

    load(ipython)


def _jupyter_server_extension_points() -> Any:
    """Name the server extension; Jupyter's server calls this."""
    from mlserve_jupyter.server.extension import MLServeApp

    return [{"module": "mlserve_jupyter", "app": MLServeApp}]


def _jupyter_labextension_paths() -> Any:
    """Name the folder of JupyterLab's side; ``jupyter labextension develop`` calls this."""
    return [{"src": "labextension", "dest": "mlserve-jupyter"}]
