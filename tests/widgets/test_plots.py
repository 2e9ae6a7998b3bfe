"""What the charts show, and that both ways to draw them draw it."""

from __future__ import annotations

import json
from datetime import timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlserve_jupyter.api.analytics import LatencyHistogram
from mlserve_jupyter.widgets.page import latest_rate
from mlserve_jupyter.widgets.plots import (
    MAX_BARS,
    HistogramPlot,
    Plot,
    histogram_plot,
    latency_plot,
    on_same_axes,
    on_same_scale,
    requests_plot,
)
from mlserve_jupyter.widgets.snapshot import plots_of
from mlserve_jupyter.widgets.svg import log_ticks, nice_ticks, sparkline, svg, time_ticks
from mlserve_jupyter.widgets.vega import VEGA_LITE_MIME, vega_lite, vega_lite_bundle
from tests.widgets.pages import NOW, figures, page, series

SVG = "{http://www.w3.org/2000/svg}"


def test_each_call_is_in_one_bar() -> None:
    plot = requests_plot(series([0, 100]))
    by_name = {layer.name: layer.values for layer in plot.layers}
    assert by_name == {"computed": (0, 73), "cache hits": (0, 25), "errors": (0, 2)}


def test_a_step_without_calls_has_no_latency() -> None:
    plot = latency_plot(series([0, 100]))
    assert [layer.name for layer in plot.layers] == ["p50", "p95", "p99"]
    for layer in plot.layers:
        assert layer.values[0] is None
        assert layer.values[1] is not None


def test_the_rate_is_that_of_the_newest_step_and_the_one_before() -> None:
    # At half past, the newest minute has lasted 30 s: 90 calls in 90 s.
    assert latest_rate(series([1000, 60, 30]), NOW) == pytest.approx(60)
    assert latest_rate(series([]), NOW) == 0


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=400))
def test_merged_bars_keep_every_call_and_the_range(counts: list[int]) -> None:
    bounds = [0.1 * 1.04**i for i in range(len(counts) + 1)]
    plot = histogram_plot(LatencyHistogram(bounds_ms=bounds, counts=counts), None)
    assert sum(plot.counts) == sum(counts)
    assert (plot.bounds_ms[0], plot.bounds_ms[-1]) == (bounds[0], bounds[-1])
    assert len(plot.counts) <= MAX_BARS
    assert len(plot.bounds_ms) == len(plot.counts) + 1
    assert list(plot.bounds_ms) == sorted(plot.bounds_ms)


@pytest.mark.parametrize("plot", plots_of(page("wine")), ids=lambda plot: plot.title)
def test_vega_lite_is_what_jupyterlab_draws_without_a_network(plot: Plot) -> None:
    import altair as alt

    spec = vega_lite(plot)
    alt.Chart.from_dict(spec)  # raises for what its schema does not know
    bundle = vega_lite_bundle(spec)
    assert VEGA_LITE_MIME == "application/vnd.vegalite.v5+json"
    assert bundle["data"][VEGA_LITE_MIME]["$schema"].startswith(
        "https://vega.github.io/schema/vega-lite/v5"
    )
    said = json.dumps(bundle, allow_nan=False)
    assert '"url"' not in said


def test_vega_lite_has_the_values_of_the_plot() -> None:
    spec = vega_lite(requests_plot(series([0, 100])))
    values = [(row["name"], row["value"] - row["below"]) for row in spec["datasets"]["values"]]
    assert values == [
        ("computed", 0), ("computed", 73),
        ("cache hits", 0), ("cache hits", 25),
        ("errors", 0), ("errors", 2),
    ]  # fmt: skip
    begins = {row["begins"] for row in spec["datasets"]["values"]}
    assert max(begins) == NOW.replace(second=0).timestamp() * 1000


def test_a_chart_is_not_changed_by_the_next_one_of_its_kind() -> None:
    first = vega_lite(requests_plot(series([10])))
    vega_lite(requests_plot(series([20, 30])))
    assert len(first["datasets"]["steps"]) == 1


@pytest.mark.parametrize("plot", plots_of(page("wine")), ids=lambda plot: plot.title)
def test_svg_is_whole_and_needs_nothing_else(plot: Plot) -> None:
    drawn = ElementTree.fromstring(svg(plot))
    assert drawn.get("aria-label") == plot.title
    assert len(list(drawn.iter())) > 10
    assert "href" not in svg(plot)
    assert "script" not in svg(plot)


@pytest.mark.parametrize("plot", plots_of(page(counts=())), ids=lambda plot: plot.title)
def test_without_calls_a_chart_says_so(plot: Plot) -> None:
    assert "no requests" in "".join(ElementTree.fromstring(svg(plot)).itertext())
    assert json.dumps(vega_lite(plot), allow_nan=False)


def test_bars_of_svg_are_as_tall_as_their_counts() -> None:
    plot = HistogramPlot("Distribution", (1.0, 2.0, 4.0), (10, 20))
    heights = [
        float(bar.get("height", "0"))
        for bar in ElementTree.fromstring(svg(plot)).iter(f"{SVG}rect")
    ]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)


@given(st.floats(min_value=1e-3, max_value=1e9))
def test_an_axis_ends_at_a_round_number_that_holds_all(top: float) -> None:
    ticks = nice_ticks(top)
    assert ticks[0] == 0
    assert top <= ticks[-1] * (1 + 1e-6)
    assert 2 <= len(ticks) <= 7


@given(st.floats(min_value=1e-2, max_value=1e4), st.floats(min_value=1.01, max_value=1e6))
def test_a_logarithmic_axis_has_a_few_ticks_within_its_range(low: float, ratio: float) -> None:
    ticks = log_ticks(low, low * ratio)
    assert 1 <= len(ticks) <= 12
    assert all(low <= tick <= low * ratio * (1 + 1e-9) for tick in ticks)


@pytest.mark.parametrize(
    ("begins", "length", "words"),
    [
        ((20, 30), timedelta(days=1), ["00:00", "06:00", "12:00", "18:00"]),
        (
            (20, 30),
            timedelta(hours=1),
            ["20:30", "20:40", "20:50", "21:00", "21:10", "21:20", "21:30"],
        ),
        ((20, 31), timedelta(minutes=15), ["20:35", "20:40", "20:45"]),
        (
            (20, 31),
            timedelta(days=14),
            ["25 Nov", "27 Nov", "29 Nov", "01 Dec", "03 Dec", "05 Dec", "07 Dec"],
        ),
    ],
)
def test_an_axis_of_time_has_round_times(
    begins: tuple[int, int], length: timedelta, words: list[str]
) -> None:
    first = NOW.replace(day=23, hour=begins[0], minute=begins[1], second=0)
    shown = time_ticks(first, first + length)
    said = [f"{at:%H:%M}" if length <= timedelta(days=1) else word for at, word in shown]
    assert said == words
    assert all(first <= at <= first + length for at, _ in shown)


@given(st.integers(1, 60 * 24 * 4000), st.integers(0, 60 * 24))
def test_any_axis_of_time_has_a_few_times(minutes: int, begins: int) -> None:
    first = NOW.replace(second=0) + timedelta(minutes=begins)
    assert len(time_ticks(first, first + timedelta(minutes=minutes))) <= 8


@pytest.mark.parametrize("plot", plots_of(page("wine")), ids=lambda plot: plot.title)
def test_no_words_of_an_axis_are_cut_off(plot: Plot) -> None:
    for text in ElementTree.fromstring(svg(plot)).iter(f"{SVG}text"):
        if text.get("text-anchor") == "middle":
            half = len(text.text or "") * 3
            assert half <= float(text.get("x", "0")) <= 460 - half


def test_plots_that_are_held_against_each_other_have_the_same_axes() -> None:
    low, high = on_same_scale(*(latency_plot(series([n, n, n])) for n in (0, 100)))
    assert low.top == high.top > 0
    few = HistogramPlot("few", (1.0, 2.0, 4.0), (1, 2))
    many = HistogramPlot("many", (2.0, 4.0, 8.0), (10, 20))
    none = HistogramPlot("none", (), ())
    shown = on_same_axes(few, many, none)
    assert [(each.top, each.range_ms) for each in shown[:2]] == [(20, (1.0, 8.0))] * 2
    assert "no requests" in svg(shown[2])
    places = [
        [float(bar.get("x", "0")) for bar in ElementTree.fromstring(svg(each)).iter(f"{SVG}rect")]
        for each in shown[:2]
    ]
    assert places[0][1] == places[1][0]


def test_a_gap_of_a_sparkline_stays_a_gap() -> None:
    drawn = ElementTree.fromstring(
        sparkline([1, 2, None, None, 3], "#000").replace(
            "<svg", '<svg xmlns="http://www.w3.org/2000/svg"'
        )
    )
    grounds = [path for path in drawn.iter(f"{SVG}path") if path.get("fill") != "none"]
    assert len(grounds) == 2
    assert "<path" not in sparkline([None, None], "#000")


def test_figures_without_calls_have_no_times() -> None:
    assert figures(0).total is None
