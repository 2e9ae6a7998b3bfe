"""The dashboard in JupyterLab, as a person sees it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import nbformat
import nbformat.v4
import pytest
from playwright.sync_api import Locator, expect

from tests.browser.lab_page import LabPage
from tests.live import LiveServer

NOTEBOOK = "dashboard.ipynb"
FIT = """
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

X, y = load_wine(as_frame=True, return_X_y=True)
wine = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
"""
DEPLOY = "%load_ext mlserve_jupyter\n%mlserve deploy wine"
DARK = re.compile(r"rgb\([1-4]?\d, [1-4]?\d, [1-4]?\d\)")
SHOW = "%mlserve dashboard wine --every 1"
HOSTILE = '<img src=x onerror="window.injected=true">'
# The server takes no such name, so this is what a dashboard would be told by a hostile one.
HOSTILE_PAGE = f"""
from dataclasses import replace
board = Out[3]
board.pause()
shown = board.page
board._page = replace(shown, view=replace(shown.view, model={HOSTILE!r}), server_url={HOSTILE!r})
board._board.show(board._page)
board._board.show_trouble({HOSTILE!r})
"""

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def notebook(lab_server: LiveServer) -> Path:
    """Write a notebook that deploys a model and shows its dashboard."""
    cells = [nbformat.v4.new_code_cell(source) for source in (FIT, DEPLOY, SHOW, "1 + 1")]
    path = lab_server.root_dir / NOTEBOOK
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


@pytest.fixture
def requested(lab: LabPage) -> set[str]:
    """Collect where the page goes for what it shows."""
    hosts: set[str] = set()
    lab.page.on("request", lambda request: hosts.add(httpx.URL(request.url).host))
    return hosts


def call(server: LiveServer, times: int, headers: dict[str, str] | None = None) -> None:
    versions = server.request("GET", "api/v1/models/wine/versions").json()
    body = versions["items"][0]["signature"]["inputs"]["example"]
    for _ in range(times):
        if headers is None:
            answer = server.request("POST", "api/v1/predict/wine", json=body)
        else:
            answer = httpx.post(f"{server.url}api/v1/predict/wine", json=body, headers=headers)
        assert answer.status_code == 200, answer.text


def tile(dashboard: Locator, label: str) -> Locator:
    return dashboard.locator(".jp-mlserve-dash-tile").filter(has_text=label)


def test_it_shows_calls_from_outside_by_itself_and_draws_without_a_network(
    lab: LabPage, lab_server: LiveServer, requested: set[str]
) -> None:
    lab.open(NOTEBOOK)
    lab.run_all_cells()
    expect(lab.dashboard).to_be_visible()
    expect(lab.picture).to_be_hidden()
    expect(tile(lab.dashboard, "Requests")).to_contain_text("0 in 1 h")

    call(lab_server, 12)
    expect(tile(lab.dashboard, "Requests")).to_contain_text("12 in 1 h")
    expect(tile(lab.dashboard, "Cache hits")).to_contain_text("%")
    expect(lab.dashboard.get_by_text("Latest calls")).to_be_visible()
    charts = lab.dashboard.locator(
        ".jp-mlserve-dash-stack > :not(.jp-mlserve-dash-behind) svg.marks"
    )
    expect(charts).to_have_count(3)
    for chart in charts.all():
        box, card = chart.bounding_box(), chart.locator("xpath=ancestor::*[5]").bounding_box()
        assert box is not None
        assert card is not None
        assert box["width"] > 200
        assert box["height"] > 150

    lab.run_cell(3)  # the kernel is free
    lab.dashboard.get_by_role("button", name="24 h").click()
    expect(tile(lab.dashboard, "Requests")).to_contain_text("12 in 24 h")
    assert requested == {"127.0.0.1"}


def test_a_saved_notebook_shows_the_picture_where_its_kernel_is_gone(
    lab: LabPage, lab_server: LiveServer
) -> None:
    lab.open(NOTEBOOK)
    lab.run_all_cells()
    expect(lab.dashboard).to_be_visible()
    lab.save()
    headers = {"Authorization": f"token {lab_server.token}"}
    with httpx.Client(base_url=lab_server.jupyter_url, headers=headers) as jupyter:
        for session in jupyter.get("api/sessions").json():
            jupyter.delete(f"api/sessions/{session['id']}")
    lab.page.goto("about:blank")
    lab.open(NOTEBOOK)
    expect(lab.picture).to_be_visible()
    expect(lab.picture).to_contain_text("version 1 answers")
    expect(lab.picture.locator("svg[role=img]")).to_have_count(3)
    expect(lab.page.get_by_text("Error displaying widget")).to_be_hidden()


def test_closed_it_is_a_picture(lab: LabPage) -> None:
    lab.open(NOTEBOOK)
    lab.run_all_cells()
    lab.dashboard.get_by_title("Close the dashboard").click()
    expect(lab.dashboard).to_have_count(0)
    expect(lab.picture).to_be_visible()
    assert lab.errors.count() == 0


def test_a_cleared_output_ends_its_refreshing(lab: LabPage) -> None:
    lab.open(NOTEBOOK)
    lab.run_all_cells()
    expect(lab.dashboard).to_be_visible()
    output = write_last_cell(lab, "Out[3]._attention.is_given")
    lab.run_cell(3)
    expect(output).to_have_text("True")
    lab.page.locator(".jp-CodeCell").nth(2).locator(".cm-content").click()
    lab.page.get_by_role("menuitem", name="Edit", exact=True).click()
    lab.page.get_by_role("menuitem", name="Clear Cell Output").click()
    expect(lab.dashboard).to_have_count(0)
    for _ in range(40):
        lab.run_cell(3)
        lab.page.wait_for_timeout(500)
        if output.inner_text() == "False":
            return
    expect(output).to_have_text("False")


def test_hostile_names_are_inert_text(lab: LabPage) -> None:
    lab.open(NOTEBOOK)
    lab.run_all_cells()
    expect(lab.dashboard).to_be_visible()
    write_last_cell(lab, HOSTILE_PAGE)
    lab.run_cell(3)
    expect(lab.dashboard.locator(".jp-mlserve-dash-title")).to_contain_text(HOSTILE)
    expect(lab.dashboard.get_by_role("alert")).to_have_text(HOSTILE)
    lab.dashboard.get_by_title("Close the dashboard").click()
    expect(lab.picture).to_contain_text(HOSTILE)
    assert lab.page.locator(".jp-Notebook img").count() == 0
    assert lab.page.evaluate("window.injected") is None


def write_last_cell(lab: LabPage, source: str) -> Locator:
    """Write into the last cell, and return where its output is."""
    cell = lab.page.locator(".jp-CodeCell").nth(3)
    cell.locator(".cm-content").click()
    lab.page.keyboard.press("Control+a")
    lab.page.keyboard.insert_text(source)
    return cell.locator(".jp-OutputArea-output")


def test_it_has_the_colours_of_the_theme(lab: LabPage, lab_server: LiveServer) -> None:
    settings = lab_server.root_dir.parent / "config" / "lab" / "user-settings" / "@jupyterlab"
    themes = settings / "apputils-extension" / "themes.jupyterlab-settings"
    themes.write_text(json.dumps({"theme": "JupyterLab Dark"}))
    lab.open(NOTEBOOK)
    lab.run_all_cells()
    value = tile(lab.dashboard, "Requests").locator("b")
    expect(value).to_have_css("color", re.compile(r"rgba?\(255, 255, 255"))
    expect(tile(lab.dashboard, "Requests")).to_have_css("background-color", DARK)
