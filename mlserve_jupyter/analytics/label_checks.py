"""Whether labels can be scored: held against the calls that they are of, where the log has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlserve_jupyter.analytics.histogram_rows import read_baseline
from mlserve_jupyter.analytics.quality import ScoredVersion, task_of
from mlserve_jupyter.api.labels import Label
from mlserve_jupyter.api.number_checks import NON_FINITE
from mlserve_jupyter.api.profile import Task
from mlserve_jupyter.errors import LabelRejected
from mlserve_jupyter.storage.tables import predictions

_CHUNK_IDS = 500
_FETCHED_ROWS = 20


def check_labels(
    connection: Connection,
    model_id: str,
    versions: Mapping[str, ScoredVersion],
    by_request_id: Mapping[str, Sequence[Label]],
) -> set[str]:
    """Refuse labels that can never be scored.

    Parameters
    ----------
    versions
        By id, all of the model.
    by_request_id
        The labels, one a row of a call.

    Returns
    -------
    set of str
        The request ids of which the log has no answer: nobody can say of these.

    Raises
    ------
    LabelRejected
        There are more or fewer than the call has rows, or one is of another type than the answer.
    """
    tasks: dict[tuple[str, str], Task] = {}
    refusals: dict[str, LabelRejected] = {}
    fitting: set[str] = set()
    for row in _answers(connection, model_id, list(by_request_id)):
        version = versions.get(row.version_id)
        if version is None or row.outputs is None or row.request_id in fitting:
            continue
        key = (row.version_id, row.method)
        if key not in tasks:
            baseline = read_baseline(connection, row.version_id)
            profile = None if baseline is None else baseline.profile
            tasks[key] = task_of(version.signature, row.method, profile)
        try:
            _check(row, tasks[key], by_request_id[row.request_id])
        except LabelRejected as error:  # unless the same id was given to another call, too
            refusals.setdefault(row.request_id, error)
        else:
            fitting.add(row.request_id)
    for request_id, refusal in refusals.items():
        if request_id not in fitting:
            raise refusal
    return by_request_id.keys() - fitting


def _answers(connection: Connection, model_id: str, request_ids: list[str]) -> Iterator[Any]:
    """Give the calls that were answered, one by one, as answers may be large; hence ``Any``."""
    called = predictions.c
    query = sa.select(called.request_id, called.version_id, called.method, called.outputs)
    for i in range(0, len(request_ids), _CHUNK_IDS):
        with connection.execute(
            query.where(
                called.model_id == model_id,
                called.request_id.in_(request_ids[i : i + _CHUNK_IDS]),
                called.status == "ok",
            ),
            execution_options={"stream_results": True, "max_row_buffer": _FETCHED_ROWS},
        ) as rows:
            yield from rows


def _check(row: Any, task: Task, labels: Sequence[Label]) -> None:
    """Hold the labels of a call against its answer (a row of the log's, hence ``Any``)."""
    answers = msgspec.json.decode(row.outputs)
    if not isinstance(answers, list):
        return
    if len(labels) != len(answers):
        raise LabelRejected(
            f"The call {row.request_id} was answered with {len(answers)} values, and there are "
            f"{len(labels)} labels: give one a row, null where it is not known.",
            request_id=row.request_id,
            expected=len(answers),
            got=len(labels),
        )
    known = [answer for answer in answers if isinstance(answer, str | int | float)]
    if task == "regression":
        expected = "a number"
    elif known and all(isinstance(answer, str) for answer in known):
        expected = "a text"
    elif known and not any(isinstance(answer, str) for answer in known):
        expected = "a number, true or false"
    else:
        return
    for i, label in enumerate(labels):
        if label is not None and not _fits(label, expected):
            raise LabelRejected(
                f"Label {i} of the call {row.request_id} is {label!r:.80}, and the model answers "
                f"with {expected}: give it in the form of the answers, null where it is not known.",
                request_id=row.request_id,
                row=i,
                expected=expected,
                got=str(label)[:80],
            )


def _fits(label: Label, expected: str) -> bool:
    if expected == "a text":
        return isinstance(label, str)
    if expected == "a number":
        return not isinstance(label, str) or label in NON_FINITE
    return not isinstance(label, str)
