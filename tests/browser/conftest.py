"""A real JupyterLab and a real Chromium."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.lab_page import LabPage
from tests.live import LiveServer, start_server

ROOT = Path(__file__).parents[2]
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
QUIET = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A running Chromium; not kept for the session, since its event loop shuts out all others."""
    found = os.environ.get("MLSERVE_CHROMIUM") or next(
        filter(None, map(shutil.which, CHROMIUM_NAMES)), None
    )
    if found is None:
        pytest.fail("No Chromium: install it, or set MLSERVE_CHROMIUM to the path of a Chrome.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(CHROMIUM_ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def lab_server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LiveServer]:
    """JupyterLab with the quickstart notebook, behind a ``base_url``, and without its news.

    A test gives it further options by parametrizing it.
    """
    settings = tmp_path / "config" / "lab" / "user-settings" / "@jupyterlab"
    notifications = settings / "apputils-extension" / "notification.jupyterlab-settings"
    notifications.parent.mkdir(parents=True)
    notifications.write_text(json.dumps(QUIET))
    (tmp_path / "root").mkdir()
    shutil.copy(ROOT / "notebooks" / "quickstart.ipynb", tmp_path / "root")
    with start_server(
        tmp_path,
        "--LabApp.news_url=None",
        *getattr(request, "param", ()),
        command=("-m", "jupyterlab"),
        base_url="/behind/a/proxy/",
    ) as server:
        yield server


@pytest.fixture
def lab(browser: Browser, lab_server: LiveServer) -> Iterator[LabPage]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield LabPage(page, lab_server.jupyter_url, lab_server.token)
    context.close()
