"""The page of ``docs`` in a real browser, as the tests see it."""

from __future__ import annotations

from urllib.parse import urlsplit

from playwright.sync_api import Locator, Page, expect

SHOWN_TIMEOUT_MS = 20_000


class DocsPage:
    """One page of the routes.

    Attributes
    ----------
    requested
        The origins that the page has asked for something.
    complaints
        What the browser has complained about, such as what the page's policy forbids.
    """

    def __init__(self, page: Page, url: str) -> None:
        expect.set_options(timeout=SHOWN_TIMEOUT_MS)
        self.page = page
        self._url = url
        self.requested: set[str] = set()
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requested.add(_origin(request.url)))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text))

    @property
    def origin(self) -> str:
        return _origin(self._url)

    def open(self) -> None:
        self.page.goto(self._url + "docs")
        expect(self.page.locator("main")).to_have_attribute("aria-busy", "false")

    def operation(self, operation_id: str) -> Locator:
        """Return a route's method, opened."""
        found = self.page.locator(f"details#{operation_id}")
        found.locator("summary").click()
        expect(found.get_by_role("button", name="Send")).to_be_visible()
        return found

    def send(self, operation: Locator) -> Locator:
        """Send what was filled in, and return where the answer's status is shown."""
        operation.get_by_role("button", name="Send").click()
        return operation.locator(".answer .status")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
