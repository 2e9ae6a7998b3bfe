"""Reading and trying the routes on the page that each host has for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.api.signature import Signature
from tests import toys
from tests.browser.docs_page import DocsPage
from tests.live import LiveServer, start_server
from tests.server.manifests import manifest_of
from tests.standalone.hosts import StandaloneServer, start_standalone

Server = LiveServer | StandaloneServer

HOSTILE = '<img src=x onerror="window.injected=true">'

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["embedded", "standalone"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server behind a ``base_url``, with a model that adds up."""
    folder = tmp_path_factory.mktemp(request.param)
    start = (
        start_server(folder, base_url="/behind/a/proxy/")
        if request.param == "embedded"
        else start_standalone(folder, "--allow-pickle=True", base_url="/behind/a/proxy/")
    )
    with start as server:
        artifact = Path(toys.write_model(toys.SumModel(), folder).path)
        inputs = replace(toys.ONE_FEATURE, example={"instances": [[1.5]]})
        manifest = manifest_of("sums", artifact, signature=Signature(inputs=inputs))
        deployed = server.request(
            "POST",
            "api/v1/models",
            files=[
                ("manifest", (None, encode_json(manifest))),
                ("artifact", ("model", artifact.read_bytes())),
            ],
        )
        assert deployed.status_code == 201, deployed.text
        yield server


@pytest.fixture
def docs(browser: Browser, server: Server) -> Iterator[DocsPage]:
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield DocsPage(page, server.url)
    context.close()


def test_a_prediction_is_tried_with_a_key_and_nothing_comes_from_elsewhere(
    docs: DocsPage, server: Server
) -> None:
    docs.open()
    docs.page.get_by_label("Credential").select_option("key")
    docs.page.locator("#secret").fill(server.key)
    predict = docs.operation("postPredict")
    predict.get_by_label("model", exact=True).fill("sums")
    predict.get_by_role("button", name="Fill in an example").click()
    body = predict.get_by_label("body", exact=True)
    expect(body).to_have_value(re.compile(r"1\.5"))

    expect(docs.send(predict)).to_have_text("200 OK")
    expect(predict.locator(".received")).to_contain_text('"predictions": [\n    1.5\n  ]')
    expect(predict.locator(".answer")).to_contain_text("curl -X POST")
    expect(predict.locator(".answer")).not_to_contain_text(server.key)

    body.fill('{"instances": [["high"]]}')
    expect(docs.send(predict)).to_have_text(re.compile("^422 "))
    expect(predict.locator(".received")).to_contain_text("signature_mismatch")

    assert docs.requested == {docs.origin}
    # The browser says of each refusal that a resource failed to load.
    assert [said for said in docs.complaints if "422" not in said] == []
    stored = docs.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")
    assert stored[:2] == [0, 0]
    assert server.key not in stored[2]


def test_every_route_opens_with_its_form(docs: DocsPage, server: Server) -> None:
    docs.open()
    operations = docs.page.locator("details.operation")
    document = server.request("GET", "openapi.json").json()
    methods = [m for item in document["paths"].values() for m in item.keys() - {"parameters"}]
    expect(operations).to_have_count(len(methods))
    for operation in operations.all():
        operation.locator("summary").click()
        expect(operation.get_by_role("button", name="Send")).to_be_visible()
    assert docs.complaints == []


def test_what_a_server_says_is_inert_text(docs: DocsPage, server: Server) -> None:
    docs.open()
    docs.page.locator("#secret").fill(server.key)
    describe = docs.operation("getModel")
    describe.get_by_label("model", exact=True).fill(HOSTILE)
    expect(docs.send(describe)).to_have_text(re.compile("^404 "))
    expect(describe.locator(".received")).to_contain_text("<img src=x")
    assert docs.page.locator("img").count() == 0
    assert docs.page.evaluate("window.injected") is None


def test_a_page_without_a_key_is_refused_what_is_not_open(docs: DocsPage) -> None:
    docs.open()
    listed = docs.operation("getModels")
    expect(docs.send(listed)).to_have_text(re.compile("^401 "))
    live = docs.operation("getLive")
    expect(docs.send(live)).to_have_text("200 OK")


@pytest.mark.parametrize("server", ["embedded"], indirect=True)
def test_who_is_signed_in_to_jupyter_needs_no_key(docs: DocsPage, server: LiveServer) -> None:
    docs.page.goto(f"{server.jupyter_url}lab?token={server.token}")
    docs.open()
    change = docs.operation("patchModel")
    change.get_by_label("model", exact=True).fill("sums")
    change.get_by_label("body", exact=True).fill('{"description": "adds up"}')
    expect(docs.send(change)).to_have_text("200 OK")
    expect(change.locator(".received")).to_contain_text("adds up")
