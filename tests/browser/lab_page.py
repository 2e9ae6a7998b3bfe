"""JupyterLab in a real browser, as the tests see it: what a person does, and what is shown."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, Page, expect

SHOWN_TIMEOUT_MS = 20_000
START_TIMEOUT_MS = 60_000
CELL_TIMEOUT_MS = 120_000


class LabPage:
    """One JupyterLab page.

    Parameters
    ----------
    page
        The browser's page.
    url
        Of the Jupyter server, with a trailing slash.
    token
        Jupyter's token.
    """

    def __init__(self, page: Page, url: str, token: str) -> None:
        expect.set_options(timeout=SHOWN_TIMEOUT_MS)
        self.page = page
        self._url = url
        self._token = token

    def open(self, notebook: str | None = None) -> None:
        """Open JupyterLab, with a notebook if one is named, and wait until it is usable."""
        path = "lab" if notebook is None else f"lab/tree/{notebook}"
        self.page.goto(f"{self._url}{path}?token={self._token}", timeout=START_TIMEOUT_MS)
        expect(self.status_item).to_be_visible(timeout=START_TIMEOUT_MS)
        if notebook is not None:
            expect(self.cells.first).to_be_visible(timeout=START_TIMEOUT_MS)
            kernel = self.page.locator("#jp-bottom-panel").get_by_text(re.compile(r"\| Idle$"))
            expect(kernel).to_be_visible(timeout=START_TIMEOUT_MS)

    def run_all_cells(self) -> None:
        """Run the notebook by the menu, and wait until its last cell has run, or one has failed."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name=re.compile("^Run All Cells")).click()
        last = self.page.locator(".jp-CodeCell").last.locator(".jp-InputPrompt")
        has_run = last.filter(has_text=re.compile(r"\[\d+\]:"))
        expect(has_run.or_(self.errors).first).to_be_visible(timeout=CELL_TIMEOUT_MS)
        assert self.errors.all_inner_texts() == []

    def run_cell(self, number: int) -> None:
        """Run one cell by the keyboard, and wait until it has run."""
        cell = self.page.locator(".jp-CodeCell").nth(number)
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")
        prompt = cell.locator(".jp-InputPrompt")
        expect(prompt).to_have_text(re.compile(r"\[\d+\]:"), timeout=CELL_TIMEOUT_MS)

    def save(self) -> None:
        """Save the notebook, and wait until it is."""
        with self.page.expect_response(
            lambda answer: answer.request.method == "PUT" and "/api/contents/" in answer.url
        ) as saved:
            self.page.keyboard.press("Control+s")
        assert saved.value.ok

    def open_panel(self) -> None:
        """Open the side panel by the status item."""
        self.status_item.click()
        expect(self.panel).to_be_visible()
        expect(self.refresh_button).to_have_attribute("aria-busy", "false")

    @property
    def cells(self) -> Locator:
        """The notebook's cells."""
        return self.page.locator(".jp-Notebook .jp-Cell")

    @property
    def results(self) -> Locator:
        """The rich displays of ``%mlserve`` in the notebook."""
        return self.page.locator(".jp-Notebook .jp-mlserve-result")

    @property
    def dashboard(self) -> Locator:
        """The live dashboard in the notebook."""
        return self.page.locator(".jp-Notebook .jp-mlserve-dash-alive")

    @property
    def picture(self) -> Locator:
        """What stays in the notebook of a dashboard."""
        return self.page.locator(".jp-Notebook .jp-RenderedHTML .jp-mlserve-dash")

    @property
    def errors(self) -> Locator:
        """The errors in the notebook's outputs."""
        return self.page.locator(
            '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]'
        )

    @property
    def status_item(self) -> Locator:
        """The status bar's item."""
        return self.page.locator(".jp-mlserve-status-button")

    @property
    def panel(self) -> Locator:
        """The side panel."""
        return self.page.get_by_role("region", name="Deployed Models")

    @property
    def refresh_button(self) -> Locator:
        """The panel's button that asks the server now."""
        return self.panel.get_by_role("button", name="Refresh deployed models")

    @property
    def alerts(self) -> Locator:
        """The panel's alerts."""
        return self.panel.get_by_role("list", name="Alerts").get_by_role("listitem")

    def card(self, model: str) -> Locator:
        """Return the panel's card of a model."""
        return self.panel.locator(f'.jp-mlserve-card[data-model="{model}"]')
