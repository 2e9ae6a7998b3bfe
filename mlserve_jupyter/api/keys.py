"""Wire types of API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from mlserve_jupyter.api.names import Name

Scope = Literal["predict", "read", "deploy", "admin"]

MAX_LIFETIME_S = 10 * 366 * 24 * 3600
MAX_RATE_LIMIT = 1_000_000_000


class CreateKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a new key is to be good for.

    Attributes
    ----------
    name
        By which its owner knows it; of the form of a model's name, and of one key at a time.
    scopes
        ``predict`` calls models, ``read`` reads them and their logs, ``deploy`` deploys, changes
        and deletes them, ``admin`` does what administrators do, keys and the account included.
    models
        Models that it is limited to: names, ids, or ``owner~name``; null for all.
    expires_in_s
        Seconds from now; null for never.
    rate_limit
        Requests a minute, within its owner's limit; null for that limit alone. 0, for none, takes
        an administrator.
    """

    name: Name
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1, max_length=4)] = ("predict",)
    models: Annotated[list[str], msgspec.Meta(min_length=1, max_length=100)] | None = None
    expires_in_s: Annotated[int, msgspec.Meta(ge=1, le=MAX_LIFETIME_S)] | None = None
    rate_limit: Annotated[int, msgspec.Meta(ge=0, le=MAX_RATE_LIMIT)] | None = None


class DescribeKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is kept: without the key itself.

    Attributes
    ----------
    prefix
        The first part of the key, by which it is told from others.
    models
        How its owner names the models that it is limited to (the id of one that is gone); null for
        all.
    last_used_at
        Within a minute or so.
    """

    id: str
    name: str
    prefix: str
    scopes: list[Scope]
    models: list[str] | None
    rate_limit: int | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class DescribeNewKey(DescribeKey, frozen=True, kw_only=True):
    """A key that was just made; ``key`` is the key itself, which is never shown again."""

    key: str


class ListKeys(msgspec.Struct, frozen=True, kw_only=True):
    """A page of keys, newest first."""

    items: list[DescribeKey]
    next_cursor: str | None = None
