"""Which names a ``Host`` header may have: a page of another name must not reach this server."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
WILDCARDS = ("", "*", "0.0.0.0", "::")


class HostNames:
    """The names that are served.

    These are the names of the loopback interface, what is bound, and ``allowed``. Where all
    interfaces are bound, these are also the machine's name and any address: a page that was
    rebound to this server still has a name of its own, never an address.

    Parameters
    ----------
    ip
        What is bound.
    allowed
        Further names; ``*`` for any.
    """

    def __init__(self, ip: str, allowed: Sequence[str]) -> None:
        self._takes_addresses = ip in WILDCARDS
        self._own = (socket.gethostname() if self._takes_addresses else ip, *LOOPBACK_NAMES)
        self.allow(allowed)

    def allow(self, allowed: Sequence[str]) -> None:
        """Serve these names from now on, and the server's own."""
        self._takes_any = "*" in allowed
        self._names = {name.lower() for name in (*self._own, *allowed)}

    def allows(self, header: str) -> bool:
        """Whether a request with this ``Host`` header is for this server."""
        if self._takes_any:
            return True
        name = _without_port(header).lower()
        return name in self._names or (self._takes_addresses and _is_address(name))


def _without_port(header: str) -> str:
    if header.startswith("["):
        return header[1:].partition("]")[0]
    name, colon, port = header.rpartition(":")
    return name if colon and port.isdigit() else header


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
