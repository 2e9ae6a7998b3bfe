"""How the package's processes are started, in interpreters that may know nothing of it."""

from __future__ import annotations

import os

BOOTSTRAP = """
import importlib.util, sys
if sys.path and not sys.path[0]:
    del sys.path[0]
folder, target = sys.argv[1:3]
spec = importlib.util.spec_from_file_location(
    "mlserve_jupyter", folder + "/__init__.py", submodule_search_locations=[folder])
module = importlib.util.module_from_spec(spec)
sys.modules["mlserve_jupyter"] = module
spec.loader.exec_module(module)
import importlib
name, _, function = target.rpartition(".")
getattr(importlib.import_module("mlserve_jupyter.serving." + name), function)(*sys.argv[3:])
"""
"""Run a function of ``serving`` in any interpreter, with the server's copy of the package."""


def command(interpreter: str, target: str, *arguments: str) -> list[str]:
    """Return the command line that runs ``target``, such as ``supervisor.main``."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return [interpreter, "-c", BOOTSTRAP, package, target, *arguments]
