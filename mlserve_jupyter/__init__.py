"""Serve the model in your notebook: a REST endpoint at your Jupyter server's URL."""

from __future__ import annotations

__version__ = "0.1.0"


def _jupyter_server_extension_points() -> list[dict[str, object]]:
    """Tell Jupyter Server where the extension is."""
    from mlserve_jupyter.server.extension import MLServeApp

    return [{"module": "mlserve_jupyter", "app": MLServeApp}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Tell JupyterLab where the prebuilt extension is."""
    return [{"src": "labextension", "dest": "mlserve-jupyter"}]

