"""Wire types of users, as administrators see and change them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

Role = Literal["user", "admin"]

MAX_RATE_LIMIT = 1_000_000_000


class DescribeUser(msgspec.Struct, frozen=True, kw_only=True):
    """A user, and what the user's models are used for.

    Attributes
    ----------
    email
        Null for those who come by Jupyter's identity alone.
    rate_limit
        Requests a minute; 0 for no limit, null for what the settings say.
    n_models
        Models that the user owns.
    n_calls, last_called_at
        Calls of these models that have reached the log, whoever made them; null if there were none.
    """

    id: str
    name: str
    email: str | None
    role: Role
    is_active: bool
    rate_limit: int | None
    created_at: datetime
    n_models: int
    n_calls: int
    last_called_at: datetime | None


class ListUsers(msgspec.Struct, frozen=True, kw_only=True):
    """A page of users, by name."""

    items: list[DescribeUser]
    next_cursor: str | None = None


class UpdateUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an administrator may change of a user.

    Attributes
    ----------
    role
        Becoming a ``user`` again ends all of the user's tokens.
    is_active
        False refuses all that the user's passwords, tokens and keys open.
    rate_limit
        Requests a minute; 0 for no limit, null for what the settings say.
    """

    role: Role | msgspec.UnsetType = msgspec.UNSET
    is_active: bool | msgspec.UnsetType = msgspec.UNSET
    rate_limit: Annotated[int, msgspec.Meta(ge=0, le=MAX_RATE_LIMIT)] | None | msgspec.UnsetType = (
        msgspec.UNSET
    )
