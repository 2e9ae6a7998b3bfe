"""Every route at the standalone host's door, over HTTP."""

from __future__ import annotations

import json
import re
import socket
import stat
import subprocess

import httpx
import msgspec
import pytest

from mlserve_jupyter.api.resources import ErrorBody
from mlserve_jupyter.server.policy import policy_of
from mlserve_jupyter.server.resource import Resource
from mlserve_jupyter.server.routes import ROUTES
from tests.standalone.hosts import COMMAND, StandaloneServer
from tests.waiting import wait_for

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
EXAMPLES = [
    (re.sub(r"\([^)]*\)|\.\*", "1", pattern).replace("\\", "").removeprefix("mlserve/"), resource)
    for pattern, resource in ROUTES
]
IDS = [path for path, _ in EXAMPLES]


@pytest.mark.parametrize(("path", "resource"), EXAMPLES, ids=IDS)
def test_row_05_without_a_credential_every_method_of_every_route_is_closed(
    standalone: StandaloneServer, path: str, resource: type[Resource]
) -> None:
    with httpx.Client() as client:
        for method in METHODS:
            response = client.request(method, standalone.url + path)
            policy = policy_of(getattr(resource, method.lower(), None))
            if policy is not None and policy.is_public:
                assert response.status_code in (200, 204, 400, 403, 404), (method, response.text)
            else:
                assert response.status_code in (401, 405), (method, response.text)


@pytest.mark.parametrize(("path", "resource"), EXAMPLES, ids=IDS)
def test_all_refusals_have_the_one_error_body(
    standalone: StandaloneServer, path: str, resource: type[Resource]
) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        response = standalone.request(method, path, content=b"{")
        if response.status_code >= 400:
            body = msgspec.json.decode(response.content, type=ErrorBody)
            assert body.message
            assert body.request_id == response.headers["X-Request-Id"]
            assert response.headers["Content-Type"] == "application/json"


JUPYTER_ROUTES = ("", "lab", "tree", "api", "api/kernels", "api/contents", "api/sessions",
    "api/terminals", "api/me", "files/mlserve.db", "login", "static/x", "metrics",
    "api/kernels/1/channels")  # fmt: skip


@pytest.mark.parametrize("path", JUPYTER_ROUTES)
def test_row_01_there_is_nothing_of_jupyter(standalone: StandaloneServer, path: str) -> None:
    root = standalone.url.removesuffix("mlserve/")
    for headers in ({}, {"X-MLServe-Key": standalone.key}):
        response = httpx.get(root + path, headers=headers)
        assert response.status_code == 404
        assert response.json()["code"] == "not_found"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("X-MLServe-Key", "mls_000000000000_00_00000000")],
        [("X-MLServe-Key", "{key}"), ("Authorization", "Bearer {key}")],
        [("Authorization", "Bearer {key},Bearer {key}")],
        [("Authorization", "token {key}")],
        [("Cookie", "X-MLServe-Key={key}; username={key}")],
    ],
    ids=["none", "unknown", "two headers", "joined", "as Jupyter's token", "cookie"],
)
def test_row_04_only_the_key_in_its_header_lets_in(
    standalone: StandaloneServer, headers: list[tuple[str, str]]
) -> None:
    filled = [(name, value.replace("{key}", standalone.key)) for name, value in headers]
    response = httpx.get(standalone.url + "api/v1/models?token=" + standalone.key, headers=filled)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert "Set-Cookie" not in response.headers


def test_the_token_of_a_jupyter_server_is_said_to_be_none_here(
    standalone: StandaloneServer,
) -> None:
    headers = {"Authorization": "token wrong"}
    response = httpx.get(standalone.url + "api/v1/models", headers=headers)
    assert response.status_code == 401
    said = response.json()["message"]
    assert said.startswith("The token that came is not valid here")
    assert "X-MLServe-Key" in said


def test_the_key_is_kept_for_its_owner_and_printed_on_request_alone(
    standalone: StandaloneServer,
) -> None:
    path = standalone.data_dir / "mlserve-standalone.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(standalone.data_dir.stat().st_mode) == 0o700
    assert standalone.key not in standalone.log()
    assert str(path) in standalone.log()
    printed = subprocess.run(
        [*COMMAND, "key"], env=standalone.env, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == standalone.key


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:1", 200),
        ("127.0.0.1", 200),
        ("[::1]:8899", 200),
        ("elsewhere.example", 403),
        ("127.0.0.1.elsewhere.example", 403),
        ("10.0.0.1", 403),
        ("", 403),
    ],
)
def test_row_04_only_the_servers_own_names_are_served(
    standalone: StandaloneServer, host: str, status: int
) -> None:
    response = standalone.request("GET", "api/v1/models", headers={"Host": host})
    assert response.status_code == status
    if status == 403:
        assert response.json()["details"] == {"setting": "allowed_hosts"}


def test_answers_say_that_they_are_neither_pages_nor_to_be_kept(
    standalone: StandaloneServer,
) -> None:
    for path in ("api/v1/models", "health/live", "nothing"):
        headers = standalone.request("GET", path, headers={"Origin": "https://a.example"}).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers
        assert "Server" not in headers


def test_a_body_over_its_limit_is_refused_before_it_is_read(standalone: StandaloneServer) -> None:
    with socket.create_connection(("127.0.0.1", standalone.port), timeout=10) as sock:
        sock.sendall(
            b"POST /mlserve/api/v1/environments HTTP/1.1\r\nHost: localhost\r\n"
            b"X-MLServe-Key: " + standalone.key.encode() + b"\r\nContent-Length: 1048577\r\n\r\n"
        )
        assert sock.recv(65536).startswith(b"HTTP/1.1 413 ")

    def endless() -> object:
        for _ in range(64):
            yield b"x" * 2**16

    try:
        chunked = standalone.request("POST", "api/v1/environments", content=endless())
        assert chunked.status_code == 413
    except httpx.TransportError:
        pass  # the server may close while the client still sends
    assert standalone.request("GET", "health/live").status_code == 200


def test_what_follows_a_refused_body_is_never_taken_for_a_request(
    standalone: StandaloneServer,
) -> None:
    hidden = b"GET /mlserve/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20_000
    with socket.create_connection(("127.0.0.1", standalone.port), timeout=30) as sock:
        sock.sendall(
            b"POST /mlserve/api/v1/models HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: text/plain\r\nX-MLServe-Key: " + standalone.key.encode()
            + b"\r\nContent-Length: %d\r\n\r\n" % len(hidden)
        )  # fmt: skip
        answer = sock.recv(65536)
        assert answer.startswith(b"HTTP/1.1 415 ")
        assert b"\r\nConnection: close\r\n" in answer
        try:
            sock.sendall(hidden)
            while piece := sock.recv(65536):
                answer += piece
        except OSError:
            pass  # the server may close while we still send
    assert answer.count(b"HTTP/1.1") == 1


def test_the_access_log_has_a_json_line_a_request_and_no_secret(
    standalone: StandaloneServer,
) -> None:
    path = standalone.folder / "access.log"
    standalone.request("GET", "api/v1/models/sums/versions/3?token=hidden-token", headers={
        "X-Request-Id": "the-request"})  # fmt: skip
    with socket.create_connection(("127.0.0.1", standalone.port), timeout=10) as sock:
        sock.sendall(
            b'GET /mlserve/%0d%0a"}%1b[31m HTTP/1.1\r\nHost: localhost\r\n'
            b"X-Request-Id: the-other\r\n\r\n"
        )
        sock.recv(65536)
    assert wait_for(lambda: b"the-other" in path.read_bytes(), 30)
    content = path.read_bytes()
    lines = [json.loads(line) for line in content.splitlines()]
    [line] = [line for line in lines if line["request_id"] == "the-request"]
    assert line["path"] == "/mlserve/api/v1/models/sums/versions/3"
    assert (line["method"], line["status"]) == ("GET", 404)
    assert (line["model"], line["version"]) == ("sums", 3)
    assert line["principal"] == "owner (host)"
    assert line["ms"] > 0
    assert line["bytes"] > 0
    assert b"hidden-token" not in content
    assert standalone.key.encode() not in content
    [other] = [line for line in lines if line["request_id"] == "the-other"]
    assert other["path"] == '/mlserve/%0d%0a"}%1b[31m'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
