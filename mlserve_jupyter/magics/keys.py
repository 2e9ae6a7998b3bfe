"""``mlserve.keys``: what ``%mlserve keys`` does, as Python functions."""

from __future__ import annotations

from mlserve_jupyter.magics import keys_create, keys_list, keys_revoke


class Keys:
    """The keys with which programs outside call models."""

    create = staticmethod(keys_create.create)
    list = staticmethod(keys_list.list)
    revoke = staticmethod(keys_revoke.revoke)


keys = Keys()
"""The one of this package."""
