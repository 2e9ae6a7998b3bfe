"""Attacks on the doors of either host: files, names, bodies and values."""

from __future__ import annotations

import socket
import threading
import time
from urllib.parse import quote, urlsplit

import httpx
import psutil
import pytest

from tests.access.world import World
from tests.live import NO_TLS
from tests.stores import Stores

pytestmark = pytest.mark.slow


def test_row_07_what_the_platform_keeps_cannot_be_fetched_as_a_file(
    embedded: World, stores: Stores
) -> None:
    jupyter = embedded.url.removesuffix("mlserve/")
    kept = [path for path in embedded.folder.rglob("*") if path.is_file()]
    names = {path.name for path in kept}
    settings = stores.at(embedded.folder)
    expected = {"mlserve-jwt.secret"}
    if not settings.database_url:
        expected.add("mlserve.db")
    if not settings.artifacts_url:
        expected.add("metadata.json")
    assert expected <= names
    with httpx.Client(headers=embedded.callers["jupyter"], verify=NO_TLS) as owner:
        for path in kept:
            inside = path.relative_to(embedded.folder.parent)
            for way in (str(path), f"/../{inside}", f"/..%2f{quote(str(inside), safe='')}"):
                for door in ("files", "api/contents"):
                    answer = owner.get(f"{jupyter}{door}{way}")
                    assert answer.status_code in (400, 403, 404), (door, way)


@pytest.mark.parametrize(
    "name",
    [
        "../iris", "..%2firis", "%2e%2e/iris", "%2e", "..", "iris%00", "i" * 3000, "IRIS",
        "ir\N{LATIN SMALL LETTER DOTLESS I}s", "\N{CYRILLIC SMALL LETTER I}ris", "iris%20",
        "user~../iris", "user~iris~", "~iris", "iris%0d%0aSet-Cookie:%20a=b",
    ],
)  # fmt: skip
def test_row_20_a_name_that_only_looks_like_a_models_finds_none(world: World, name: str) -> None:
    for path in (f"api/v1/models/{name}", f"api/v1/models/{name}/versions/1/artifact"):
        answer = world.call("user", "GET", path)
        assert answer.status_code in (400, 404), answer.text
        assert "Set-Cookie" not in answer.headers
    answer = world.call("user", "POST", f"api/v1/predict/{name}", json={"instances": [[1.0]]})
    assert answer.status_code in (400, 404), answer.text


def test_row_22_a_body_that_says_to_be_too_large_is_refused_before_it_comes(world: World) -> None:
    for path in (f"api/v1/predict/{world.model}", "api/v1/models", "api/v1/auth/login"):
        with connect(world) as connection:
            connection.sendall(head(world, path, f"Content-Length: {10**13}"))
            assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_row_22_chunks_without_an_end_are_cut_off_while_memory_stays_flat(world: World) -> None:
    before = psutil.Process(world.pid).memory_info().rss
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    sent = 0
    with connect(world) as connection:
        path = f"api/v1/predict/{world.model}"
        connection.sendall(head(world, path, "Transfer-Encoding: chunked"))
        try:
            while sent < 1000 * len(chunk):
                connection.sendall(chunk)
                sent += len(chunk)
        except OSError:
            pass  # it was cut off
    assert sent < 400 * len(chunk)
    assert psutil.Process(world.pid).memory_info().rss < before + 300 * 2**20
    assert world.call("nobody", "GET", "health/live").status_code == 200


def test_row_22_who_sends_slowly_keeps_nobody_else_waiting(world: World) -> None:
    path = f"api/v1/predict/{world.model}"
    slow = [connect(world) for _ in range(200)]
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.1):
            for connection in slow:
                connection.send(b" ")

    try:
        for connection in slow[:100]:
            connection.sendall(head(world, path, "Content-Length: 1000000"))
        for connection in slow[100:]:
            connection.sendall(b"POST /")
        thread = threading.Thread(target=trickle)
        thread.start()
        for _ in range(20):
            answer = world.call("user", "POST", path, json={"instances": [[1.0]]})
            assert answer.status_code == 200
            assert answer.elapsed.total_seconds() < 5
    finally:
        stop.set()
        thread.join()
        for connection in slow:
            connection.close()


def test_row_22_a_body_that_does_not_come_is_waited_for_a_minute(
    embedded: World, standalone: World
) -> None:
    waiting = [(world, connect(world)) for world in (embedded, standalone)]
    started = time.monotonic()
    for world, connection in waiting:
        connection.settimeout(120)
        path = f"api/v1/predict/{world.model}"
        connection.sendall(head(world, path, "Content-Length: 100") + b"{")
    for _, connection in waiting:
        with connection:
            assert connection.recv(65536) == b""
        assert time.monotonic() - started > 30


@pytest.mark.parametrize(
    "value",
    ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", '"1.0"', "true", "[1.0]", "{}"],
)
def test_row_23_a_value_that_is_no_number_is_named_by_row_and_column(
    world: World, value: str
) -> None:
    body = f'{{"instances": [[1.0], [{value}]]}}'
    answer = predict(world, body)
    assert answer.status_code in (400, 422), answer.text
    if answer.status_code == 422:
        assert (answer.json()["details"]["row"], "column" in answer.json()["details"]) == (1, True)


@pytest.mark.parametrize(
    "body",
    [
        '{"instances": ' + "[" * 10_000 + "]" * 10_000 + "}",
        '{"instances": [[1.0]], "instances": [[2.0]]}',
        '{"instances": [[1.0], [1.0, 2.0]]}',
        '{"instances": [[1.0], []]}',
        '{"instances": [[1.0]], "parameters": {"a": 1}}',
        '{"dataframe_records": [{"no_such_column": 1.0}]}',
        '{"instances": [[1.0]]} {"instances": [[1.0]]}',
    ],
)
def test_row_23_a_body_of_another_shape_is_refused_in_words(world: World, body: str) -> None:
    answer = predict(world, body)
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["message"]
    assert len(answer.text) < 2000


def predict(world: World, body: str) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    path = f"api/v1/predict/{world.model}"
    return world.call("user", "POST", path, content=body, headers=headers)


def connect(world: World) -> socket.socket:
    place = urlsplit(world.url)
    return socket.create_connection((place.hostname, place.port), timeout=30)


def head(world: World, path: str, line: str) -> bytes:
    """Return the head of a request of the model's owner."""
    place = urlsplit(world.url)
    sent = {
        "Host": place.netloc,
        "Content-Type": "application/json",
        **world.callers["user"],
    }
    lines = [f"POST {place.path}{path} HTTP/1.1", *(f"{k}: {v}" for k, v in sent.items()), line]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
