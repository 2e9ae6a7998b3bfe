"""Who calls: what a request's credential proved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Principal:
    """The caller of a request.

    Attributes
    ----------
    user
        Name of the platform user; the owner of what the caller deploys.
    via
        How the caller was known: ``jupyter`` (Jupyter's own identity), ``kernel`` (the key that
        the server gives to its kernels) or ``key`` (the key of a standalone server).
    """

    user: str
    via: Literal["jupyter", "kernel", "key"]

    def __str__(self) -> str:
        """Show the caller as the prediction log does."""
        return f"{self.user} ({self.via})"
