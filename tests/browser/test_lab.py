"""The walk of a new user through JupyterLab, from the notebook to a call from outside."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Route, expect

from mlserve_jupyter.api.manifest import encode_json
from tests import toys
from tests.browser.lab_page import LabPage
from tests.live import LiveServer
from tests.server.manifests import manifest_of

NAME = "wine"
HOSTILE = '<img src=x onerror="window.injected=true">'

MODELS = re.compile("/mlserve/api/v1/models")
ALERTS = re.compile(r"/mlserve/api/v1/alerts\?state=firing")
MODEL = {
    "id": "first",
    "name": "first",
    "owner": "owner",
    "description": "",
    "visibility": "private",
    "shared_with": [],
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
    "default_version": 2,
    "n_versions": 2,
    "last_called_at": None,
    "n_predictions": 0,
    "predict_path": "/behind/a/proxy/mlserve/api/v1/predict/first",
}

pytestmark = pytest.mark.slow


def example(server: LiveServer) -> dict[str, Any]:
    versions = server.request("GET", f"api/v1/models/{NAME}/versions").json()
    body: dict[str, Any] = versions["items"][0]["signature"]["inputs"]["example"]
    return body


def test_the_quickstart_deploys_a_model_that_the_panel_shows_and_outside_programs_call(
    lab: LabPage, lab_server: LiveServer
) -> None:
    lab.open("quickstart.ipynb")
    expect(lab.status_item).to_have_text("0 models")

    lab.run_all_cells()
    expect(lab.results.filter(has_text="/api/v1/predict/").first).to_be_visible()
    expect(lab.status_item).to_have_text("1 model")

    lab.open_panel()
    card = lab.card(NAME)
    url = f"{lab_server.url}api/v1/predict/{NAME}"
    expect(card.locator(".jp-mlserve-version")).to_have_text("v2")
    expect(card.locator(".jp-mlserve-url")).to_have_text(url)

    before = lab_server.request("GET", f"api/v1/models/{NAME}").json()
    answer = httpx.post(
        url, json=example(lab_server), headers={"Authorization": f"token {lab_server.token}"}
    )
    assert answer.status_code == 200
    calls = before["n_predictions"] + 1
    expect(card.locator(".jp-mlserve-calls")).to_have_text(
        "1 call" if calls == 1 else f"{calls} calls"
    )
    expect(card.locator("time")).to_have_text(re.compile("^last call (now|.* ago)$"))
    assert card.locator("time").get_attribute("datetime") != before["last_called_at"]


def test_row_06_the_description_of_a_model_is_inert_text(
    lab: LabPage, lab_server: LiveServer
) -> None:
    lab.open("quickstart.ipynb")
    lab.run_all_cells()
    changed = lab_server.request("PATCH", f"api/v1/models/{NAME}", json={"description": HOSTILE})
    assert changed.status_code == 200
    lab.open_panel()
    expect(lab.card(NAME).locator(".jp-mlserve-description")).to_have_text(HOSTILE)
    assert lab.panel.locator("img").count() == 0
    assert lab.page.evaluate("window.injected") is None


def test_without_a_model_the_panel_says_how_to_deploy_one(lab: LabPage) -> None:
    lab.open()
    lab.open_panel()
    expect(lab.panel).to_contain_text("%mlserve deploy clf")


def test_the_panel_shows_the_servers_own_message_and_recovers_on_retry(lab: LabPage) -> None:
    lab.open()
    lab.open_panel()
    refusal = {
        "code": "storage_unavailable",
        "message": f"The database does not answer {HOSTILE}.",
        "details": {},
        "request_id": "r",
    }

    def refuse(route: Route) -> None:
        route.fulfill(status=503, json=refusal)

    lab.page.route(MODELS, refuse)
    lab.refresh_button.click()
    expect(lab.panel.get_by_role("alert")).to_contain_text(refusal["message"])
    assert lab.page.evaluate("window.injected") is None

    lab.page.unroute(MODELS, refuse)
    lab.panel.get_by_role("button", name="Try again").click()
    expect(lab.panel.get_by_role("alert")).to_have_count(0)


def test_the_panel_lists_all_pages_and_says_which_models_answer_no_more(lab: LabPage) -> None:
    def page_of_models(route: Route) -> None:
        is_second = "cursor=next%2Fone" in route.request.url
        name, version = ("second", None) if is_second else ("first", 2)
        item = {**MODEL, "id": name, "name": name, "default_version": version}
        item["predict_path"] = f"/behind/a/proxy/mlserve/api/v1/predict/{name}"
        route.fulfill(json={"items": [item], "next_cursor": None if is_second else "next/one"})

    lab.page.route(MODELS, page_of_models)
    lab.open()
    expect(lab.status_item).to_have_text("2 models")
    lab.open_panel()
    expect(lab.card("first").locator(".jp-mlserve-version")).to_have_text("v2")
    expect(lab.card("second").locator(".jp-mlserve-version")).to_have_text("archived")


def test_the_panel_is_reached_and_used_by_keyboard_alone(lab: LabPage) -> None:
    lab.open()
    lab.status_item.focus()
    lab.page.keyboard.press("Enter")
    expect(lab.panel).to_be_visible()
    expect(lab.refresh_button).to_have_attribute("aria-busy", "false")
    lab.refresh_button.focus()
    with lab.page.expect_response(MODELS) as answered:
        lab.page.keyboard.press("Enter")
    assert answered.value.ok


def test_the_command_palette_opens_the_panel(lab: LabPage) -> None:
    lab.open()
    lab.page.get_by_role("menuitem", name="View", exact=True).click()
    lab.page.get_by_role("menuitem", name=re.compile("^Activate Command Palette")).click()
    lab.page.locator(".lm-CommandPalette-input").fill("deployed models")
    lab.page.get_by_text("Show Deployed Models").click()
    expect(lab.panel).to_be_visible()


@pytest.mark.parametrize("lab_server", [["--MLServeApp.alert_every_s=0.3"]], indirect=True)
def test_an_alert_is_shown_while_it_fires(
    lab: LabPage, lab_server: LiveServer, tmp_path: Path
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    parts = [
        ("manifest", (None, encode_json(manifest_of("sums", artifact)))),
        ("artifact", ("model", artifact.read_bytes())),
    ]
    assert lab_server.request("POST", "api/v1/models", files=parts).status_code == 201
    lab.open()
    expect(lab.status_item).to_have_text("1 model")

    limits = "api/v1/models/sums/alert-limits"
    assert lab_server.request("PATCH", limits, json={"p95_ms": 0.0001}).status_code == 200
    for _ in range(25):
        lab_server.request("POST", "api/v1/predict/sums", json={"instances": [[1]]})
    expect(lab.status_item).to_have_text("1 model · 1 alert")
    expect(lab.status_item).to_have_accessible_name("1 deployed model, 1 alert")

    lab.open_panel()
    expect(lab.panel.get_by_role("status")).to_have_text("1 alert")
    [told] = lab_server.request("GET", "api/v1/alerts?state=firing").json()["items"]
    expect(lab.alerts).to_have_count(1)
    expect(lab.alerts).to_contain_text("owner~sums")
    expect(lab.alerts).to_contain_text("over limit")
    expect(lab.alerts).to_contain_text(told["text"])
    assert lab.alerts.locator("time").get_attribute("datetime") == told["began_at"]
    above, below = lab.alerts.bounding_box(), lab.card("sums").bounding_box()
    assert above is not None
    assert below is not None
    assert above["y"] < below["y"]

    assert lab_server.request("PATCH", limits, json={"p95_ms": 1e6}).status_code == 200
    expect(lab.alerts).to_have_count(0)
    expect(lab.status_item).to_have_text("1 model")
    expect(lab.card("sums")).to_be_visible()


def test_alerts_are_inert_text_and_tell_those_over_their_limit_from_the_others(
    lab: LabPage,
) -> None:
    alert = {
        "title": HOSTILE,
        "text": f"The error rate of {HOSTILE} is 27.5%.",
        "limit": 0.05,
        "began_at": "2026-01-01T00:00:00Z",
    }
    items = [{**alert, "id": "a", "value": 0.275}, {**alert, "id": "b", "value": 0.05}]
    lab.page.route(ALERTS, lambda route: route.fulfill(json={"items": items, "next_cursor": None}))
    lab.open()
    expect(lab.status_item).to_have_text("0 models · 2 alerts")
    lab.open_panel()
    expect(lab.alerts.first).to_contain_text("over limit")
    expect(lab.alerts.last).to_contain_text("easing")
    expect(lab.alerts.first).to_contain_text(alert["text"])
    assert lab.panel.locator("img").count() == 0
    assert lab.page.evaluate("window.injected") is None


def test_a_server_that_tells_of_no_alerts_has_its_models_shown(lab: LabPage) -> None:
    failure = lab.panel.get_by_text("The alerts could not be read")
    refusal = {"code": "internal_error", "message": f"No {HOSTILE}.", "request_id": "r"}
    lab.page.route(
        MODELS, lambda route: route.fulfill(json={"items": [MODEL], "next_cursor": None})
    )
    lab.page.route(ALERTS, lambda route: route.fulfill(status=404, body="<h1>Not Found</h1>"))
    lab.open()
    lab.open_panel()
    expect(lab.card("first")).to_be_visible()
    expect(failure).to_have_count(0)

    lab.page.route(ALERTS, lambda route: route.fulfill(status=500, json=refusal))
    lab.refresh_button.click()
    expect(failure).to_contain_text(refusal["message"])
    expect(lab.card("first")).to_be_visible()
    expect(lab.status_item).to_have_text("1 model")
    assert lab.page.evaluate("window.injected") is None

    lab.page.route(ALERTS, lambda route: route.abort())
    lab.refresh_button.click()
    expect(failure).to_contain_text("The Jupyter server does not answer.")
    expect(lab.panel.get_by_role("alert")).to_have_count(0)
    lab.page.unroute(ALERTS)
    lab.refresh_button.click()
    expect(failure).to_have_count(0)
