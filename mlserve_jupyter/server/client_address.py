"""Where a request comes from: the peer, or whom a trusted proxy names.

``X-Forwarded-For`` is what anybody can send, so only what trusted proxies have added to it counts.
The host's own reading of it (Jupyter's ``trust_xheaders``) trusts every peer, and is not used.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from tornado.httputil import HTTPServerRequest

from mlserve_jupyter.settings import trusted_networks

MAX_HOPS = 20
"""Proxies in a row; nobody has as many."""


def client_address(request: HTTPServerRequest, trusted_proxies: tuple[str, ...]) -> str:
    """Return the client's address.

    Parameters
    ----------
    trusted_proxies
        Networks whose word is taken.

    Returns
    -------
    str
        An IP address, or empty for a peer without one, on a Unix socket.
    """
    peer = _peer(request)
    if not trusted_proxies or not _is_trusted(peer, trusted_proxies):
        return peer
    hops = ",".join(request.headers.get_list("X-Forwarded-For")).split(",")
    return _furthest_known(peer, reversed(hops[-MAX_HOPS:]), trusted_proxies)


def _furthest_known(peer: str, hops: Iterable[str], trusted_proxies: tuple[str, ...]) -> str:
    """Walk back from proxy to proxy to the first that is none of ours."""
    for hop in hops:
        address = _normalized(hop)
        if not address:
            return peer
        peer = address
        if not _is_trusted(address, trusted_proxies):
            return peer
    return peer


def _peer(request: HTTPServerRequest) -> str:
    """Return whom the connection comes from, whatever its headers say."""
    address = getattr(getattr(request.connection, "context", None), "address", None)
    return _normalized(address[0]) if isinstance(address, tuple) else ""


@lru_cache(maxsize=4096)
def _is_trusted(address: str, trusted_proxies: tuple[str, ...]) -> bool:
    if not address:
        return False
    found = ipaddress.ip_address(address)
    return any(found in network for network in trusted_networks(trusted_proxies))


@lru_cache(maxsize=4096)
def _normalized(text: str) -> str:
    """Return an address in its one form, or empty if it is none."""
    text = text.strip()
    if text.startswith("["):  # an IPv6 address with a port
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # an IPv4 address with a port
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)
