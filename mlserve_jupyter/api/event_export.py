"""Events of the audit log as lines of a CSV file."""

from __future__ import annotations

from collections.abc import Iterable

from mlserve_jupyter.api.audit import DescribeEvent
from mlserve_jupyter.api.csv_cells import csv_cell, csv_line

_COLUMNS = DescribeEvent.__struct_fields__


def csv_header() -> bytes:
    """Return the first line of a CSV file."""
    return csv_line(_COLUMNS)


def csv_lines(events: Iterable[DescribeEvent]) -> bytes:
    """Return events as lines of CSV, whose cells no spreadsheet takes for formulas."""
    return b"".join(
        csv_line([csv_cell(getattr(event, name)) for name in _COLUMNS]) for event in events
    )
