"""Where a model comes from and what it needs: what a deploy records beside the artifact."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Iterable
from typing import Any

from mlserve_jupyter.api.manifest import Environment, Provenance
from mlserve_jupyter.artifacts.loading import distribution_of


def environment_of(modules: Iterable[str]) -> Environment:
    """Describe this kernel's Python environment, as far as an artifact needs it.

    Parameters
    ----------
    modules
        Top-level modules that the artifact imports when it is loaded.
    """
    names = sorted(set(modules))
    packages = {}
    unknown = []
    for name in names:
        found = _distribution(name)
        if found is None:
            unknown.append(name)
        else:
            packages[found[0]] = found[1]
    if unknown:
        # Asking every distribution for its files takes a while, so only the rest goes this way.
        distributions = importlib.metadata.packages_distributions()
        for distribution in {d for name in unknown for d in distributions.get(name, ())}:
            packages[distribution] = importlib.metadata.version(distribution)
    return Environment(
        interpreter=sys.executable,
        python_version=platform.python_version(),
        packages=packages,
        modules=names,
    )


def provenance_of(
    obj: Any, *, source: str | None = None, by_value: Iterable[str] = ()
) -> Provenance:
    """Describe where ``obj`` (a user's model, hence ``Any``) comes from.

    Parameters
    ----------
    obj
        The model.
    source
        How the sample was found, in words.
    by_value
        Names of what travels inside the artifact.
    """
    named = obj if hasattr(obj, "__qualname__") else type(obj)
    module = getattr(named, "__module__", None) or "builtins"
    return Provenance(
        model_class=f"{module}.{named.__qualname__}",
        notebook=os.environ.get("JPY_SESSION_NAME") or None,
        kernel_id=kernel_id(),
        source=source,
        by_value=list(by_value),
    )


def kernel_id() -> str | None:
    """Return the id of the Jupyter kernel that this process is, or None.

    A kernel is started with the path of its connection file, ``kernel-<id>.json``, as an argument.
    """
    for argument in sys.argv[1:]:
        match = re.search(r"kernel-([0-9a-zA-Z-]+)\.json$", argument)
        if match:
            return match[1]
    return None


def _distribution(module_name: str) -> tuple[str, str] | None:
    """Return name and version of the distribution named like a top-level module."""
    for candidate in (distribution_of(module_name), module_name):
        try:
            found = importlib.metadata.distribution(candidate)
        except importlib.metadata.PackageNotFoundError:
            continue
        return found.metadata["Name"], found.version
    return None
