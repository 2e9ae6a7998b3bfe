"""``%mlserve quality NAME``: how good a model's answers were, where it is known what was true."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlserve_jupyter.api.moments import Moment
from mlserve_jupyter.api.quality import Quality, VersionQuality
from mlserve_jupyter.client.http import connect
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage
from mlserve_jupyter.magics.display import (
    Display,
    counted,
    html_details,
    html_paragraph,
    html_table,
    html_text,
    text_table,
)

USAGE = Usage(
    "quality",
    "Score the calls of a model that have labels.",
    (
        Argument("NAME", "The model's name.", completes="models"),
        Argument("--since", "Calls from when on, such as 1d; 30 days without it.", value="TIME"),
        Argument("--until", "Up to when; now without it.", value="TIME"),
        TARGET,
    ),
)

_CLASSES = ("version", "method", "calls", "rows", "accuracy", "F1 (macro)", "log loss")
_NUMBERS = ("version", "method", "calls", "rows", "MAE", "RMSE", "R²", "mean error")
_CLASS = ("class", "precision", "recall", "F1", "true", "answered")
_HOW = "`%mlserve label NAME REQUEST_ID LABELS` says what was true of a call."


@dataclass(frozen=True, repr=False)
class QualityReport(Display):
    """The scores of each version.

    Attributes
    ----------
    quality
        What the server says.
    """

    quality: Quality

    def _sentences(self) -> Iterator[str]:
        found = self.quality
        yield (
            f"{found.model}: {counted(found.n_calls, 'labelled call')} from "
            f"{found.since:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M} UTC."
        )
        if found.is_cut:
            yield "There are more: those that were labelled last are scored."
        elif not found.n_labelled:
            yield f"No call of this model has a label: {_HOW}"
        elif not found.n_calls:
            n_labelled = counted(found.n_labelled, "call")
            yield f"{n_labelled} of this model have labels, and none of the log in this range has."
        n_not_scored = sum(version.n_not_scored for version in found.versions)
        if n_not_scored:
            yield (
                f"{counted(n_not_scored, 'call')} could not be scored: there must be one label a "
                "row, in the form in which the model answers."
            )

    def _tables(self) -> Iterator[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
        classes = [_class_row(each) for each in self.quality.versions if each.classification]
        numbers = [_number_row(each) for each in self.quality.versions if each.regression]
        if classes:
            yield _CLASSES, classes
        if numbers:
            yield _NUMBERS, numbers

    def _text(self) -> str:
        lines = list(self._sentences())
        for header, rows in self._tables():
            lines += ["", text_table(header, rows)]
        return "\n".join(lines)

    def _html(self) -> str:
        first, *rest = self._sentences()
        parts = [html_paragraph(html_text(first, bold=True))]
        parts += [html_paragraph(html_text(sentence)) for sentence in rest]
        parts += [html_table(header, rows) for header, rows in self._tables()]
        for version in self.quality.versions:
            if version.classification and version.classification.classes:
                table = html_table(_CLASS, _score_rows(version))
                parts.append(html_details(f"Classes of version {version.version}", table))
        return "".join(parts)


def quality(
    name: str,
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    to: str | None = None,
) -> QualityReport:
    """Score the calls of a model that have labels, by version and method.

    Parameters
    ----------
    name
        The model's name.
    since, until
        Of the calls: a time, or how long ago it was, such as ``1d``; without them, the last thirty
        days.
    to
        URL of another server than the notebook's own.

    Returns
    -------
    QualityReport
        With the figures, also by class and by day, in ``.quality``.

    Raises
    ------
    InvalidUsage
        ``since`` or ``until`` is no time.
    RequestFailed
        There is no such model.
    ServerNotFound
        No server answers.
    """
    return QualityReport(connect(to).quality(name, since=since, until=until))


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> QualityReport:
    """Run the magic."""
    return quality(**arguments)


def _first_cells(version: VersionQuality) -> tuple[str, ...]:
    return str(version.version), version.method, str(version.n_calls), str(version.n_rows)


def _class_row(version: VersionQuality) -> tuple[str, ...]:
    found = version.classification
    assert found is not None
    figures = (found.accuracy, found.f1_macro, found.log_loss)
    return (*_first_cells(version), *map(_figure, figures))


def _number_row(version: VersionQuality) -> tuple[str, ...]:
    found = version.regression
    assert found is not None
    figures = (found.mae, found.rmse, found.r2, found.mean_error)
    return (*_first_cells(version), *map(_figure, figures))


def _score_rows(version: VersionQuality) -> Iterator[tuple[str, ...]]:
    assert version.classification is not None
    for each in version.classification.classes:
        yield (
            str(each.label),
            *map(_figure, (each.precision, each.recall, each.f1)),
            str(each.n_true),
            str(each.n_predicted),
        )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
