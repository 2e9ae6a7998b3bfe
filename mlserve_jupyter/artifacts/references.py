"""What a pickle of an object would refer to, found in one pass that keeps no bytes.

First step of packing: it tells which modules the artifact imports when it is loaded, and which
classes and functions exist only in this kernel, so that they have to travel inside the artifact.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import pickle
import site
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import cloudpickle


@dataclass(frozen=True)
class References:
    """What the pickle of an object refers to.

    Attributes
    ----------
    modules
        Top-level modules outside the standard library that are imported when it is loaded, sorted.
    by_value
        Names of the classes, functions and modules that exist only in this kernel, sorted; those
        of the notebook itself without a module in front.
    local_modules
        Names of the modules of files beside the notebook that are among ``by_value``'s sources.
    """

    modules: tuple[str, ...]
    by_value: tuple[str, ...]
    local_modules: tuple[str, ...]


def references_of(obj: Any) -> References:
    """Find what the pickle of ``obj`` (a user's model, hence ``Any``) refers to.

    The contents of arrays are not read, so that a model of many gigabytes takes no longer than its
    objects need.

    Raises
    ------
    Exception
        Whatever pickling raises, if a part cannot be pickled.
    """
    scanner = _Scanner()
    try:
        scanner.dump(obj)
    finally:
        for module in scanner.registered:
            cloudpickle.unregister_pickle_by_value(module)
    standard = sys.stdlib_module_names | {"__main__", "__mp_main__"}
    local = set(scanner.local_modules)
    tops = {name.partition(".")[0] for name in scanner.modules if name not in local}
    return References(
        modules=tuple(sorted(tops - standard)),
        by_value=tuple(sorted(_outermost(scanner.by_value))),
        local_modules=tuple(sorted(local)),
    )


@contextmanager
def travelling_by_value(module_names: tuple[str, ...]) -> Iterator[None]:
    """Let ``cloudpickle`` write what these modules define into the artifact, for a while."""
    registered = []
    try:
        for name in module_names:
            if name not in cloudpickle.list_registry_pickle_by_value():
                cloudpickle.register_pickle_by_value(sys.modules[name])
                registered.append(sys.modules[name])
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


class _NullSink:
    """A file that forgets what is written to it."""

    def write(self, data: Any) -> int:
        return memoryview(data).nbytes


class _Scanner(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no type hints
    """A pickler that notes the classes, functions and modules that it comes across."""

    def __init__(self) -> None:
        # A callback that gives None takes the buffers of arrays out of the stream.
        super().__init__(_NullSink(), protocol=5, buffer_callback=lambda buffer: None)
        self.modules: set[str] = set()
        self.by_value: set[str] = set()
        self.local_modules: set[str] = set()
        self.registered: list[ModuleType] = []
        self._is_local = lru_cache(maxsize=None)(is_local)

    def reducer_override(self, obj: Any) -> Any:
        """Note ``obj`` if it is something that pickles refer to by name."""
        if isinstance(obj, ModuleType):
            self._note(obj.__name__, None, importable=sys.modules.get(obj.__name__) is obj)
        elif isinstance(obj, type | FunctionType):
            module_name = getattr(obj, "__module__", None) or "__main__"
            self._note(module_name, obj.__qualname__, importable=_is_found(obj, module_name))
        elif callable(obj) and isinstance(getattr(obj, "__module__", None), str):
            # Functions of compiled modules, and instances, whose class comes by itself.
            self.modules.add(obj.__module__)
        return super().reducer_override(obj)

    def _note(self, module_name: str, name: str | None, *, importable: bool) -> None:
        if module_name in ("__main__", "__mp_main__"):
            self.by_value.add(name or module_name)
        elif module_name == "builtins":
            return  # types such as that of code objects, which have no name in ``builtins``
        elif not importable or module_name in self.local_modules:
            self.by_value.add(f"{module_name}.{name}" if name else module_name)
        elif self._is_local(module_name):
            self.by_value.add(f"{module_name}.{name}" if name else module_name)
            self.local_modules.add(module_name)
            if module_name not in cloudpickle.list_registry_pickle_by_value():
                cloudpickle.register_pickle_by_value(sys.modules[module_name])
                self.registered.append(sys.modules[module_name])
        else:
            self.modules.add(module_name)


def is_local(module_name: str) -> bool:
    """Whether a module's file lies outside what is installed, such as beside the notebook.

    A worker has the kernel's interpreter and not the kernel's folder, so that it cannot import
    such a module. Packages in editable mode and in folders of ``pip install --target`` count as
    installed; so does a compiled module, which cannot travel by value.
    """
    file = getattr(sys.modules.get(module_name), "__file__", None)
    if not file or not file.endswith((".py", ".pyc")):
        return False
    path = os.path.realpath(file)
    if path.startswith(_installed_roots()):
        return False
    return not (_is_install_target(module_name, path) or path.startswith(_editable_roots()))


def _is_found(obj: Any, module_name: str) -> bool:
    """Whether importing ``module_name`` and following the qualified name gives ``obj``."""
    found: Any = sys.modules.get(module_name)
    if found is None:
        return False
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is obj


def _outermost(names: set[str]) -> Iterator[str]:
    """Leave out the members of classes and functions that are named themselves."""
    for name in names:
        parts = name.split(".")
        if not any(".".join(parts[:length]) in names for length in range(1, len(parts))):
            yield name


@lru_cache(maxsize=1)
def _installed_roots() -> tuple[str, ...]:
    roots = {*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()}
    roots |= {os.path.dirname(os.__file__)}
    # Scripts and data of an environment are its whole prefix, under which a project may lie.
    roots -= {sys.prefix, sys.base_prefix, sysconfig.get_path("data")}
    return tuple(os.path.join(os.path.realpath(root), "") for root in roots)


def _is_install_target(module_name: str, path: str) -> bool:
    """Whether packages with their metadata lie in the folder from which a module was imported."""
    is_package = os.path.basename(path).startswith("__init__.")
    folder = Path(path).parents[module_name.count(".") + is_package]
    return any(folder.glob("*.dist-info"))


def _editable_roots() -> tuple[str, ...]:
    """Folders of the distributions that are installed in editable mode."""
    roots = []
    for distribution in importlib.metadata.distributions():
        text = distribution.read_text("direct_url.json")
        if not text:
            continue
        direct_url = json.loads(text)
        if direct_url.get("dir_info", {}).get("editable"):
            folder = unquote(urlsplit(direct_url["url"]).path)
            roots.append(os.path.join(os.path.realpath(folder), ""))
    return tuple(roots)


PICKLING_ERRORS = (pickle.PicklingError, TypeError, AttributeError, RecursionError, ValueError)
"""What the picklers raise for a part that cannot be pickled."""
