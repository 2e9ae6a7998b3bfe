"""A dashboard that stands still: what a saved notebook shows, and a terminal.

Plain HTML and SVG, which are there without a kernel, a widget or a network.
"""

from __future__ import annotations

from html import escape

from mlserve_jupyter.api.analytics import Figures
from mlserve_jupyter.plain_text import plain
from mlserve_jupyter.widgets import markup
from mlserve_jupyter.widgets.page import Page
from mlserve_jupyter.widgets.plots import Plot, histogram_plot, latency_plot, requests_plot
from mlserve_jupyter.widgets.style import style
from mlserve_jupyter.widgets.svg import svg
from mlserve_jupyter.widgets.units import counted, latency_text, moment, share, short, whole

# Beside a live dashboard, only one of the two is seen: the live one where there is one, and this
# where there is none, as in a notebook that was opened without its kernel.
_ONE_OF_TWO = """<style>
.jp-OutputArea-child:has(.jp-mlserve-dash-alive)
  + .jp-OutputArea-child:has(.jp-mlserve-dash-beside),
.jp-OutputArea-child:has(> [data-mime-type='application/vnd.jupyter.widget-view+json'])
  :not(:has(.jp-mlserve-dash-alive)):has(+ .jp-OutputArea-child .jp-mlserve-dash-beside)
{ display: none; }
</style>""".replace("\n  :not", ":not")


def html(page: Page, *, beside_live: bool = False) -> str:
    """Show a page as HTML.

    Parameters
    ----------
    beside_live
        Whether it stands below a live dashboard, and is seen only where that is not.
    """
    charts = "".join(
        markup.part("card", markup.chart_heading(plot) + svg(plot)) for plot in plots_of(page)
    )
    words = f"The last {page.view.range} up to {moment(page.read_at)} · {page.server_url}"
    head = markup.heading(page) + markup.part("state", escape(words), "push")
    content = (
        markup.part("controls", head)
        + markup.firing(page)
        + markup.tiles(page)
        + markup.part("charts", charts)
        + markup.tables(page, stands_still=True)
    )
    classes = "jp-mlserve-dash" + (" jp-mlserve-dash-beside" if beside_live else "")
    rules = style() + (_ONE_OF_TWO if beside_live else "")
    return f'{rules}<div class="{classes}">{content}</div>'


def text(page: Page) -> str:
    """Show a page as text."""
    name = "All models" if page.model is None else page.view.model or page.model.name
    lines = [
        f"{name}, the last {page.view.range} up to {moment(page.read_at)}",
        f"  requests    {short(page.per_minute)} / min, {whole(page.figures.n)} in all",
        f"  {_summary(page.figures)}",
    ]
    rows = [
        *((f"{each.model}", each) for each in page.model_figures),
        *((f"version {each.version}", each) for each in page.version_figures),
    ]
    lines += [f"  alert       {alert.text}" for alert in page.alerts]
    width = max((len(name) for name, _ in rows), default=0)
    lines += [
        f"  {name:{width}}  {counted(each.n, 'request')}, {_summary(each)}" for name, each in rows
    ]
    return plain("\n".join(lines))


def plots_of(page: Page) -> tuple[Plot, ...]:
    """Return the charts of a page."""
    series = page.series
    return (
        requests_plot(series),
        latency_plot(series),
        histogram_plot(series.histogram, page.figures.total),
    )


def _summary(figures: Figures) -> str:
    if not figures.n or figures.total is None:
        return "no requests"
    total = figures.total
    return (
        f"{share(figures.error_rate)} % errors, {share(figures.cache_hit_rate)} % cache hits; "
        f"p50 {latency_text(total.p50_ms)}, p95 {latency_text(total.p95_ms)}, "
        f"p99 {latency_text(total.p99_ms)}"
    )
