"""Wire types of labels: what turned out to be true of the rows of a call."""

from __future__ import annotations

from typing import Annotated

import msgspec

Label = Annotated[str, msgspec.Meta(max_length=256)] | bool | int | float | None
"""What a row should have been answered with; None where that is not known."""

MAX_ROWS_A_CALL = 100_000
MAX_CALLS = 10_000
MAX_CALL_BYTES = 256 * 2**10
"""Of the labels of one call, as JSON: by default the log keeps no answer that is larger."""

REQUEST_ID = r"^[A-Za-z0-9._-]{1,64}\Z"

RequestId = Annotated[
    str,
    msgspec.Meta(pattern=REQUEST_ID, description="The `request_id` of the call's answer."),
]

Labels = Annotated[
    list[Label],
    msgspec.Meta(
        min_length=1,
        max_length=MAX_ROWS_A_CALL,
        description="One value a row of the call, in the form in which the model answers.",
    ),
]


class LabelCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Labels of one call.

    Attributes
    ----------
    model
        The model that answered it: its name, its id, or ``owner~name``.
    labels
        One a row.
    """

    model: str
    labels: Labels


class LabelledCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A call and its labels."""

    request_id: RequestId
    labels: Labels


class LabelCalls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Labels of many calls of one model."""

    model: str
    calls: Annotated[list[LabelledCall], msgspec.Meta(min_length=1, max_length=MAX_CALLS)]


class DescribeLabels(msgspec.Struct, frozen=True, kw_only=True):
    """What was kept.

    Attributes
    ----------
    model
        Name of the model.
    n_calls, n_rows
        Calls that were labelled, and values that they were labelled with.
    n_without_answer
        Of these calls, those of which the log has no answer, or none yet: whether their labels can
        be scored is not known.
    """

    model: str
    n_calls: int
    n_rows: int
    n_without_answer: int = 0
