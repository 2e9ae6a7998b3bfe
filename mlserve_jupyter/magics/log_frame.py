"""Calls of the prediction log as a table: a row for each row that a model was asked about."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import msgspec

from mlserve_jupyter.api.resources import DescribePrediction, DescribeVersion
from mlserve_jupyter.api.signature import Column, OutputSpec

if TYPE_CHECKING:
    import pandas

FIRST_COLUMNS = ("time", "version", "method", "status")
LAST_COLUMNS = (
    "prediction", "label", "request_id", "row", "principal", "cached", "total_ms", "queue_ms",
    "load_ms", "predict_ms", "error",
)  # fmt: skip
"""Around the input's own columns; one of these that has such a name is called ``input.<name>``."""

_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_REFUSED = ("invalid_body", "signature_mismatch", "too_large", "unsupported_media_type")
"""Of calls with such a status nobody knows what is in which column."""

_TRUTHS = {"true": True, "false": False}
_BY_ROW = ("ndarray", "dataframe", "series", "sparse", "list")

Row = dict[str, Any]
"""By column; values are whatever was sent and answered, hence ``Any``."""


def rows_of(
    calls: Sequence[DescribePrediction], version_of: Callable[[int], DescribeVersion]
) -> tuple[list[Row], list[str]]:
    """Turn calls into rows.

    Parameters
    ----------
    calls
        In any order, which is kept.
    version_of
        Describes a version by its number.

    Returns
    -------
    tuple of list of dict, and list of str
        The rows, and the columns of the inputs among theirs, as they are called there. A call whose
        inputs the log does not have, or whose body was refused, is one row without them.
    """
    rows: list[Row] = []
    shown: dict[str, str] = {}
    for call in calls:
        version = version_of(call.version)
        columns = version.signature.inputs.columns
        spec = version.signature.outputs.get(call.method)
        for i, inputs in enumerate(_input_rows(call, columns)):
            for name in inputs:
                shown.setdefault(name, _free_name(name))
            own = {shown[name]: value for name, value in inputs.items()}
            rows.append({**_facts(call, i, spec), **own})
    return rows, list(shown.values())


def frame_of(rows: Sequence[Row], input_columns: Sequence[str]) -> pandas.DataFrame:
    """Put rows into a DataFrame; numbers and times are such where all of a column are."""
    import pandas as pd

    frame = pd.DataFrame.from_records(
        list(rows), columns=[*FIRST_COLUMNS, *input_columns, *LAST_COLUMNS]
    )
    frame["time"] = pd.to_datetime(frame["time"], utc=True)
    for name in input_columns:
        frame[name] = _typed(frame[name])
    return frame


def _facts(call: DescribePrediction, i: int, spec: OutputSpec | None) -> Row:
    outputs = msgspec.json.decode(call.outputs)
    labels = msgspec.json.decode(call.labels)
    return {
        "time": call.created_at,
        "version": call.version,
        "method": call.method,
        "status": call.status,
        "prediction": _prediction(outputs, i, call.n_rows, spec),
        "label": labels[i] if isinstance(labels, list) and i < len(labels) else None,
        "request_id": call.request_id,
        "row": i,
        "principal": call.principal,
        "cached": call.cached,
        "total_ms": call.total_ms,
        "queue_ms": call.queue_ms,
        "load_ms": call.load_ms,
        "predict_ms": call.predict_ms,
        "error": call.error,
    }


def _prediction(outputs: Any, i: int, n_rows: int, spec: OutputSpec | None) -> Any:
    """Return a row's part of an answer, or all of one that does not go by rows."""
    by_row = spec is None or (spec.by_row and spec.container in _BY_ROW)
    if not (by_row and isinstance(outputs, list) and len(outputs) == n_rows and i < n_rows):
        return outputs
    if spec is not None and spec.columns and isinstance(outputs[i], list):
        return dict(zip(spec.columns, outputs[i], strict=False))
    return outputs[i]


def _input_rows(call: DescribePrediction, columns: Sequence[Column]) -> list[Row]:
    """Return what a call has asked about, row by row; one empty row where that is not known."""
    if call.status in _REFUSED:
        return [{}]
    try:
        rows = list(_rows_in(msgspec.json.decode(call.inputs), columns))
    except (LookupError, TypeError, ValueError, AttributeError):
        rows = []  # a call that failed may have brought anything
    if call.status != "ok" and any(
        row.keys() - {column.name for column in columns} for row in rows
    ):
        rows = []
    return rows or [{}]


def _rows_in(content: Any, columns: Sequence[Column]) -> Iterator[Row]:
    names = [column.name for column in columns]
    match content:
        case {"dataframe_split": {"columns": sent, "data": data}}:
            yield from (dict(zip(sent, row, strict=True)) for row in data)
        case {"dataframe_records": [*rows]} | {"instances": [*rows]} | {"inputs": [*rows]}:
            yield from (_row(row, names) for row in rows)
        case {"inputs": {**by_name}}:
            for values in zip(*by_name.values(), strict=True):
                yield {str(name): value for name, value in zip(by_name, values, strict=True)}
        case {"base64": str(encoded), **_others}:
            yield from _arrow_rows(base64.b64decode(encoded), names)
        case str(text):
            yield from _csv_rows(text, columns)


def _row(row: Any, names: Sequence[str]) -> Row:
    if isinstance(row, dict):
        if row.keys() == {"indices", "values", "size"} and "indices" not in names:
            return {names[j]: value for j, value in zip(row["indices"], row["values"], strict=True)}
        return row
    if len(names) == 1 and not (isinstance(row, list) and len(row) == 1):
        return {names[0]: row}
    return dict(zip(names, row, strict=True))


def _csv_rows(text: str, columns: Sequence[Column]) -> Iterator[Row]:
    by_name = {column.name: column for column in columns}
    names = list(by_name)
    lines = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))
    if lines and set(lines[0]) & set(names):
        names = lines.pop(0)
    for line in lines:
        if line:
            row = dict(zip(names, line, strict=True))
            yield {name: _cell(cell, by_name.get(name)) for name, cell in row.items()}


def _cell(text: str, column: Column | None) -> Any:
    """Return a cell of CSV as JSON would have brought it; what it is not stays a text."""
    kind = "any" if column is None else column.kind
    if text == "" and kind not in ("string", "any"):
        return None
    try:
        if kind == "integer":
            return int(text)
        if kind == "float":
            return float(text)
    except ValueError:
        return text
    if kind == "boolean":
        return _TRUTHS.get(text.lower(), text)
    categories = () if column is None else column.categories or ()
    return next((each for each in categories if str(each) == text), text)


def _arrow_rows(body: bytes, names: Sequence[str]) -> Iterator[Row]:
    if find_spec("pyarrow") is None:
        return
    import pyarrow
    from pyarrow import parquet

    source = io.BytesIO(body)
    is_parquet = body.startswith(b"PAR1")
    table = parquet.read_table(source) if is_parquet else pyarrow.ipc.open_stream(source).read_all()
    by_name = set(table.column_names) & set(names)
    for row in table.to_pylist():
        yield row if by_name else _row(next(iter(row.values())), names)


def _free_name(name: str) -> str:
    return f"input.{name}" if name in FIRST_COLUMNS or name in LAST_COLUMNS else name


def _typed(column: pandas.Series[Any]) -> pandas.Series[Any]:
    """Return a column of numbers as numbers; JSON has words for those that are not finite."""
    import pandas as pd

    known = column.map(lambda value: _NOT_FINITE.get(value, value) if _is_text(value) else value)
    is_number = known.map(
        lambda value: value is None or (isinstance(value, int | float) and not _is_bool(value))
    )
    return pd.to_numeric(known) if len(known) and bool(is_number.all()) else column


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)
