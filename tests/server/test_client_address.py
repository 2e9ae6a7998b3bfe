from __future__ import annotations

from types import SimpleNamespace

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from mlserve_jupyter.errors import SettingsInvalid
from mlserve_jupyter.server.client_address import client_address
from mlserve_jupyter.settings import check_origin, trusted_networks

PROXIES = ("10.0.0.0/8", "2001:db8::/32", "127.0.0.1")


def request(peer: object, *forwarded: str) -> HTTPServerRequest:
    headers = HTTPHeaders({"Host": "a"})
    start = RequestStartLine("GET", "/", "HTTP/1.1")
    for value in forwarded:
        headers.add("X-Forwarded-For", value)
    connection = SimpleNamespace(context=SimpleNamespace(address=peer))
    found = HTTPServerRequest(start_line=start, headers=headers)
    found.connection = connection  # type: ignore[assignment]
    return found


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", ["1.2.3.4"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4, 10.9.9.9, 127.0.0.1"], "1.2.3.4"),
        ("10.0.0.1", ["1.2.3.4, <script>"], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4:8443"], "1.2.3.4"),
        ("10.0.0.1", ["[2001:db9::7]:8443"], "2001:db9::7"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("2001:db8::1", ["1.2.3.4"], "1.2.3.4"),
        ("::ffff:10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("fe80::1%eth0", ["1.2.3.4"], "fe80::1"),
    ],
)
def test_row_13_only_trusted_proxies_say_who_the_client_is(
    peer: str, forwarded: list[str], address: str
) -> None:
    assert client_address(request((peer, 4711), *forwarded), PROXIES) == address
    assert client_address(request((peer, 4711), *forwarded), ()) in (peer, "10.0.0.1", "fe80::1")


def test_a_long_list_of_forwarded_addresses_is_not_walked_through() -> None:
    endless = ", ".join(["1.2.3.4", *["10.0.0.2"] * 10_000])
    assert client_address(request(("10.0.0.1", 4711), endless), PROXIES) == "10.0.0.2"


def test_a_peer_on_a_unix_socket_has_no_address() -> None:
    assert client_address(request(b""), PROXIES) == ""


def test_what_is_no_network_and_no_origin_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match="trusted_proxies"):
        trusted_networks(("10.0.0.0/40",))
    for wrong in ("*", "null", "app.example.org", "https://a/b", "https://A.org", "https://a.org/"):
        with pytest.raises(SettingsInvalid, match="cors_origins"):
            check_origin(wrong)
    for right in ("https://a.org", "http://localhost:3000", "http://[::1]:3000"):
        check_origin(right)
