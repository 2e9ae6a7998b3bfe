"""``%mlserve label NAME REQUEST_ID LABELS``: say what turned out to be true of calls."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mlserve_jupyter.api.labels import DescribeLabels, Label
from mlserve_jupyter.client.http import connect
from mlserve_jupyter.errors import InvalidRequest
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage
from mlserve_jupyter.magics.display import Display, counted, html_paragraph, html_text
from mlserve_jupyter.magics.namespace import evaluate

USAGE = Usage(
    "label",
    "Say what turned out to be true of a call, one value a row.",
    (
        Argument("NAME", "The model's name.", completes="models"),
        Argument("REQUEST_ID", "The request id of the call, as `%mlserve logs` shows it."),
        Argument("LABELS", "What was true, one value a row: Python.", kind="expression"),
        TARGET,
    ),
)


@dataclass(frozen=True, repr=False)
class Labelled(Display):
    """What was kept."""

    kept: DescribeLabels

    def _text(self) -> str:
        kept = self.kept
        calls, rows = counted(kept.n_calls, "call"), counted(kept.n_rows, "row")
        words = f"{calls} of {kept.model} labelled ({rows}): `%mlserve quality {kept.model}`"
        if not kept.n_without_answer:
            return f"{words} scores them."
        why = (
            "A call that was refused has none, nor has an id that is mistyped; one that was just "
            f"made will have: `%mlserve logs {kept.model}` shows the ids."
        )
        if kept.n_without_answer == kept.n_calls:
            them = "it" if kept.n_calls == 1 else "them"
            return (
                f"Labels for {calls} of {kept.model} are kept ({rows}), and there is nothing that "
                f"they score: the log has no answer of {them}. {why}"
            )
        unknown = counted(kept.n_without_answer, "call")
        return f"{words} scores those of which the log has an answer, not {unknown}. {why}"

    def _html(self) -> str:
        return html_paragraph(html_text(self._text()))


def label(
    name: str, request_id: str | Iterable[str], labels: Any, *, to: str | None = None
) -> Labelled:
    """Say what turned out to be true of calls; what was said of them before is replaced.

    Parameters
    ----------
    name
        The model's name.
    request_id
        Of one call, as its answer and ``mlserve.logs`` have it; or of many, a list or a Series.
    labels
        Of one call: what was true, one value a row (a list, an array or a Series), or the value
        itself where the call had one row. Of many: one of these each, in the same order; where an
        id comes again, as it does in the table of ``mlserve.logs``, its rows follow one another.
    to
        URL of another server than the notebook's own.

    Raises
    ------
    InvalidRequest
        There are not as many labels as calls, or a label is neither a number, a text, a boolean
        nor missing.
    RequestFailed
        There is no such model.
    ServerNotFound
        No server answers.
    """
    if isinstance(request_id, str):
        wanted: dict[str, list[Any]] = {request_id: _values(labels)}
    else:
        ids, each = list(request_id), _listed(labels)
        if not isinstance(each, list) or len(ids) != len(each):
            found = len(each) if isinstance(each, list) else "one label"
            raise InvalidRequest(f"There are {len(ids)} request ids, and labels for {found}.")
        wanted = {}
        for id, of_id in zip(ids, each, strict=True):
            wanted.setdefault(id, []).extend(_values(of_id))
    _check(wanted)
    return Labelled(connect(to).label(name, wanted))


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Labelled:
    """Run the magic."""
    labels = evaluate(arguments.pop("labels"), namespace)
    request_id = arguments.pop("request_id")
    return label(arguments.pop("name"), request_id, labels, **arguments)


def _values(labels: Any) -> list[Any]:
    listed = _listed(labels)
    return [_plain(value) for value in listed] if isinstance(listed, list) else [_plain(listed)]


def _listed(labels: Any) -> Any:
    """Turn whatever holds several labels into a list."""
    if hasattr(labels, "tolist"):
        return labels.tolist()
    if isinstance(labels, str | bytes) or not isinstance(labels, Sequence):
        return labels
    return list(labels)


def _plain(value: Any) -> Any:
    """Return a label as JSON has it; what is missing in pandas or numpy is None."""
    if hasattr(value, "item"):
        value = value.item()
    pandas = sys.modules.get("pandas")
    if pandas is not None and value is pandas.NA:
        return None
    return None if isinstance(value, float) and value != value else value


def _check(wanted: Mapping[str, list[Any]]) -> None:
    """Refuse what is no label before anything is sent."""
    try:
        msgspec.convert(wanted, type=dict[str, list[Label]])
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"A label is a number, a text, True, False or missing: {error}."
        ) from None
