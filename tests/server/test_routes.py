"""Every route at its door, over HTTP against a real Jupyter server."""

from __future__ import annotations

import itertools
import re
import socket
import stat
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
from tornado.web import RequestHandler

from mlserve_jupyter.api.resources import ErrorBody
from mlserve_jupyter.server.policy import check_policies, policy_of
from mlserve_jupyter.server.resource import Resource
from mlserve_jupyter.server.routes import ROUTES
from tests.live import LiveServer

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
EXAMPLES = [
    (re.sub(r"\([^)]*\)|\.\*", "1", pattern).replace("\\", "").removeprefix("mlserve/"), resource)
    for pattern, resource in ROUTES
]


def error_of(response: httpx.Response) -> ErrorBody:
    return msgspec.json.decode(response.content, type=ErrorBody)


@pytest.mark.parametrize(("path", "resource"), EXAMPLES, ids=[path for path, _ in EXAMPLES])
def test_row_05_without_a_credential_every_method_of_every_route_is_closed(
    live_server: LiveServer, path: str, resource: type[Resource]
) -> None:
    with httpx.Client() as client:
        for method in METHODS:
            response = client.request(method, live_server.url + path)
            policy = policy_of(getattr(resource, method.lower(), None))
            if policy is not None and policy.is_public:
                assert response.status_code in (200, 204, 400, 403, 404), (method, response.text)
            else:
                assert response.status_code in (401, 403, 405), (method, response.text)


@pytest.mark.parametrize(("path", "resource"), EXAMPLES, ids=[path for path, _ in EXAMPLES])
def test_all_refusals_have_the_one_error_body(
    live_server: LiveServer, path: str, resource: type[Resource]
) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        response = live_server.request(method, path, content=b"{")
        if response.status_code >= 400:
            body = error_of(response)
            assert body.message
            assert body.request_id == response.headers["X-Request-Id"]
            assert response.headers["Content-Type"] == "application/json"


def test_a_method_without_a_policy_stops_the_start() -> None:
    class Forgotten(RequestHandler):
        def get(self) -> None: ...

    with pytest.raises(RuntimeError, match=r"Forgotten\.get has no policy"):
        check_policies([Forgotten])


def test_the_kernels_key_opens_our_routes(live_server: LiveServer) -> None:
    for headers in (
        {"X-MLServe-Key": live_server.key},
        {"Authorization": f"Bearer {live_server.key}"},
    ):
        response = httpx.get(live_server.url + "api/v1/models", headers=headers)
        assert response.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        [("X-MLServe-Key", "mls_000000000000_00_00000000")],
        [("X-MLServe-Key", "nonsense")],
        [("X-MLServe-Key", "{key}"), ("Authorization", "Bearer {key}")],
        [("Authorization", "Bearer {key},Bearer {key}")],
        [("Authorization", "Bearer {key}"), ("Authorization", "Bearer {key}")],
        [("Authorization", "Bearer eyJ0eXAiOiJtbHNlcnZlLWF0K2p3dCIsImFsZyI6Im5vbmUifQ.e30.")],
    ],
    ids=["unknown", "malformed", "two headers", "joined", "repeated", "a token"],
)
def test_row_02_row_04_a_bad_credential_is_401_and_never_falls_back_to_the_cookie(
    live_server: LiveServer, headers: list[tuple[str, str]]
) -> None:
    filled = [(name, value.replace("{key}", live_server.key)) for name, value in headers]
    with httpx.Client() as client:
        client.get(live_server.jupyter_url + "lab?token=" + live_server.token)
        assert client.get(live_server.url + "api/v1/models").status_code == 200
        response = client.get(
            live_server.url + "api/v1/models?token=" + live_server.token, headers=filled
        )
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert error_of(response).code == "unauthenticated"


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([], "^Send Jupyter's token"),
        ([("Authorization", "token wrong")], "^The token that came is not valid here.* Send Jup"),
        ([("Authorization", "Bearer wrong")], "^The token that came is not valid here"),
        ([("Authorization", "token")], "^The header Authorization came without a token"),
        ([("X-MLServe-Key", "")], "^The header X-MLServe-Key came without a value"),
        ([("X-MLServe-Key", "wrong")], "not valid here: it is mistyped, expired, .* server.$"),
        ([("X-MLServe-Key", "a"), ("X-MLServe-Key", "b")], "More than one .* send exactly one"),
    ],
)
def test_a_refused_credential_is_described_by_the_form_in_which_it_came(
    live_server: LiveServer, headers: list[tuple[str, str]], said: str
) -> None:
    response = httpx.get(live_server.url + "api/v1/models", headers=headers)
    assert response.status_code == 401
    assert re.search(said, error_of(response).message)


def test_row_03_a_key_beside_jupyters_token_is_judged_alone_and_sets_no_cookie(
    live_server: LiveServer,
) -> None:
    response = httpx.get(
        live_server.url + "api/v1/models?token=" + live_server.token,
        headers={"X-MLServe-Key": live_server.key},
    )
    assert response.status_code == 200
    assert "Set-Cookie" not in response.headers


def test_row_02_a_cookie_writes_only_with_its_xsrf_token_and_from_our_own_origin(
    live_server: LiveServer,
) -> None:
    path = live_server.url + "api/v1/environments"
    with httpx.Client() as client:
        client.get(live_server.jupyter_url + "lab?token=" + live_server.token)
        xsrf = client.cookies["_xsrf"]
        assert client.post(path, content=b"{}").status_code == 403
        admitted = client.post(path, content=b"{}", headers={"X-XSRFToken": xsrf})
        assert admitted.status_code == 400
        foreign = client.post(
            path,
            content=b"{}",
            headers={"X-XSRFToken": xsrf, "Origin": "https://elsewhere.example"},
        )
        assert foreign.status_code in (403, 404)


def test_row_04_an_unknown_host_is_refused(live_server: LiveServer) -> None:
    response = httpx.get(
        live_server.url + "api/v1/models",
        headers={"X-MLServe-Key": live_server.key, "Host": "elsewhere.example"},
    )
    assert response.status_code == 403


def test_answers_say_that_they_are_neither_pages_nor_to_be_kept(live_server: LiveServer) -> None:
    for path in ("api/v1/models", "health/live", "nothing"):
        headers = live_server.request("GET", path).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    ("sent", "kept"), [("abc-1.2_3", True), ("a b", False), ("x" * 65, False), ("ä", False)]
)
def test_a_request_id_is_kept_if_it_is_one(live_server: LiveServer, sent: str, kept: bool) -> None:
    response = live_server.request(
        "GET", "health/live", headers={"X-Request-Id": sent.encode("utf-8")}
    )
    assert (response.headers["X-Request-Id"] == sent) is kept


def send_raw(server: LiveServer, request: str) -> httpx.Response:
    """Send what no client would send."""
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
        connection.sendall(request.format(host=place.netloc, token=server.token).encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    headers = [tuple(line.split(": ", 1)) for line in lines]
    return httpx.Response(int(status_line.split()[1]), headers=headers, content=body)


@pytest.mark.parametrize(
    ("line", "more", "status"),
    [
        ("FOO /mlserve/api/v1/models", "", 405),
        ("GET /mlserve/api/v1/models/%ff", "", 400),
        ("POST /mlserve/api/v1/models", "Content-Length: 5, 5\r\n", 400),
        ("POST /mlserve/api/v1/predict/clf", "Content-Length: 5, 5\r\n", 400),
        ("POST /mlserve/api/v1/predict/clf", "Content-Length: 5\r\nContent-Length: 5\r\n", 400),
    ],
)
def test_a_request_that_is_not_http_is_the_senders_fault_and_has_an_id(
    live_server: LiveServer, line: str, more: str, status: int
) -> None:
    response = send_raw(
        live_server,
        f"{line} HTTP/1.1\r\nHost: {{host}}\r\nAuthorization: token {{token}}\r\n"
        f"Connection: close\r\n{more}\r\nhello",
    )
    assert response.status_code == status
    assert error_of(response).request_id == response.headers["X-Request-Id"] != ""
    assert "Uncaught exception" not in live_server.log()
    assert "AttributeError" not in live_server.log()


def test_a_body_over_its_limit_is_refused_before_it_is_read(live_server: LiveServer) -> None:
    def endless() -> object:
        for _ in range(64):
            yield b"x" * 2**16

    response = live_server.request("POST", "api/v1/environments", content=b"x" * (2**20 + 1))
    assert response.status_code == 413
    try:
        chunked = live_server.request("POST", "api/v1/environments", content=endless())
        assert chunked.status_code == 413
    except httpx.TransportError:
        pass  # the server may close while the client still sends
    assert live_server.request("GET", "health/live").status_code == 200


def test_what_the_server_keeps_is_for_its_user_alone(live_server: LiveServer) -> None:
    live_server.request("GET", "api/v1/models")
    ours = live_server.data_dir / "mlserve"
    for path in itertools.chain([ours, live_server.connection_file], ours.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_what_the_server_keeps_is_not_served_by_jupyter(live_server: LiveServer) -> None:
    live_server.request("GET", "api/v1/models")
    for path in ("mlserve.db", "../data/mlserve/mlserve.db", ".local/share/jupyter/mlserve"):
        for route in ("files/", "api/contents/"):
            response = httpx.get(
                live_server.jupyter_url + route + path,
                headers={"Authorization": f"token {live_server.token}"},
            )
            assert response.status_code == 404
