"""Calls of the prediction log as a file, piece by piece: CSV, JSON Lines or Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal, Protocol

from mlserve_jupyter.api.csv_cells import csv_cell, csv_line
from mlserve_jupyter.api.json_lines import json_lines
from mlserve_jupyter.api.resources import DescribePrediction
from mlserve_jupyter.errors import UnsupportedMediaType

ExportFormat = Literal["csv", "jsonl", "parquet"]

CONTENT_TYPES: dict[ExportFormat, str] = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
}

_COLUMNS = DescribePrediction.__struct_fields__


class Export(Protocol):
    """A file that is written while it is sent."""

    def begin(self) -> bytes:
        """Return what the file begins with."""
        ...

    def add(self, calls: Sequence[DescribePrediction]) -> bytes:
        """Return the next piece of it."""
        ...

    def end(self) -> bytes:
        """Return what it ends with."""
        ...


def open_export(format: ExportFormat) -> Export:
    """Begin a file.

    Raises
    ------
    UnsupportedMediaType
        Parquet needs pyarrow, which is not installed.
    """
    if format == "csv":
        return CsvExport()
    if format == "jsonl":
        return JsonLinesExport()
    if find_spec("pyarrow") is None:
        raise UnsupportedMediaType(
            "Parquet needs pyarrow beside the server: pip install 'mlserve_jupyter[arrow]', or "
            "ask for csv or jsonl."
        )
    from mlserve_jupyter.api.prediction_parquet import ParquetExport

    return ParquetExport()


class CsvExport:
    """Lines of CSV, whose cells no spreadsheet takes for formulas; JSON in cells."""

    def begin(self) -> bytes:
        """Return the header."""
        return csv_line(_COLUMNS)

    def add(self, calls: Sequence[DescribePrediction]) -> bytes:
        """Return a line a call."""
        return b"".join(
            csv_line([csv_cell(getattr(call, name)) for name in _COLUMNS]) for call in calls
        )

    def end(self) -> bytes:
        """Return nothing: lines end by themselves."""
        return b""


class JsonLinesExport:
    """A line of JSON a call."""

    def begin(self) -> bytes:
        """Return nothing: there is no header."""
        return b""

    def add(self, calls: Sequence[DescribePrediction]) -> bytes:
        """Return a line a call."""
        return json_lines(calls)

    def end(self) -> bytes:
        """Return nothing: lines end by themselves."""
        return b""
