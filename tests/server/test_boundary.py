"""What our keys do not open: everything else of a Jupyter server, rule by rule."""

from __future__ import annotations

import itertools
import json
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx
import pytest

from mlserve_jupyter.server.policy import policy_of
from mlserve_jupyter.server.routes import ROUTES
from tests.live import NO_TLS, LiveServer

LIST_RULES = """
import json, logging, sys
from jupyter_server.serverapp import ServerApp

def patterns(router):
    for rule in router.rules:
        if hasattr(rule.target, "rules"):
            yield from patterns(rule.target)
        elif hasattr(rule.matcher, "regex"):
            yield rule.matcher.regex.pattern

app = ServerApp()
app.log_level = logging.CRITICAL
app.initialize(
    ["--no-browser", "--allow-root", "--port=0", f"--ServerApp.root_dir={sys.argv[1]}",
     "--ServerApp.jpserver_extensions={'mlserve_jupyter': True}"],
    new_httpserver=False,
)
print(json.dumps(list(patterns(app.web_app.default_router))))
"""

NEVER_ANSWERED = "licenses"
"""JupyterLab's own handler of licences answers no request that it refuses."""

VALUES = {
    "kernel_id": "00000000-0000-0000-0000-000000000000",
    "session_id": "00000000-0000-0000-0000-000000000000",
    "path": "/x.txt",
}


def paths_of_jupyter(server: LiveServer) -> list[str]:
    """Return a path of each rule of Jupyter's that is not ours."""
    done = subprocess.run(
        [sys.executable, "-c", LIST_RULES, str(server.root_dir)],
        env={**server.env, "JUPYTER_RUNTIME_DIR": str(server.root_dir)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    patterns = json.loads(done.stdout.splitlines()[-1])
    others = [each for each in patterns if "mlserve" not in each and NEVER_ANSWERED not in each]
    paths = sorted({example_of(pattern) for pattern in others})
    expected = ("api/kernels", "api/contents", "api/sessions", "api/terminals", "api/me", "files/")
    for part in expected:
        assert any(path.startswith(f"/{part}") for path in paths), part
    return paths


def example_of(pattern: str) -> str:
    """Return a path that a rule matches."""
    pattern = pattern.removeprefix("^").removesuffix("$").replace("/?", "")
    while group := re.search(r"\((\?P<(\w+)>)?([^()]*(?:\([^()]*\)[^()]*)*)\)[*+?]?", pattern):
        name, body = group[2], group[3].removeprefix("?:")
        value = VALUES.get(name or "", "")
        if not value:
            value = body.split("|")[0] if re.fullmatch(r"[\w/|-]+", body) else "x"
            value = f"/{value.lstrip('/')}" if body.startswith(("/", "(?:/")) else value
        pattern = pattern[: group.start()] + value + pattern[group.end() :]
    pattern = re.sub(r"\\(.)", r"\1", re.sub(r"\[[^]]*\][*+?]?", "x", pattern))
    return "/" + re.sub(r"\.[*+]", "x", pattern).lstrip("/")


def new_key(server: LiveServer) -> str:
    scopes = ["predict", "read", "deploy", "admin"]
    wanted = {"name": f"key-{uuid.uuid4().hex[:12]}", "scopes": scopes}
    return str(server.request("POST", "api/v1/api-keys", json=wanted).json()["key"])


@pytest.mark.slow
def test_row_01_no_key_of_ours_opens_any_rule_of_jupyters(own_server: LiveServer) -> None:
    key = new_key(own_server)
    credentials = (
        {"X-MLServe-Key": own_server.key},
        {"X-MLServe-Key": key},
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"token {key}"},
    )
    root = own_server.jupyter_url.rstrip("/")
    n_closed = 0
    with httpx.Client(verify=NO_TLS, timeout=60) as client:

        def seen(method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str | None]:
            client.cookies.clear()
            response = client.request(method, root + path, headers=headers)
            return response.status_code, response.headers.get("Location")

        for path, method in itertools.product(paths_of_jupyter(own_server), ("GET", "POST")):
            anonymous = seen(method, path, {})
            n_closed += anonymous[0] in (302, 403)
            for headers in credentials:
                assert seen(method, path, headers) == anonymous, (method, path, headers)
    assert n_closed > 50


@pytest.mark.slow
def test_row_01_no_key_of_ours_opens_a_websocket_of_jupyters(live_server: LiveServer) -> None:
    as_owner = {"Authorization": f"token {live_server.token}"}
    root = live_server.jupyter_url
    kernel = httpx.post(root + "api/kernels", headers=as_owner, timeout=60).json()["id"]
    terminal = httpx.post(root + "api/terminals", headers=as_owner, timeout=60).json()["name"]
    paths = (
        f"api/kernels/{kernel}/channels",
        f"terminals/websocket/{terminal}",
        "api/events/subscribe",
    )
    for path in paths:
        assert upgrade(root + path, as_owner) == 101
        anonymous = upgrade(root + path, {})
        assert anonymous in (302, 403)
        for key in (live_server.key, new_key(live_server)):
            for header in ({"X-MLServe-Key": key}, {"Authorization": f"Bearer {key}"}):
                assert upgrade(root + path, header) == anonymous
    for path in paths[:2]:
        stopped = path.replace("/channels", "").replace("terminals/websocket", "api/terminals")
        httpx.delete(root + stopped, headers=as_owner, timeout=60)


def upgrade(url: str, headers: Mapping[str, str]) -> int:
    """Return the status with which a WebSocket is opened, or not."""
    place = urlsplit(url)
    lines = [
        f"GET {place.path} HTTP/1.1", f"Host: {place.netloc}", "Connection: Upgrade",
        "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]  # fmt: skip
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return int(connection.recv(4096).split()[1])


WRITES = [
    (method, re.sub(r"\([^)]*\)", "1", pattern).removeprefix("mlserve/").replace("\\", ""))
    for pattern, resource in ROUTES
    for method in ("POST", "PUT", "PATCH", "DELETE")
    if (policy := policy_of(getattr(resource, method.lower(), None))) and not policy.is_public
]


@pytest.mark.parametrize(("method", "path"), WRITES, ids=[" ".join(each) for each in WRITES])
def test_row_02_a_cookie_without_its_xsrf_token_changes_nothing(
    live_server: LiveServer, method: str, path: str
) -> None:
    with httpx.Client(verify=NO_TLS, timeout=60) as client:
        client.get(live_server.jupyter_url + "lab?token=" + live_server.token)
        xsrf = {"X-XSRFToken": client.cookies["_xsrf"]}
        url = live_server.url + path
        assert client.request(method, url, content=b"{}").status_code == 403
        for header in ({"X-XSRFToken": "guessed"}, {**xsrf, "Origin": "https://elsewhere.example"}):
            assert client.request(method, url, content=b"{}", headers=header).status_code in (
                403,
                404,
            )
        bad = {**xsrf, "X-MLServe-Key": "mls_000000000000_00_00000000"}
        assert client.request(method, url, content=b"{}", headers=bad).status_code == 401


def test_row_03_a_key_is_judged_alone_whatever_token_comes_in_the_query_or_the_form(
    live_server: LiveServer,
) -> None:
    wanted = {"name": f"key-{uuid.uuid4().hex[:12]}", "scopes": ["predict"]}
    key = live_server.request("POST", "api/v1/api-keys", json=wanted).json()["key"]
    token = live_server.token
    with httpx.Client(verify=NO_TLS, timeout=60, headers={"X-MLServe-Key": key}) as client:
        for path in ("api/v1/models", "api/v1/environments"):
            for response in (
                client.get(live_server.url + path, params={"token": token}),
                client.post(live_server.url + path, params={"token": token}, data={"token": token}),
                client.post(live_server.url + path, data={"token": token, "_xsrf": "x"}),
            ):
                assert response.status_code in (403, 405), response.text
                if response.status_code == 403:
                    assert "has not the scope" in response.json()["message"]
                assert "Set-Cookie" not in response.headers
        assert not client.cookies


def test_row_03_a_bad_key_beside_jupyters_token_is_401(live_server: LiveServer) -> None:
    for headers in ({"X-MLServe-Key": "x"}, {"Authorization": "Bearer mls_x"}):
        response = httpx.get(
            live_server.url + "api/v1/models",
            params={"token": live_server.token},
            headers=headers,
            verify=NO_TLS,
        )
        assert response.status_code == 401
        assert "Set-Cookie" not in response.headers


def test_row_04_credentials_of_two_kinds_are_401(live_server: LiveServer) -> None:
    key, token = live_server.key, live_server.token
    for headers in (
        [("X-MLServe-Key", f"{key}, {key}")],
        [("X-MLServe-Key", key), ("X-MLServe-Key", key)],
        [("Authorization", f"Bearer {key}, token {token}")],
        [("X-MLServe-Key", key), ("Authorization", "Bearer mls_x")],
    ):
        response = httpx.get(live_server.url + "api/v1/models", headers=headers, verify=NO_TLS)
        assert response.status_code == 401, headers
    beside = [("X-MLServe-Key", key), ("Authorization", f"token {token}")]
    response = httpx.get(live_server.url + "api/v1/models", headers=beside, verify=NO_TLS)
    assert response.status_code == 200  # Jupyter's own is not looked at
