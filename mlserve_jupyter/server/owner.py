"""Which platform user Jupyter's identity stands for."""

from __future__ import annotations

import hashlib
import re

from jupyter_server.auth.identity import (
    IdentityProvider,
    LegacyIdentityProvider,
    PasswordIdentityProvider,
    User,
)

from mlserve_jupyter.storage.users import Role

_NAMELESS = (IdentityProvider, PasswordIdentityProvider, LegacyIdentityProvider)


def owner_name(provider: IdentityProvider, username: str, configured: str) -> str:
    """Return the platform user's name.

    Under plain token or password authentication Jupyter makes up a new name for each visitor, so
    all of them are the one configured owner. JupyterHub and other identity providers know names.

    Parameters
    ----------
    provider
        The server's identity provider.
    username
        The name that it gives the visitor.
    configured
        ``Settings.owner``.
    """
    if type(provider) in _NAMELESS:
        return configured
    name = re.sub(r"[^a-z0-9_-]+", "-", username.lower()).strip("-_")[:48]
    if name == username:
        return name
    # Two visitors must never become one user, so what the name lost is added as a digest.
    digest = hashlib.sha256(username.encode()).hexdigest()[:12]
    return f"{name}-{digest}" if name else digest


def role_of(provider: IdentityProvider, user: User) -> Role:
    """Return what a visitor is at least: the notebook's one owner administers the platform.

    Where Jupyter knows names, all are users, but for those whom JupyterHub calls administrators.
    """
    if type(provider) in _NAMELESS:
        return "admin"
    hub_user = getattr(user, "hub_user", None)
    is_hub_admin = isinstance(hub_user, dict) and hub_user.get("admin") is True
    return "admin" if is_hub_admin else "user"


def kernel_role(provider: IdentityProvider) -> Role:
    """Return what the kernels' own key is: as its owner, where there is but one."""
    return "admin" if type(provider) in _NAMELESS else "user"
