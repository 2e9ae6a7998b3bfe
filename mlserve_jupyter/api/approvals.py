"""Wire types of approvals: artifacts that can run code and that an administrator answers for."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec


class ApproveArtifact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an administrator says of an artifact, such as where it came from."""

    note: Annotated[str, msgspec.Meta(max_length=10_000)] = ""


class DescribeApproval(msgspec.Struct, frozen=True, kw_only=True):
    """An approval of one artifact, byte for byte.

    Attributes
    ----------
    approved_by
        Name of the administrator.
    versions
        What is deployed with it, as ``owner~model version``.
    """

    sha256: str
    approved_by: str
    note: str
    created_at: datetime
    versions: list[str] = []


class ListApprovals(msgspec.Struct, frozen=True, kw_only=True):
    """A page of approvals, by sha256."""

    items: list[DescribeApproval]
    next_cursor: str | None = None
