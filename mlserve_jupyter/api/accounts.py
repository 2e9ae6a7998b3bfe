"""Wire types of accounts: signing in, registering, and invitations."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from mlserve_jupyter.api.keys import Scope
from mlserve_jupyter.api.names import Name

Role = Literal["user", "admin"]

MAX_INVITATION_S = 90 * 24 * 3600


class _Secret(msgspec.Struct, frozen=True, kw_only=True):
    """What holds a secret shows nothing of itself where it is logged or printed."""

    def __repr__(self) -> str:
        """Return the type's name alone."""
        return f"{type(self).__name__}(…)"


class Register(_Secret, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account that somebody asks for.

    Attributes
    ----------
    password
        At least 8 characters, at most 72 bytes in UTF-8.
    name
        By which others know the user, as in ``owner~name``; null for one that is made of the
        email's first part.
    invitation
        The code of an invitation, where one is needed.
    """

    email: str
    password: str
    name: Name | None = None
    invitation: str | None = None


class Login(_Secret, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who somebody says to be, and the proof."""

    email: str
    password: str


class Refresh(_Secret, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A refresh token, to be exchanged for the next pair."""

    refresh_token: str


class DescribeTokens(_Secret, frozen=True, kw_only=True):
    """Tokens, in the form of RFC 6749, 5.1.

    Attributes
    ----------
    access_token
        For ``Authorization: Bearer …``.
    refresh_token
        For one exchange at ``auth/refresh``, within 7 days.
    expires_in
        Seconds for which the access token is good.
    """

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"
    expires_in: int


class UpdateMe(_Secret, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``PATCH auth/me`` may change: the password."""

    current_password: str
    new_password: str


class DescribeMe(msgspec.Struct, frozen=True, kw_only=True):
    """The caller, and what the credential is good for.

    Attributes
    ----------
    email
        Null for those who come by Jupyter's identity alone.
    via
        How the caller is known: ``jupyter``, ``kernel``, ``host``, ``key`` or ``token``.
    model_ids
        The models that the credential is limited to; null for all.
    rate_limit
        Requests a minute; 0 for no limit.
    """

    id: str
    name: str
    email: str | None
    role: Role
    created_at: datetime
    via: str
    scopes: list[Scope]
    model_ids: list[str] | None
    rate_limit: int


class DescribeAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An account that was just made."""

    id: str
    name: str
    email: str
    role: Role
    created_at: datetime


class CreateInvitation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to invite.

    Attributes
    ----------
    email
        The only one that may register with it; null for any.
    role
        What whoever registers with it becomes.
    expires_in_s
        Seconds from now.
    """

    email: str | None = None
    role: Role = "user"
    expires_in_s: Annotated[int, msgspec.Meta(ge=1, le=MAX_INVITATION_S)] = 7 * 24 * 3600


class DescribeInvitation(msgspec.Struct, frozen=True, kw_only=True):
    """An invitation, without its code.

    Attributes
    ----------
    created_by, used_by
        Names of users.
    """

    id: str
    email: str | None
    role: Role
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_by: str | None
    used_at: datetime | None


class DescribeNewInvitation(DescribeInvitation, frozen=True, kw_only=True):
    """An invitation that was just made, with its code, which is shown this once."""

    code: str

    def __repr__(self) -> str:
        """Leave out the code."""
        return f"{type(self).__name__}(id={self.id!r}, code=…)"


class ListInvitations(msgspec.Struct, frozen=True, kw_only=True):
    """A page of invitations, newest first."""

    items: list[DescribeInvitation]
    next_cursor: str | None = None
