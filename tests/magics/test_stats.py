"""``%mlserve stats`` and ``%mlserve compare`` against a real server, and what they show."""

from __future__ import annotations

import re
from dataclasses import replace as changed
from datetime import datetime, timedelta, timezone
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

import mlserve_jupyter as mlserve
from mlserve_jupyter.api.analytics import ModelReport, Summary
from mlserve_jupyter.errors import InvalidUsage, RequestFailed
from mlserve_jupyter.magics.magic import run
from mlserve_jupyter.magics.stats import Stats
from tests.live import LiveServer

X_rows = np.arange(8.0).reshape(4, 2)


@pytest.fixture(scope="module")
def server(live_server: LiveServer) -> LiveServer:
    """A server with the model ``watched``, of two versions, both of which were called."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLSERVE_URL", live_server.url)
        patch.setenv("MLSERVE_KEY", live_server.key)
        for slope in (1, 2):
            reg = LinearRegression().fit(X_rows, slope * X_rows.sum(axis=1))
            mlserve.deploy(reg, name="watched", sample=X_rows)
        for version in (1, 1, 2):
            mlserve.predict("watched", X_rows, version=version)
    return live_server


@pytest.fixture(autouse=True)
def _of_the_server(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLSERVE_URL", server.url)
    monkeypatch.setenv("MLSERVE_KEY", server.key)


def test_stats_of_a_model_say_what_was_called() -> None:
    found = run("stats watched --since 2h --step 5min", {})
    assert isinstance(found, Stats)
    assert (found.report.all.n, found.report.all.rows) == (3, 12)
    assert found.series.step_s == 300
    assert found.series.all.n == 3
    text = repr(found)
    assert re.search(
        r"3 requests \(\S+ per minute since \d\d \w{3} \d\d:\d\d UTC\), 0 % errors", text
    )
    assert re.search(r"^1 \(active\) +66.7 % +2 ", text, re.MULTILINE)
    assert re.search(r"^predict +3 +0 % ", text, re.MULTILINE)
    html = found._repr_html_()
    assert html.count("<svg") == 3
    assert "The slowest calls" in html
    assert "per minute" in html
    assert found.report.until <= datetime.now(timezone.utc)
    assert found.series.until <= datetime.now(timezone.utc)
    ElementTree.fromstring(re.sub("&(?!amp|lt|gt|quot|#)", "&amp;", html))


def test_stats_without_a_name_are_those_of_all_models() -> None:
    found = mlserve.stats()
    assert isinstance(found.report, Summary)
    assert "watched" in {each.model for each in found.report.models}
    assert "watched" in repr(found)
    assert mlserve.stats(scope="all").report.all.n >= found.report.all.n


def test_a_step_that_is_too_short_is_refused_in_the_words_in_which_it_was_given() -> None:
    with pytest.raises(InvalidUsage, match=r"A step takes a minute or more .*, not '1s'"):
        run("stats watched --step 1s", {})


def test_the_series_is_a_frame_with_a_row_a_step() -> None:
    found = mlserve.stats("watched", since="1d", step="1h")
    frame = found.frame()
    assert len(frame) == len(found.series.points)
    assert frame["n"].sum() == 3
    assert frame.index.tz is not None
    row = frame[frame["n"] > 0].iloc[0]
    assert 0 < row["total_p50_ms"] <= row["total_p99_ms"]
    assert {str(kind) for kind in frame.dtypes} <= {"int64", "float64"}


def test_nothing_called_is_said_without_charts() -> None:
    found = mlserve.stats("watched", since="2d", until="1d")
    assert "No requests." in repr(found)
    assert "<svg" not in found._repr_html_()


def test_two_versions_are_put_side_by_side() -> None:
    found = run("compare watched 1 2", {})
    text = repr(found)
    assert re.search(r"^requests +2 +1 +× 0.5$", text, re.MULTILINE)
    assert re.search(r"^error rate +0 % +0 % +\+0.00 points$", text, re.MULTILINE)
    assert re.search(r"^total p95 ", text, re.MULTILINE)
    assert "version 1" in found._repr_html_()
    assert found._repr_html_().count("<svg") == 4
    drawn = re.findall("<svg.*?</svg>", found._repr_html_())
    for of_a, of_b in ((drawn[0], drawn[1]), (drawn[2], drawn[3])):
        words = [re.findall(r"<text[^>]*>([^<]*)<", each) for each in (of_a, of_b)]
        assert words[0] == words[1]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("stats nothing", "no model 'nothing'"),
        ("stats watched --since 1fortnight", "how long ago"),
        ("stats watched --scope all", "leave the name out"),
        ("stats watched --since 1h --until 2h", "must be before"),
        ("compare watched 1", "B"),
        ("compare watched 1 7", "no version 7"),
    ],
)
def test_what_cannot_be_shown_is_one_line_with_the_next_step(line: str, says: str) -> None:
    with pytest.raises((InvalidUsage, RequestFailed), match=says):
        run(line, {})


def test_hostile_names_are_shown_as_text() -> None:
    found = mlserve.stats("watched")
    assert isinstance(found.report, ModelReport)
    evil = "<img src=x onerror=alert(1)>"
    report = msgspec.structs.replace(
        found.report,
        model=evil,
        callers=[msgspec.structs.replace(each, principal=evil) for each in found.report.callers],
        slowest=[msgspec.structs.replace(each, method=evil) for each in found.report.slowest],
        methods=[msgspec.structs.replace(each, method=evil) for each in found.report.methods],
    )
    html = changed(found, report=report)._repr_html_()
    assert "<img" not in html
    assert "&lt;img" in html


def test_times_are_those_that_people_write() -> None:
    found = mlserve.stats("watched", since=datetime.now(timezone.utc) - timedelta(minutes=90))
    assert found.report.all.n == 3
    assert timedelta(minutes=90) <= found.report.until - found.report.since <= timedelta(minutes=92)
