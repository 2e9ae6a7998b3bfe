"""A worker's loaded models: least recently used out, bounded by measured bytes and by count."""

from __future__ import annotations

import os
import resource
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlserve_jupyter.serving.protocol import ModelRef


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory.

    Attributes
    ----------
    model
        The object itself: a person's own, hence ``Any``.
    n_bytes
        What loading it added to the process's resident memory, and at least the artifact's size,
        since memory that an evicted model gave back is used again unseen.
    """

    model: Any
    n_bytes: int


class ModelCache:
    """Models by key, in order of use.

    Parameters
    ----------
    load
        Reads an artifact and returns the model.
    max_bytes
        Upper bound of the sum of ``n_bytes``; the model in use is kept even if it alone is larger.
    max_models
        Upper bound of the number of models; 0 means none.

    Notes
    -----
    A worker does one thing at a time, so a model in use is always the most recently used one, and
    is never the one that goes.
    """

    def __init__(self, load: Callable[[ModelRef], Any], *, max_bytes: int, max_models: int) -> None:
        self._load = load
        self._max_bytes = max_bytes
        self._max_models = max_models
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()

    def get(self, ref: ModelRef) -> tuple[LoadedModel, bool]:
        """Return the model, and whether it had to be loaded."""
        found = self._loaded.get(ref.key)
        if found is not None:
            self._loaded.move_to_end(ref.key)
            return found, False
        self._make_room(ref.size_bytes)
        before = resident_bytes()
        model = self._load(ref)
        loaded = LoadedModel(model, max(resident_bytes() - before, ref.size_bytes))
        self._loaded[ref.key] = loaded
        self._make_room(0)
        return loaded, True

    def forget(self, key: str) -> None:
        """Let a model go if it is loaded."""
        self._loaded.pop(key, None)

    def rename(self, key: str, new_key: str) -> None:
        """Keep a model under another key."""
        if key in self._loaded:
            self._loaded[new_key] = self._loaded.pop(key)

    def sizes(self) -> dict[str, int]:
        """Bytes of each loaded model, least recently used first."""
        return {key: loaded.n_bytes for key, loaded in self._loaded.items()}

    def _make_room(self, incoming_bytes: int) -> None:
        incoming = 1 if incoming_bytes else 0
        while len(self._loaded) > (0 if incoming else 1) and (
            sum(loaded.n_bytes for loaded in self._loaded.values()) + incoming_bytes
            > self._max_bytes
            or (self._max_models and len(self._loaded) + incoming > self._max_models)
        ):
            self._loaded.popitem(last=False)


def resident_bytes() -> int:
    """Resident memory of this process; where ``/proc`` is missing, its highest value so far."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
