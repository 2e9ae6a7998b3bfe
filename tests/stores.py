"""Where the platforms of the tests keep what they keep: ``pytest --stores embedded | servers``.

``embedded`` is what an installation has without any setting: SQLite, memory, a folder. ``servers``
is in ``server_stores``.

A test stands on the stores if it asks for the fixture ``stores``, itself or by way of another
fixture; all others run with ``embedded`` only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlserve_jupyter.settings import Settings

KINDS = ("embedded", "servers")

URLS = tuple(
    name
    for name in ("database_url", "redis_url", "artifacts_url")
    if name in Settings.__dataclass_fields__
)


class Stores(ABC):
    """Gives each platform stores of its own."""

    @abstractmethod
    def at(self, data_dir: Path) -> Settings:
        """Return the settings of the platform whose data folder this is; always the same ones."""

    def settings(self, folder: Path, **others: Any) -> Settings:
        """Return the settings of a platform below ``folder``, and others, which win."""
        return replace(self.at(folder / "data"), **others)

    @abstractmethod
    def drop_below(self, folder: Path) -> None:
        """Drop what platforms whose data folders lie there have kept elsewhere."""


class EmbeddedStores(Stores):
    """What is there without any setting."""

    def at(self, data_dir: Path) -> Settings:
        return Settings(data_dir=data_dir)

    def drop_below(self, folder: Path) -> None:
        pass  # all of it lies in their folders


def options_of(settings: Settings, application: str) -> list[str]:
    """Return the command line of a host, ``MLServeApp`` or ``MLServeServer``, for its stores."""
    return [f"--{application}.{name}={url}" for name in URLS if (url := getattr(settings, name))]
