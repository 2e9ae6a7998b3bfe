"""Calls of the prediction log as a Parquet file, a row group at a time; needs pyarrow."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow
from pyarrow import parquet

from mlserve_jupyter.api.resources import DescribePrediction

_MS = pyarrow.float64()
_JSON = pyarrow.string()

SCHEMA = pyarrow.schema(
    [
        pyarrow.field("request_id", pyarrow.string(), nullable=False),
        pyarrow.field("model", pyarrow.string(), nullable=False),
        pyarrow.field("version", pyarrow.int32(), nullable=False),
        pyarrow.field("method", pyarrow.string(), nullable=False),
        pyarrow.field("principal", pyarrow.string(), nullable=False),
        pyarrow.field("created_at", pyarrow.timestamp("us", "UTC"), nullable=False),
        pyarrow.field("status", pyarrow.string(), nullable=False),
        pyarrow.field("cached", pyarrow.bool_(), nullable=False),
        pyarrow.field("n_rows", pyarrow.int64(), nullable=False),
        pyarrow.field("queue_ms", _MS, nullable=False),
        pyarrow.field("load_ms", _MS, nullable=False),
        pyarrow.field("predict_ms", _MS, nullable=False),
        pyarrow.field("total_ms", _MS, nullable=False),
        pyarrow.field("inputs", _JSON),
        pyarrow.field("outputs", _JSON),
        pyarrow.field("truncated", pyarrow.bool_(), nullable=False),
        pyarrow.field("error", pyarrow.string()),
        pyarrow.field("labels", _JSON),
    ]
)
"""Of a file of calls; inputs, outputs and labels are JSON, null where there are none."""


class ParquetExport:
    """A Parquet file whose row groups are as large as what is added at once."""

    def __init__(self) -> None:
        self._sink = _Pieces()
        self._writer = parquet.ParquetWriter(
            self._sink,
            SCHEMA,
            compression="zstd",
            use_dictionary=["model", "method", "principal", "status"],
            # Those of texts would only make the footer longer, which is kept until the end.
            write_statistics=["created_at", "version", "total_ms"],
        )

    def begin(self) -> bytes:
        """Return what the file begins with."""
        return self._sink.take()

    def add(self, calls: Sequence[DescribePrediction]) -> bytes:
        """Return the next row group."""
        if calls:
            columns = [
                pyarrow.array([_value(getattr(call, field.name)) for call in calls], field.type)
                for field in SCHEMA
            ]
            self._writer.write_table(pyarrow.Table.from_arrays(columns, schema=SCHEMA))
        return self._sink.take()

    def end(self) -> bytes:
        """Return the footer."""
        self._writer.close()
        return self._sink.take()


class _Pieces(io.RawIOBase):
    """A file that is written and never read: what was written is taken from it."""

    def __init__(self) -> None:
        super().__init__()
        self._written = bytearray()
        self._n_taken = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Keep data (any buffer, hence ``Any``) until it is taken."""
        self._written += data
        return len(data)

    def tell(self) -> int:
        return self._n_taken + len(self._written)

    def take(self) -> bytes:
        taken = bytes(self._written)
        self._n_taken += len(taken)
        self._written.clear()
        return taken


def _value(value: Any) -> Any:
    """Return a field's value (of any type, hence ``Any``) as its column takes it."""
    if not isinstance(value, msgspec.Raw):
        return value
    text = bytes(value).decode()
    return None if text == "null" else text
