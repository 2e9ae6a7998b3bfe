"""``%mlserve drift NAME``: whether a model is still asked what it was fitted for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from mlserve_jupyter.api.drift import (
    ALPHA,
    MIN_LIVE_ROWS,
    MODERATE_PSI,
    Drift,
    DriftLevel,
    FeatureDrift,
)
from mlserve_jupyter.api.moments import Moment
from mlserve_jupyter.client.http import connect
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage
from mlserve_jupyter.magics.display import (
    Display,
    counted,
    html_paragraph,
    html_table,
    html_text,
    text_table,
)
from mlserve_jupyter.plain_text import one_line

USAGE = Usage(
    "drift",
    "Hold what a model is asked against the sample that it was deployed with.",
    (
        Argument("NAME", "The model's name.", completes="models"),
        Argument("--version", "A version other than the default.", "integer", completes="versions"),
        Argument("--since", "From when on, such as 1d; seven days without it.", value="TIME"),
        Argument("--until", "Up to when; now without it.", value="TIME"),
        TARGET,
    ),
)

_HEADER = ("column", "drift", "PSI", "p", "missing", "most changed")
_WORDS: dict[DriftLevel, str] = {
    "none": "none",
    "moderate": "moderate",
    "significant": "significant",
    "too_few": "too few rows",
    "no_baseline": "no baseline",
}


@dataclass(frozen=True, repr=False)
class DriftReport(Display):
    """What has moved, the most moved columns first.

    Attributes
    ----------
    drift
        What the server says.
    """

    drift: Drift

    @property
    def rows(self) -> list[FeatureDrift]:
        """Outputs, then columns by falling PSI; nothing where there was nothing to count."""
        if not self.drift.n_live_rows:
            return []
        features = sorted(self.drift.features, key=lambda each: -each.psi)
        return [*self.drift.outputs, *features]

    def _sentences(self) -> Iterator[str]:
        drift = self.drift
        until = min(drift.until, datetime.now(timezone.utc))  # the hour has only begun
        yield (
            f"{drift.model} version {drift.version}: {_headline(drift)}, from "
            f"{drift.since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC."
        )
        if drift.level == "no_baseline":
            yield (
                "The version was deployed without a sample of 30 rows or more: deploy it again "
                "with the rows that it was fitted on, such as `--sample X_train`."
            )
        elif drift.level == "too_few":
            yield f"A column is judged from {MIN_LIVE_ROWS} rows on."
        if drift.not_watched:
            names = ", ".join(map(one_line, drift.not_watched[:10]))
            more = ", …" if len(drift.not_watched) > 10 else ""
            yield f"Not watched: {names}{more}."

    def _table(self) -> Iterator[tuple[str, ...]]:
        for each in self.rows:
            is_output = each in self.drift.outputs
            yield (
                f"{each.name} (output)" if is_output else each.name,
                _verdict(each),
                f"{each.psi:.3f}",
                f"{each.p_value:.2g}",
                f"{each.missing_baseline:.0%} → {each.missing_live:.0%}",
                _most_changed(each),
            )

    def _text(self) -> str:
        lines = list(self._sentences())
        if self.rows:
            lines += ["", text_table(_HEADER, self._table())]
        return "\n".join(lines)

    def _html(self) -> str:
        first, *rest = self._sentences()
        parts = [html_paragraph(html_text(first, bold=True))]
        parts += [html_paragraph(html_text(sentence)) for sentence in rest]
        if self.rows:
            parts.append(html_table(_HEADER, self._table()))
        return "".join(parts)


def drift(
    name: str,
    *,
    version: int | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
    to: str | None = None,
) -> DriftReport:
    """Hold what a version is asked, and answers, against the sample that it was deployed with.

    Parameters
    ----------
    name
        The model's name.
    version
        A version other than the default.
    since, until
        A time, or how long ago it was, such as ``1d``; without them, the last seven days.
    to
        URL of another server than the notebook's own.

    Returns
    -------
    DriftReport
        With the figures in ``.drift``.

    Raises
    ------
    InvalidUsage
        ``since`` or ``until`` is no time.
    RequestFailed
        There is no such model or version, or the server has no scipy.
    ServerNotFound
        No server answers.
    """
    return DriftReport(connect(to).drift(name, version=version, since=since, until=until))


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> DriftReport:
    """Run the magic."""
    return drift(**arguments)


def _headline(drift: Drift) -> str:
    changed = [
        each.name
        for each in (*drift.outputs, *drift.features)
        if each.level in ("moderate", "significant")
    ]
    rows = counted(drift.n_live_rows, "row")
    if changed:
        return f"{_WORDS[drift.level]} drift in {counted(len(changed), 'column')} of {rows}"
    if drift.level == "too_few":
        return f"{rows}, too few to judge" if drift.n_live_rows else "no rows in this range"
    if drift.level == "no_baseline":
        return f"no baseline to hold {rows} against"
    return f"no drift in {rows}"


def _verdict(each: FeatureDrift) -> str:
    """Name the level, and why it is none where the PSI alone would say otherwise."""
    if each.level == "none" and each.psi >= MODERATE_PSI:
        return f"none (p ≥ {ALPHA:g})"
    return _WORDS[each.level]


def _most_changed(each: FeatureDrift) -> str:
    """Say which bin's share has changed most, and from what to what."""
    n_baseline, n_live = sum(each.baseline_counts), sum(each.live_counts)
    if not n_baseline or not n_live:
        return ""
    shares = [
        (before / n_baseline, now / n_live)
        for before, now in zip(each.baseline_counts, each.live_counts, strict=True)
    ]
    place = max(range(len(shares)), key=lambda i: abs(shares[i][1] - shares[i][0]))
    before, now = shares[place]
    return f"{_bin(each, place)}: {before:.0%} → {now:.0%}"


def _bin(each: FeatureDrift, place: int) -> str:
    if each.kind == "category":
        return each.categories[place] if place < len(each.categories) else "others"
    if place == 0:
        return f"≤ {each.edges[0]:.4g}"
    if place == len(each.edges):
        return f"> {each.edges[-1]:.4g}"
    return f"{each.edges[place - 1]:.4g} to {each.edges[place]:.4g}"
