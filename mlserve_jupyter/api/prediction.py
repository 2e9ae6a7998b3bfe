"""Wire types of a prediction, for its description alone: what is sent is read by ``decode.py``.

Values are whatever the version's signature says, hence ``Any``.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec


class FrameSplit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows as lists in the order of ``columns``, as ``DataFrame.to_dict("split")`` gives them."""

    columns: list[str | int]
    data: list[list[Any]]
    index: list[Any] | msgspec.UnsetType = msgspec.UNSET


class PredictRows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows in exactly one of four forms.

    Attributes
    ----------
    instances
        A list of rows: lists in the order of the columns, or objects by their names.
    inputs
        The same, or one list of values a column.
    dataframe_split
        Columns and rows beside each other.
    dataframe_records
        A list of objects by the columns' names.
    """

    instances: list[Any] | msgspec.UnsetType = msgspec.UNSET
    inputs: list[Any] | dict[str, list[Any]] | msgspec.UnsetType = msgspec.UNSET
    dataframe_split: FrameSplit | msgspec.UnsetType = msgspec.UNSET
    dataframe_records: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET


PredictBody = Annotated[
    PredictRows, msgspec.Meta(extra_json_schema={"minProperties": 1, "maxProperties": 1})
]


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a predict call.

    Attributes
    ----------
    predictions
        What the method returned.
    cached
        Whether the model did not run for this call, since its answer to an equal one was there.
    columns
        Names of the columns where the method returned a DataFrame.
    """

    predictions: Any
    model: str
    version: int
    request_id: str
    cached: bool
    columns: list[str] | msgspec.UnsetType = msgspec.UNSET
