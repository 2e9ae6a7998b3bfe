"""Frames and arrays as the bodies of columns that a caller would send."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
from pyarrow import parquet

ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"


def table_of(data: Any) -> pa.Table:
    """Return a frame or a dict of arrays as a table."""
    return pa.table(data) if isinstance(data, dict) else pa.Table.from_pandas(data)


def stream(data: Any, **options: Any) -> bytes:
    """Write a frame, a dict of arrays or a table as an Arrow stream."""
    table = data if isinstance(data, pa.Table) else table_of(data)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet_file(data: Any, **options: Any) -> bytes:
    """Write a frame, a dict of arrays or a table as a Parquet file."""
    sink = io.BytesIO()
    parquet.write_table(data if isinstance(data, pa.Table) else table_of(data), sink, **options)
    return sink.getvalue()
