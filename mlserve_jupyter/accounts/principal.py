"""Who calls: what a request's credential proved, and what it may be used for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mlserve_jupyter.api.keys import Scope
from mlserve_jupyter.storage.users import Role

MAX_SHOWN_CHARS = 128
"""Of a caller as the prediction log shows it: the width of its column."""

ALL_SCOPES: frozenset[Scope] = frozenset(("predict", "read", "deploy", "admin"))


@dataclass(frozen=True)
class Principal:
    """The caller of a request.

    Attributes
    ----------
    user
        Name of the platform user; the owner of what the caller deploys.
    via
        How the caller was known: ``jupyter`` (Jupyter's own identity), ``kernel`` (the key that
        the server gives to its kernels), ``host`` (the key of a standalone server's operator),
        ``key`` (an API key) or ``token`` (an access token).
    user_id
        Of a user whom the credential itself names; None where the user is made at the first
        request, as for Jupyter's identities.
    role
        Of the user. A user who is made at the first request gets it, and an administrator by
        Jupyter's word is one whatever the database says; any other role is the database's.
    scopes
        What the credential may be used for; what the user may do is asked besides.
    model_ids
        The models that it may be used for; None for all.
    credential_id
        Of the API key, or of the family of tokens; empty for the others.
    credential_name
        Of the API key, by which its owner knows it; empty for the others.
    rate_limit
        Requests a minute; 0 for no limit, None for what the settings say.
    quota_id
        Whose requests are counted with the caller's: empty for the user's.
    user_limit
        What all requests of the user are held to besides, where ``quota_id`` is another's: as
        ``rate_limit``.
    """

    user: str
    via: Literal["jupyter", "kernel", "host", "key", "token"]
    user_id: str | None = None
    role: Role = "user"
    scopes: frozenset[Scope] = ALL_SCOPES
    model_ids: frozenset[str] | None = None
    credential_id: str = ""
    credential_name: str = field(default="", compare=False)
    rate_limit: int | None = 0
    quota_id: str = ""
    user_limit: int | None = 0

    def __str__(self) -> str:
        """Show the caller as the prediction log does, with the name of a key."""
        if not self.credential_name:
            return f"{self.user} ({self.via})"
        shown = f"{self.user} ({self.via} {self.credential_name})"
        return shown if len(shown) <= MAX_SHOWN_CHARS else f"{shown[: MAX_SHOWN_CHARS - 2]}…)"
