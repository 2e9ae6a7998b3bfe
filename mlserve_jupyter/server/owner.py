"""Which platform user Jupyter's identity stands for."""

from __future__ import annotations

import hashlib
import os
import re

from jupyter_server.auth.identity import (
    IdentityProvider,
    LegacyIdentityProvider,
    PasswordIdentityProvider,
    User,
)

from mlserve_jupyter.storage.users import Role

HUB_USER = "JUPYTERHUB_USER"
"""Set by JupyterHub in the environment of each user's server."""

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
    return configured if type(provider) in _NAMELESS else platform_name(username)


def platform_name(username: str) -> str:
    """Return a name that can name a platform user, and is no other visitor's."""
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
    if _has_one_owner(provider):
        return "admin"
    hub_user = getattr(user, "hub_user", None)
    is_hub_admin = isinstance(hub_user, dict) and hub_user.get("admin") is True
    return "admin" if is_hub_admin else "user"


def kernel_role(provider: IdentityProvider) -> Role:
    """Return what the kernels' own key is: as its owner, where there is but one."""
    return "admin" if _has_one_owner(provider) else "user"


def default_owner(configured: str) -> str:
    """Return whose the kernels are: under JupyterHub the user's, whose server this is."""
    username = os.environ.get(HUB_USER)
    return platform_name(username) if username else configured


def _has_one_owner(provider: IdentityProvider) -> bool:
    return type(provider) in _NAMELESS and HUB_USER not in os.environ
