"""Every route, method and kind of caller, held against ``matrix.txt``, which a person can read.

A route that the table lacks fails the tests, and so does a row without a route.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mlserve_jupyter.server.routes import ROUTES
from tests.access.world import Example, World, at

pytestmark = pytest.mark.slow

TABLE = Path(__file__).parent / "matrix.txt"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
EMBEDDED_ONLY = ("jupyter", "cookie", "xsrf", "kernel")
STANDALONE_ONLY = ("host",)
SHA256 = "ab" * 32


def new_key_path(world: World) -> str:
    return f"api/v1/api-keys/{world.new_key('user')['id']}"


def new_invitation_path(world: World) -> str:
    made = world.call("admin", "POST", "api/v1/invitations", json={})
    return f"api/v1/invitations/{made.json()['id']}"


EXAMPLES: dict[str, Example] = {
    "POST api/v1/predict/{model}": at("api/v1/predict/{iris}", json={"instances": [[1.0]]}),
    "GET api/v1/models": at("api/v1/models"),
    # What is not a deploy is 415 for whoever may deploy.
    "POST api/v1/models": at("api/v1/models", json={}),
    "GET api/v1/models/{model}": at("api/v1/models/{iris}"),
    "PATCH api/v1/models/{model}": at("api/v1/models/{iris}", json={"description": "a sum"}),
    # A model with active versions is 409 for whoever may delete it.
    "DELETE api/v1/models/{model}": at("api/v1/models/{iris}"),
    "GET api/v1/models/{model}/versions": at("api/v1/models/{iris}/versions"),
    "GET api/v1/models/{model}/versions/{version}": at("api/v1/models/{iris}/versions/1"),
    "PATCH api/v1/models/{model}/versions/{version}": at(
        "api/v1/models/{iris}/versions/1", json={"note": "a note"}
    ),
    "GET api/v1/models/{model}/versions/{version}/artifact": at(
        "api/v1/models/{iris}/versions/1/artifact"
    ),
    "GET api/v1/models/{model}/openapi.json": at("api/v1/models/{iris}/openapi.json"),
    "GET api/v1/analytics/summary": at("api/v1/analytics/summary"),
    "GET api/v1/analytics/usage": at("api/v1/analytics/usage"),
    "GET api/v1/analytics/models/{model}/summary": at("api/v1/analytics/models/{iris}/summary"),
    "GET api/v1/analytics/models/{model}/timeseries": at(
        "api/v1/analytics/models/{iris}/timeseries"
    ),
    "GET api/v1/analytics/models/{model}/compare": at(
        "api/v1/analytics/models/{iris}/compare?a=1&b=1"
    ),
    "GET api/v1/analytics/models/{model}/predictions": at(
        "api/v1/analytics/models/{iris}/predictions"
    ),
    "GET api/v1/analytics/models/{model}/drift": at("api/v1/analytics/models/{iris}/drift"),
    "GET api/v1/analytics/models/{model}/quality": at("api/v1/analytics/models/{iris}/quality"),
    "POST api/v1/predictions/{request_id}/label": at(
        "api/v1/predictions/r1/label", json={"model": "user~iris", "labels": [0]}
    ),
    "POST api/v1/labels": at(
        "api/v1/labels",
        json={"model": "user~iris", "calls": [{"request_id": "r1", "labels": [0]}]},
    ),
    "GET api/v1/alerts": at("api/v1/alerts"),
    "POST api/v1/alerts/test": at("api/v1/alerts/test"),
    "GET api/v1/models/{model}/alert-limits": at("api/v1/models/{iris}/alert-limits"),
    "PATCH api/v1/models/{model}/alert-limits": at(
        "api/v1/models/{iris}/alert-limits", json={"p95_ms": 200}
    ),
    "GET api/v1/artifact-approvals": at("api/v1/artifact-approvals"),
    # Nothing is approved under this digest: 404 for whoever may look.
    "GET api/v1/artifact-approvals/{sha256}": at(f"api/v1/artifact-approvals/{'cd' * 32}"),
    "PUT api/v1/artifact-approvals/{sha256}": at(f"api/v1/artifact-approvals/{SHA256}", json={}),
    "DELETE api/v1/artifact-approvals/{sha256}": at(f"api/v1/artifact-approvals/{'cd' * 32}"),
    "GET api/v1/users": at("api/v1/users"),
    "PATCH api/v1/users/{user}": Example(
        lambda world: f"api/v1/users/{world.ids['other']}", {"json": {}}
    ),
    "GET api/v1/audit": at("api/v1/audit"),
    "POST api/v1/environments": at("api/v1/environments", json={}),
    "GET api/v1/api-keys": at("api/v1/api-keys"),
    "POST api/v1/api-keys": at("api/v1/api-keys", json={}),
    "DELETE api/v1/api-keys/{key}": Example(new_key_path),
    # Bodies that lack everything are 400 for whoever may send one.
    "POST api/v1/auth/register": at("api/v1/auth/register", json={}),
    "POST api/v1/auth/login": at("api/v1/auth/login", json={}),
    "POST api/v1/auth/refresh": at("api/v1/auth/refresh", json={}),
    "POST api/v1/auth/logout": at("api/v1/auth/logout"),
    "POST api/v1/auth/session": at("api/v1/auth/session"),
    "GET api/v1/auth/me": at("api/v1/auth/me"),
    "PATCH api/v1/auth/me": at("api/v1/auth/me", json={}),
    "GET api/v1/invitations": at("api/v1/invitations"),
    "POST api/v1/invitations": at("api/v1/invitations", json={"role": "nobody"}),
    "DELETE api/v1/invitations/{invitation}": Example(new_invitation_path),
    "GET health/live": at("health/live"),
    "GET health/ready": at("health/ready"),
    "GET metrics": at("metrics"),
    "GET openapi.json": at("openapi.json"),
    "GET docs": at("docs"),
}
"""One request for each row."""


def read_table() -> tuple[list[str], dict[str, list[str]]]:
    """Return the callers, and each row's statuses."""
    lines = [
        line.split()
        for line in TABLE.read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    callers = lines[0][1:]
    return callers, {f"{line[0]} {line[1]}": line[2:] for line in lines[1:]}


def implemented() -> Iterator[str]:
    """Yield ``METHOD path`` for all that the route table has."""
    for pattern, resource in ROUTES:
        for method in METHODS:
            if hasattr(resource, method.lower()) and not pattern.endswith(".*"):
                yield f"{method} {readable(pattern)}"


def readable(pattern: str) -> str:
    """Return a route's pattern with names for its groups."""
    path = pattern.removeprefix("mlserve/").replace(r"\.", ".")
    singulars = {"predict": "model", "predictions": "request_id", "api-keys": "key"}
    for name in (*singulars, "models", "versions", "users", "invitations"):
        singular = singulars.get(name, name.removesuffix("s"))
        path = re.sub(rf"(?<=/{name}/)\([^)]*\)", "{" + singular + "}", path)
    return re.sub(r"(?<=/artifact-approvals/)\([^)]*\)", "{sha256}", path)


def ask(world: World, row: str, caller: str) -> int:
    method = row.split()[0]
    example = EXAMPLES[row]
    headers = {}
    if row.endswith("auth/logout") and caller in ("user", "other", "admin"):
        headers = dict(world.sign_in(caller))  # so that the caller of the next row is still known
    path = example.path(world)
    return world.call(caller, method, path, headers=headers, **example.options).status_code


def differences(world: World, foreign: tuple[str, ...]) -> list[str]:
    callers, rows = read_table()
    wrong = []
    for row, statuses in rows.items():
        for caller, status in zip(callers, statuses, strict=True):
            if caller not in foreign and (found := ask(world, row, caller)) != int(status):
                wrong.append(f"{row} as {caller}: {found}, and the table says {status}")
    return wrong


def test_each_route_has_its_row_and_its_request_and_no_row_lacks_a_route() -> None:
    rows = set(read_table()[1])
    assert rows == set(implemented())
    assert rows == set(EXAMPLES)


def test_row_05_each_route_answers_each_caller_as_the_table_says_embedded(embedded: World) -> None:
    assert not differences(embedded, STANDALONE_ONLY)


def test_row_05_each_route_answers_each_caller_as_the_table_says_standalone(
    standalone: World,
) -> None:
    assert not differences(standalone, EMBEDDED_ONLY)


def test_row_05_methods_that_a_route_lacks_are_refused_whoever_calls(standalone: World) -> None:
    there = set(implemented())
    for row, example in EXAMPLES.items():
        path = row.split()[1]
        for method in (*METHODS, "TRACE"):
            if f"{method} {path}" in there:
                continue
            for caller in ("nobody", "user", "k-admin"):
                found = world_status(standalone, caller, method, example)
                assert found in (401, 405), (method, path, caller, found)


def world_status(world: World, caller: str, method: str, example: Example) -> int:
    return world.call(caller, method, example.path(world)).status_code


@pytest.mark.parametrize("host", ["embedded", "standalone"])
def test_a_caller_who_is_still_sending_hears_why_it_was_refused(
    host: str, request: pytest.FixtureRequest
) -> None:
    world: World = request.getfixturevalue(host)
    place = urlsplit(world.url)
    for path, body in (
        (f"api/v1/predict/{world.model}", b'{"instances": [[1.0]]}'),
        ("api/v1/models", b"x" * 60_000),
    ):
        with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
            head = f"POST {place.path}{path} HTTP/1.1\r\nHost: {place.netloc}\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
            time.sleep(0.3)  # by then a server that does not wait for the body has closed
            connection.sendall(body)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 401 ")
            # The connection is good for the next request.
            connection.sendall(
                f"GET {place.path}health/live HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode()
            )
            more = answer
            while b"HTTP/1.1 200 " not in more:
                piece = connection.recv(65536)
                assert piece, "closed"
                more += piece
