"""What a dashboard says in HTML and as text, of whatever models there are."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from mlserve_jupyter.widgets import markup, snapshot
from mlserve_jupyter.widgets.page import Page
from tests.widgets.pages import HOSTILE, alert, page


class Reader(HTMLParser):
    """Reads HTML: its words, its elements, and whether they are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


PAGES = {
    "one model": page("wine"),
    "all models": page(),
    "no model": page(models=(), counts=()),
    "a model that nobody calls": page("wine", counts=()),
    "an hour without calls": page("wine", counts=(0, 0, 0)),
    "fifty models": page(models=[f"model-{i}" for i in range(50)]),
    "a hundred models": page(models=[f"model-{i}" for i in range(100)]),
    "one call": page("wine", counts=(1,)),
}


@pytest.mark.parametrize("shown", PAGES.values(), ids=PAGES)
def test_every_page_is_well_formed_and_needs_nothing_from_elsewhere(shown: Page) -> None:
    html = snapshot.html(shown)
    read = Reader(html)
    assert not read.elements & {"script", "img", "iframe", "link", "object"}
    assert "url(" not in html
    for label in ("Requests", "Error rate", "p50", "p95", "p99", "Cache hits"):
        assert label in read.text
    assert snapshot.text(shown)


def test_the_figures_of_a_model_have_their_units() -> None:
    words = " ".join(Reader(markup.tiles(page("wine", counts=(100, 100)))).text.split())
    assert "Requests 133 / min 200 in 1 h" in words
    assert "Error rate 2.00 % 4 errors" in words
    assert "p95 12.4 ms 1 in 20 is slower" in words
    assert "Cache hits 25.0 % 50 not computed" in words


def test_where_nothing_was_called_no_figure_is_made_up() -> None:
    words = " ".join(Reader(markup.tiles(page("wine", counts=(0,)))).text.split())
    assert "Error rate – %" in words
    assert "p50 – ms" in words


def test_without_a_model_the_page_says_how_to_deploy_one() -> None:
    assert "%mlserve deploy clf" in Reader(markup.tables(PAGES["no model"])).text


def test_models_that_nobody_calls_are_listed_below_the_others() -> None:
    shown = replace(
        page(models=("busy", "quiet")), model_figures=page(models=("busy",)).model_figures
    )
    words = Reader(markup.tables(shown)).text
    assert words.index("busy") < words.index("quiet")


def test_of_very_many_models_the_busiest_are_listed_and_the_others_counted() -> None:
    words = Reader(markup.tables(PAGES["a hundred models"])).text
    assert "model-59" in words
    assert "model-60" not in words
    assert "and 40 more" in words


@pytest.mark.parametrize(
    "shown",
    [
        page(HOSTILE, principal=HOSTILE),
        page(models=(HOSTILE,), principal=HOSTILE),
        replace(page("wine"), server_url=f"http://{HOSTILE}/"),
    ],
    ids=["a model's name", "in the list", "the server"],
)
def test_hostile_names_are_inert_text(shown: Page) -> None:
    read = Reader(snapshot.html(shown))
    assert "img" not in read.elements
    assert HOSTILE in read.text


def test_the_status_and_the_error_of_a_call_are_inert_text() -> None:
    shown = page("wine")
    failed = tuple(
        type(call)(
            **{**_fields(call), "status": HOSTILE, "error": f'"{HOSTILE}', "method": HOSTILE}
        )
        for call in shown.calls
    )
    read = Reader(markup.tables(replace(shown, calls=failed)))
    assert "img" not in read.elements
    assert HOSTILE in read.text


def test_what_a_server_says_is_inert_text() -> None:
    for html in (markup.warning(HOSTILE), markup.state(HOSTILE, "bad")):
        assert "img" not in Reader(html).elements


def test_calls_that_were_lost_are_said() -> None:
    assert "3 requests" in Reader(markup.tables(replace(page(), lost=3))).text
    assert "never reached" not in Reader(markup.tables(page())).text


@pytest.mark.parametrize(
    ("rate", "tone"), [(0.0, "plain"), (0.009, "plain"), (0.01, "warn"), (0.05, "bad")]
)
def test_errors_stand_out_by_their_share(rate: float, tone: str) -> None:
    shown = page("wine")
    figures = type(shown.figures)(**{**_fields(shown.figures), "error_rate": rate})
    tile = markup.tiles(replace(shown, figures=figures)).split("Error rate")[0].rsplit("<td", 1)[1]
    assert f"jp-mlserve-dash-{tone}" in tile


def test_text_has_a_line_for_each_version() -> None:
    assert snapshot.text(page("wine", counts=(100,))).splitlines() == [
        "wine, the last 1 h up to 23 Nov 19:20 UTC",
        "  requests    200 / min, 100 in all",
        "  2.00 % errors, 25.0 % cache hits; p50 3.10 ms, p95 12.4 ms, p99 48.9 ms",
        "  version 2  100 requests, 2.00 % errors, 25.0 % cache hits; p50 3.10 ms, "
        "p95 12.4 ms, p99 48.9 ms",
        "  version 1  100 requests, 2.00 % errors, 25.0 % cache hits; p50 3.10 ms, "
        "p95 12.4 ms, p99 48.9 ms",
    ]


def test_what_is_out_of_its_limits_is_said_above_the_figures() -> None:
    shown = replace(page("wine"), alerts=(alert("owner~wine"),))
    words = Reader(snapshot.html(shown)).text
    assert words.index("The error rate of owner~wine is over its limit.") < words.index("Requests")
    assert "owner~wine is over its limit." in snapshot.text(shown)
    assert markup.firing(page("wine")) == ""


def test_an_alert_within_its_limit_again_looks_other_than_one_over_it() -> None:
    over, easing = alert("owner~wine"), alert("owner~wine", value=0.05)
    assert "jp-mlserve-dash-over" in markup.firing(replace(page(), alerts=(over,)))
    assert "jp-mlserve-dash-easing" in markup.firing(replace(page(), alerts=(easing,)))


def test_of_many_alerts_the_newest_are_said_and_the_others_counted() -> None:
    alerts = tuple(alert(f"owner~model-{i}") for i in range(5))
    words = Reader(markup.firing(replace(page(), alerts=alerts))).text
    assert "owner~model-2 " in words
    assert "owner~model-3 " not in words
    assert "and 2 more alerts" in words


def test_an_alert_is_inert_text() -> None:
    for value in (1.0, 0.0):
        shown = replace(page(), alerts=(alert(HOSTILE, f"{HOSTILE} is over", value),))
        read = Reader(snapshot.html(shown))
        assert "img" not in read.elements
        assert f"{HOSTILE} is over" in read.text


def test_only_a_picture_beside_a_live_dashboard_hides_itself() -> None:
    assert "jp-mlserve-dash-alive" not in snapshot.html(page())
    assert ":has(.jp-mlserve-dash-alive)" in snapshot.html(page(), beside_live=True)


def _fields(struct: object) -> dict[str, object]:
    return {name: getattr(struct, name) for name in type(struct).__struct_fields__}  # type: ignore[attr-defined]
