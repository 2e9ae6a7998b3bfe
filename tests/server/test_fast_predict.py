"""The short way of a prediction: nobody can tell it from the ordinary one."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sqlalchemy import event
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest

from mlserve_jupyter.accounts.keys import make_key
from mlserve_jupyter.accounts.principal import Principal
from mlserve_jupyter.analytics.prediction_record import PredictionRecord
from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.errors import Overloaded
from mlserve_jupyter.platform import Platform
from mlserve_jupyter.server.fast_predict import FastPredict
from mlserve_jupyter.server.standalone.access_log import AccessLog
from mlserve_jupyter.server.standalone.handler import make_application
from mlserve_jupyter.server.standalone.hosts import HostNames
from mlserve_jupyter.settings import Settings
from tests import toys
from tests.live import NO_TLS, LiveServer, free_port, start_server
from tests.server.manifests import manifest_of, sample_of
from tests.standalone.hosts import StandaloneServer, start_standalone
from tests.waiting import wait_for

Server = LiveServer | StandaloneServer

ROW = b'{"instances": [[5.1, 3.5, 1.4, 0.2]]}'
JSON = {"Content-Type": "application/json"}
ORDINARY = {"Upgrade": "h2c"}
"""Sends a request the ordinary way, which has no use for it."""

REQUESTS: dict[str, tuple[str, str, dict[str, str], bytes]] = {
    "a row": ("POST", "iris", JSON, ROW),
    "no content type": ("POST", "iris", {}, ROW),
    "two rows by name": (
        "POST",
        "iris",
        JSON,
        b'{"dataframe_records": [{"x0": 1, "x1": 2, "x2": 3, "x3": 4}, '
        b'{"x3": 1, "x2": 2, "x1": 3, "x0": 4}]}',
    ),
    "CSV": ("POST", "iris", {"Content-Type": "text/csv"}, b"x0,x1,x2,x3\n1,2,3,4\n"),
    "a version": ("POST", "iris?version=1", JSON, ROW),
    "a method": ("POST", "iris?method=predict_proba", JSON, ROW),
    "a bearer": (
        "POST",
        "iris",
        {**JSON, "X-MLServe-Key": "", "Authorization": "Bearer {key}"},
        ROW,
    ),
    "an encoded name": ("POST", "%69ris", JSON, ROW),
    "keep-alive": ("POST", "iris", {**JSON, "Connection": "keep-alive"}, ROW),
    "no model of that name": ("POST", "iriss", JSON, ROW),
    "no version of that number": ("POST", "iris?version=7", JSON, ROW),
    "no method of that name": ("POST", "iris?method=fly", JSON, ROW),
    "an unknown argument": ("POST", "iris?versoin=1", JSON, ROW),
    "no JSON": ("POST", "iris", JSON, b'{"instances": [[5.1, 3.5, 1.4, 0.2'),
    "not UTF-8": ("POST", "iris", JSON, b'{"instances": [["\xff"]]}'),
    "a wrong value": ("POST", "iris", JSON, b'{"instances": [[5.1, 3.5, "x", 0.2]]}'),
    "a key twice": ("POST", "iris", JSON, b'{"instances": [[1,2,3,4]], "instances": [[1,2,3,4]]}'),
    "half a surrogate pair": ("POST", "iris", JSON, rb'{"instances": [{"\ud800": 1}]}'),
    "no rows": ("POST", "iris", JSON, b'{"instances": []}'),
    "another media type": ("POST", "iris", {"Content-Type": "text/html"}, ROW),
    "an empty body": ("POST", "iris", JSON, b""),
    "too large a body": ("POST", "iris", JSON, b"[" + b" " * 300_000 + b"]"),
    "a wrong key": ("POST", "iris", {**JSON, "X-MLServe-Key": "mls_0_0_0"}, ROW),
    "no key": ("POST", "iris", {**JSON, "X-MLServe-Key": ""}, ROW),
    "two credentials": ("POST", "iris", {**JSON, "Authorization": "Bearer {key}"}, ROW),
    "another host": ("POST", "iris", {**JSON, "Host": "elsewhere.example"}, ROW),
    "a page's origin": ("POST", "iris", {**JSON, "Origin": "https://elsewhere.example"}, ROW),
    "GET": ("GET", "iris", {}, b""),
    "HEAD": ("HEAD", "iris", {}, b""),
    "OPTIONS": ("OPTIONS", "iris", {}, b""),
    "PUT": ("PUT", "iris", JSON, ROW),
    "more path": ("POST", "iris/more", JSON, ROW),
    "no model": ("POST", "", JSON, ROW),
}


ANSWERED = list(REQUESTS)[:9]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("embedded")
    with start_server(
        folder,
        "--MLServeApp.result_cache=off",
        "--MLServeApp.max_body_bytes=200000",
        base_url="/a/b/",
    ) as server:
        deploy_iris(server)
        yield server


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneServer]:
    folder = tmp_path_factory.mktemp("standalone")
    with start_standalone(
        folder,
        "--result-cache=off",
        "--max-body-bytes=200000",
        "--allow-pickle=True",
        f"--access-log={folder / 'access.log'}",
        base_url="/a/b/",
    ) as server:
        deploy_iris(server)
        yield server


@pytest.fixture(params=["embedded", "standalone"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def deploy_iris(server: Server) -> None:
    import mlserve_jupyter

    X, y = load_iris(return_X_y=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLSERVE_URL", server.url)
        patch.setenv("MLSERVE_KEY", server.key)
        mlserve_jupyter.deploy(LogisticRegression(max_iter=500).fit(X, y), name="iris", sample=X)


def answer_of(
    server: Server, case: str, others: dict[str, str]
) -> tuple[int, str, list[tuple[str, str]], bytes]:
    """Return an answer in whole, without what differs from one to the next of the same."""
    method, path, headers, body = REQUESTS[case]
    url = urlsplit(server.url)
    wanted = {"X-MLServe-Key": server.key, "X-Request-Id": "one-and-the-same", **headers, **others}
    connection = http.client.HTTPConnection(url.netloc, timeout=60)
    try:
        connection.request(
            method,
            f"{url.path}api/v1/predict/{path}",
            body=body,
            headers={name: value.format(key=server.key) for name, value in wanted.items() if value},
        )
        response = connection.getresponse()
        fields = [(name, value) for name, value in response.getheaders() if name != "Date"]
        return response.status, response.reason, fields, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("case", REQUESTS)
def test_the_short_way_answers_as_the_ordinary_one_does_byte_for_byte(
    server: Server, case: str
) -> None:
    ordinary = answer_of(server, case, ORDINARY)
    assert answer_of(server, case, {}) == ordinary
    assert (ordinary[0] == 200) or case not in ANSWERED, ordinary


def test_both_ways_are_logged_alike(standalone: StandaloneServer) -> None:
    for others in ({}, ORDINARY):
        for case in ("a row", "a wrong value"):
            answer_of(standalone, case, others | {"X-Request-Id": "to-be-logged"})
    page = standalone.request("GET", "api/v1/analytics/models/iris/predictions?limit=4").json()
    lines: list[Any] = []
    for item in page["items"]:
        kept = PredictionRecord.__struct_fields__
        lines.append({name: item[name] for name in kept if name in item and "ms" not in name})
        del lines[-1]["created_at"]
    assert lines[:2] == lines[2:]

    def logged() -> list[Any]:
        lines = (standalone.folder / "access.log").read_text().splitlines()
        return [json.loads(line) for line in lines if "to-be-logged" in line]

    assert wait_for(lambda: len(logged()) == 4, 30)
    found = [{name: line[name] for name in line if "ms" not in name} for line in logged()]
    assert all(line.pop("time") for line in found)
    assert found[:2] == found[2:]
    assert [line["status"] for line in found[:2]] == [200, 422]


def test_a_body_in_pieces_and_several_requests_on_one_connection_are_answered(
    server: Server,
) -> None:
    url = urlsplit(server.url)
    head = (
        f"POST {url.path}api/v1/predict/iris HTTP/1.1\r\nHost: {url.netloc}\r\n"
        f"X-MLServe-Key: {server.key}\r\nContent-Length: {len(ROW)}\r\n\r\n"
    ).encode()
    assert url.hostname is not None
    with socket.create_connection((url.hostname, url.port or 80), timeout=60) as sock:
        answers = sock.makefile("rb")
        sock.sendall((head + ROW) * 2 + head[:30])
        statuses = [read_answer(answers) for _ in range(2)]
        for piece in (head[30:], ROW[:7], ROW[7:]):
            sock.sendall(piece)
        statuses.append(read_answer(answers))
    assert statuses == [200, 200, 200]


def read_answer(answers: Any) -> int:
    """Read one answer of a connection; returns its status."""
    status = int(answers.readline().split()[1])
    length = 0
    while (line := answers.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    assert len(answers.read(length)) == length
    return status


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class InProcess:
    """A standalone server in this process, which tells the two ways apart."""

    def __init__(self, platform: Platform, url: str, key: str) -> None:
        self.platform = platform
        self.url = url
        self.key = key
        self.taken: list[bool] = []

    async def predict(self, headers: Mapping[str, str] = MappingProxyType({})) -> httpx.Response:
        async with httpx.AsyncClient(verify=NO_TLS, timeout=60) as client:
            return await client.post(
                self.url + "api/v1/predict/sum",
                json={"instances": [[1.5]]},
                headers={"X-MLServe-Key": self.key, **headers},
            )

    async def predict_short(self) -> httpx.Response:
        """Predict until it goes the short way: a caller that was just forgotten does not."""
        self.taken.clear()
        while not any(self.taken):
            response = await self.predict()
        return response


@pytest.fixture
async def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[InProcess]:
    platform = Platform(Settings(data_dir=tmp_path / "data", result_cache="on"))
    key, record = make_key()
    platform.credentials.accept(record, Principal("owner", "host", role="admin"))
    port = free_port()
    host = InProcess(platform, f"http://127.0.0.1:{port}/mlserve/", key)
    find = FastPredict.find_handler

    def noted(self: FastPredict, request: HTTPServerRequest, **kwargs: Any) -> Any:
        found = find(self, request, **kwargs)
        if "/predict/" in request.path:
            host.taken.append(found is not None)
        return found

    monkeypatch.setattr(FastPredict, "find_handler", noted)

    async def measure_all() -> Any:
        return {}

    server = HTTPServer(
        make_application(platform, "/", HostNames("127.0.0.1", ()), AccessLog("off"), measure_all)[
            0
        ]
    )
    server.listen(port, "127.0.0.1")
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    sample = sample_of([[1.5]], [1.5])
    async with httpx.AsyncClient(verify=NO_TLS, timeout=60) as client:
        response = await client.post(
            host.url + "api/v1/models",
            headers={"X-MLServe-Key": key},
            files=[
                ("manifest", (None, encode_json(manifest_of("sum", artifact, sample=sample)))),
                ("artifact", ("model", artifact.read_bytes())),
            ],
        )
    assert response.status_code == 201, response.text
    yield host
    server.stop()
    await server.close_all_connections()
    await platform.aclose()


@pytest.mark.anyio
async def test_plain_requests_with_our_key_go_the_short_way_and_no_others(
    in_process: InProcess,
) -> None:
    assert (await in_process.predict()).json()["predictions"] == [1.5]
    short = await in_process.predict_short()
    assert (short.json()["predictions"], short.json()["cached"]) == ([1.5], True)
    in_process.taken.clear()
    for headers in (
        ORDINARY,
        {"X-MLServe-Key": "mls_0_0_0"},
        {"Authorization": f"Bearer {in_process.key}"},
        {"Authorization": "token 1"},
        {"Origin": "https://elsewhere.example"},
        {"Host": "elsewhere.example"},
        {"Expect": "100-continue"},
    ):
        await in_process.predict(headers=headers)
    assert in_process.taken == [False] * 7


@pytest.mark.anyio
async def test_a_server_that_is_about_to_stop_says_so_in_its_answers(
    in_process: InProcess,
) -> None:
    assert "Connection" not in (await in_process.predict_short()).headers
    in_process.platform.begin_drain()
    assert (await in_process.predict()).headers["Connection"] == "close"
    assert not in_process.taken[-1]


@pytest.mark.anyio
async def test_what_nobody_foresaw_is_a_500_that_keeps_its_reason_to_itself(
    in_process: InProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    services = await in_process.platform.services()

    def fail(request: object) -> bytes:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(services.predictor, "start", fail)
    response = await in_process.predict_short()
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "foresaw" not in response.text
    assert "nobody foresaw this" in caplog.text


@pytest.mark.anyio
async def test_a_full_queue_refuses_alike_on_both_ways(
    in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = await in_process.platform.services()
    await in_process.predict_short()

    def refuse(request: object) -> bytes:
        raise Overloaded("Enough.", retry_after_s=3)

    async def refuse_later(request: object) -> bytes:
        return refuse(request)

    monkeypatch.setattr(services.predictor, "start", refuse)
    monkeypatch.setattr(services.predictor, "predict", refuse_later)
    same = {"X-Request-Id": "same"}
    short = await in_process.predict(same)
    assert in_process.taken[-1]
    ordinary = await in_process.predict({**same, **ORDINARY})
    assert not in_process.taken[-1]
    assert (short.status_code, short.headers["Retry-After"]) == (503, "3")
    assert (short.status_code, short.reason_phrase) == (
        ordinary.status_code,
        ordinary.reason_phrase,
    )
    assert short.content == ordinary.content
    for answer in (short, ordinary):
        answer.headers.pop("Date", None)
    assert short.headers == ordinary.headers


@pytest.mark.anyio
async def test_a_caller_who_goes_away_takes_the_call_along(
    in_process: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = await in_process.platform.services()
    await in_process.predict_short()
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait(request: object) -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
            raise
        return b""

    monkeypatch.setattr(services.predictor, "start", wait)
    calling = asyncio.create_task(in_process.predict())
    await asyncio.wait_for(begun.wait(), 30)
    calling.cancel()
    await asyncio.wait_for(ended.wait(), 30)


@pytest.mark.anyio
@pytest.mark.parametrize("headers", [{}, ORDINARY], ids=["short", "ordinary"])
async def test_a_prediction_asks_the_database_nothing(
    in_process: InProcess, headers: Mapping[str, str]
) -> None:
    services = await in_process.platform.services()
    while any(v.verification.compiled is None for v in services.catalog.current.versions()):
        await asyncio.sleep(0.01)  # what becomes of the deploy is written in the background
    await in_process.predict_short()
    asked: list[tuple[str, str]] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA", "SAVEPOINT", "RELEASE")):
            asked.append((threading.current_thread().name, statement))

    event.listen(services.engine, "before_cursor_execute", note)
    for _ in range(50):
        assert (await in_process.predict(headers)).status_code == 200
    await asyncio.to_thread(services.log.flush, 30)
    event.remove(services.engine, "before_cursor_execute", note)
    log = [text for thread, text in asked if thread == "mlserve-prediction-log"]
    assert any("INSERT INTO predictions" in text for text in log)
    # Epochs are asked for once a second, by nobody's call; so is what they make forgotten.
    others = [text for thread, text in asked if not thread.startswith("mlserve-")]
    assert len([text for text in others if "epoch" not in text]) < 5
    assert len(log) < 50
