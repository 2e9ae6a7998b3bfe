"""Serve the model in your notebook: a REST endpoint at your Jupyter server's URL."""

__version__ = "0.1.0"
