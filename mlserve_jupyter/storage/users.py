"""A user as the rooms above storage pass it on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["user", "admin"]


@dataclass(frozen=True)
class User:
    """An owner of models.

    Attributes
    ----------
    id
        Primary key; also the folder of the user's artifacts.
    name
        Unique; the part before ``~`` in ``owner~name``.
    role
        ``user`` or ``admin``.
    model_ids
        The models that the credential with which the user calls is limited to; None for all.
    """

    id: str
    name: str
    role: Role
    model_ids: frozenset[str] | None = None
