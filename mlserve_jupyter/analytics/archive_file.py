"""An archive: predictions in a Parquet file, each value as the database has it.

The columns are those of ``predictions``, and after them what a reader without the database wants to
know: the model by name, its version's number, and what was said of the call later. Anything that
reads Parquet reads it: ``pandas.read_parquet(path)``.

Imports pyarrow, which only the process that archives does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from mlserve_jupyter.errors import ArtifactCorrupt
from mlserve_jupyter.storage.folders import disk_errors
from mlserve_jupyter.storage.tables import UtcDateTime, predictions
from mlserve_jupyter.version import __version__

READ_ROWS = 1000
"""Rows that are decoded at once; a group of rows is bounded by who writes it."""

_ENCODER = msgspec.json.Encoder()
_TIME = pa.timestamp("us", tz="UTC")

Value = str | int | float | bool | None
"""What a cell holds; times are microseconds since 1970."""

Row = tuple[Value, ...]


def _kind(column: sa.Column[Any]) -> pa.DataType:
    kind = column.type
    if isinstance(kind, UtcDateTime):
        return _TIME
    if isinstance(kind, sa.Boolean):
        return pa.bool_()
    if isinstance(kind, sa.Integer):
        return pa.int64()
    return pa.float64() if isinstance(kind, sa.Float) else pa.string()


SCHEMA = pa.schema(
    [pa.field(column.name, _kind(column)) for column in predictions.columns]
    + [
        pa.field("owner", pa.string()),
        pa.field("model", pa.string()),
        pa.field("version", pa.int64()),
        pa.field("labels", pa.string()),
        pa.field("labelled_at", _TIME),
    ]
)
"""The columns of an archive, in the order of a :data:`Row`."""


class Content(NamedTuple):
    """What is in a file.

    Attributes
    ----------
    n_rows
        How many calls.
    digest
        A sha256 of all values of all rows in their order, whatever way they are encoded.
    """

    n_rows: int
    digest: str


class ArchiveWriter:
    """Writes a file, a group of rows after the other.

    Parameters
    ----------
    path
        Of a new file.

    Raises
    ------
    StorageUnavailable, StorageFull
        The disk refuses; so do all methods.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = _ContentOf()
        schema = SCHEMA.with_metadata({"mlserve_jupyter": __version__})
        with disk_errors(path):
            self._writer = pq.ParquetWriter(path, schema, compression="zstd")

    def write(self, rows: Sequence[Row]) -> None:
        """Add a group of rows, which are in memory at once whenever they are read."""
        self._content.add(rows)
        columns = zip(*rows, strict=True)
        arrays = [
            pa.array(values, pa.int64()).cast(kind) if kind == _TIME else pa.array(values, kind)
            for values, kind in zip(columns, SCHEMA.types, strict=True)
        ]
        with disk_errors(self._path):
            self._writer.write_table(pa.table(arrays, schema=SCHEMA))

    def close(self) -> Content:
        """Finish the file, and return what was written."""
        with disk_errors(self._path):
            self._writer.close()
        return self._content.content


def read_rows(path: Path) -> Iterator[list[Row]]:
    """Give the rows of a file, in their order and some at a time.

    Columns that the file does not have are None; such is a file of an older release.

    Raises
    ------
    ArtifactCorrupt
        It is no archive.
    """
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(READ_ROWS):
                yield _rows_of(batch)
    except (pa.ArrowException, OSError) as error:
        raise ArtifactCorrupt(f"The archive {path.name} cannot be read: {error}.") from error


def read_content(path: Path) -> Content:
    """Read a whole file, and return what is in it.

    Raises
    ------
    ArtifactCorrupt
        It is no archive.
    """
    content = _ContentOf()
    for rows in read_rows(path):
        content.add(rows)
    return content.content


class _ContentOf:
    def __init__(self) -> None:
        self._n_rows = 0
        self._digest = hashlib.sha256()

    def add(self, rows: Sequence[Row]) -> None:
        self._n_rows += len(rows)
        for row in rows:
            self._digest.update(_ENCODER.encode(row))

    @property
    def content(self) -> Content:
        return Content(self._n_rows, self._digest.hexdigest())


def _rows_of(batch: pa.RecordBatch) -> list[Row]:
    names = batch.schema.names
    columns: list[list[Value]] = []
    for field in SCHEMA:
        if field.name not in names:
            columns.append([None] * batch.num_rows)
            continue
        array = batch.column(field.name)
        columns.append((array.cast(pa.int64()) if field.type == _TIME else array).to_pylist())
    return list(zip(*columns, strict=True))
