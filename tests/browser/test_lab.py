"""The walk of a new user through JupyterLab, from the notebook to a call from outside."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from playwright.sync_api import Route, expect

from tests.browser.lab_page import LabPage
from tests.live import LiveServer

NAME = "wine"
HOSTILE = '<img src=x onerror="window.injected=true">'

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
    models = re.compile("/mlserve/api/v1/models")
    refusal = {
        "code": "storage_unavailable",
        "message": f"The database does not answer {HOSTILE}.",
        "details": {},
        "request_id": "r",
    }

    def refuse(route: Route) -> None:
        route.fulfill(status=503, json=refusal)

    lab.page.route(models, refuse)
    lab.refresh_button.click()
    expect(lab.panel.get_by_role("alert")).to_contain_text(refusal["message"])
    assert lab.page.evaluate("window.injected") is None

    lab.page.unroute(models, refuse)
    lab.panel.get_by_role("button", name="Try again").click()
    expect(lab.panel.get_by_role("alert")).to_have_count(0)


def test_the_panel_lists_all_pages_and_says_which_models_answer_no_more(lab: LabPage) -> None:
    model = {
        "owner": "owner",
        "description": "",
        "visibility": "private",
        "shared_with": [],
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "n_versions": 2,
        "last_called_at": None,
        "n_predictions": 0,
    }

    def page_of_models(route: Route) -> None:
        is_second = "cursor=next%2Fone" in route.request.url
        name, version = ("second", None) if is_second else ("first", 2)
        item = {**model, "id": name, "name": name, "default_version": version}
        item["predict_path"] = f"/behind/a/proxy/mlserve/api/v1/predict/{name}"
        route.fulfill(json={"items": [item], "next_cursor": None if is_second else "next/one"})

    lab.page.route(re.compile("/mlserve/api/v1/models"), page_of_models)
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
    with lab.page.expect_response(re.compile("/mlserve/api/v1/models")) as answered:
        lab.page.keyboard.press("Enter")
    assert answered.value.ok


def test_the_command_palette_opens_the_panel(lab: LabPage) -> None:
    lab.open()
    lab.page.get_by_role("menuitem", name="View", exact=True).click()
    lab.page.get_by_role("menuitem", name=re.compile("^Activate Command Palette")).click()
    lab.page.locator(".lm-CommandPalette-input").fill("deployed models")
    lab.page.get_by_text("Show Deployed Models").click()
    expect(lab.panel).to_be_visible()
