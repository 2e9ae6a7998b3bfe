"""Arrow streams and Parquet files from outside: read within bounds, and validated before use.

pyarrow's parsers are C++ on bytes that anybody may have written, so this runs in a decoder process
only (:mod:`mlserve_jupyter.serving.decoding`), which is held to a limit of memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from mlserve_jupyter.errors import InvalidBody, TooLarge

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet

ARROW_STREAM = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"

MAX_COLUMNS = 100_000
BATCH_ROWS = 65_536
_MIN_VALUE_BYTES = 8
_MAX_FOOTER_BYTES = 64 * 2**20
_INDEX = re.compile(r"__index_level_\d+__")


def read_table(body: Any, media_type: str, max_bytes: int) -> pyarrow.Table:
    """Read a body as a table whose every value was found to lie where it should.

    Columns that pandas writes for a frame's index are left out.

    Parameters
    ----------
    body
        Bytes, or any other buffer (hence ``Any``).
    media_type
        ``ARROW_STREAM`` or ``PARQUET``.
    max_bytes
        What the table may take in memory; checked before its values are read where the body says,
        and batch by batch.

    Raises
    ------
    InvalidBody
        When it is not what the content type says, is cut off, or contradicts itself.
    TooLarge
        When it would take more than ``max_bytes``.
    """
    import pyarrow

    name = "Arrow stream" if media_type == ARROW_STREAM else "Parquet file"
    batches_of = _stream_batches if media_type == ARROW_STREAM else _parquet_batches
    source = pyarrow.py_buffer(body)
    try:
        schema, batches = batches_of(source, max_bytes)
        table = pyarrow.Table.from_batches(_bounded(batches, max_bytes), schema)
    except (pyarrow.ArrowMemoryError, MemoryError):
        _refuse_size(max_bytes)
    except (pyarrow.ArrowException, OSError, ValueError, EOFError) as error:
        raise InvalidBody(
            f"The body is not a whole {name}: {_first_line(error)}. Write it with "
            + (
                "pyarrow.ipc.new_stream, and close the writer before the body is sent."
                if media_type == ARROW_STREAM
                else "pyarrow.parquet.write_table or DataFrame.to_parquet."
            )
        ) from None
    index = [each for each in table.column_names if _INDEX.fullmatch(each)]
    return table.drop_columns(index) if index else table


def _stream_batches(
    source: pyarrow.Buffer, max_bytes: int
) -> tuple[pyarrow.Schema, Iterator[pyarrow.RecordBatch]]:
    import pyarrow

    options = pyarrow.ipc.IpcReadOptions(use_threads=False)
    reader = pyarrow.ipc.open_stream(source, options=options)
    _check_width(reader.schema)
    return reader.schema, iter(reader)


def _parquet_batches(
    source: pyarrow.Buffer, max_bytes: int
) -> tuple[pyarrow.Schema, Iterator[pyarrow.RecordBatch]]:
    from pyarrow import parquet

    file = parquet.ParquetFile(
        source,
        thrift_string_size_limit=_MAX_FOOTER_BYTES,
        thrift_container_size_limit=_MAX_FOOTER_BYTES // 8,
        memory_map=False,
        pre_buffer=False,
        page_checksum_verification=True,
    )
    metadata = file.metadata
    schema = file.schema_arrow
    _check_width(schema)
    # What the footer says may be a lie: it can only make the body be refused earlier.
    _check_rows(metadata.num_rows, len(schema), max_bytes)
    n_bytes = 0
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        n_bytes += sum(
            max(group.column(j).total_uncompressed_size, 0) for j in range(group.num_columns)
        )
    if n_bytes > max_bytes:
        _refuse_size(max_bytes)
    if file.metadata.num_row_groups == 0:
        return schema, iter(())
    return schema, _as_many(file.iter_batches(batch_size=BATCH_ROWS, use_threads=False), metadata)


def _as_many(
    batches: Iterator[pyarrow.RecordBatch], metadata: parquet.FileMetaData
) -> Iterator[pyarrow.RecordBatch]:
    """Give batches on, and refuse a file whose pages hold other rows than its footer says."""
    n_rows = 0
    for batch in batches:
        n_rows += batch.num_rows
        yield batch
    if n_rows != metadata.num_rows:
        raise ValueError(f"it holds {n_rows} rows, and its footer says {metadata.num_rows}")


def _bounded(
    batches: Iterator[pyarrow.RecordBatch], max_bytes: int
) -> Iterator[pyarrow.RecordBatch]:
    """Validate each batch before anything looks at its values, and count what they take."""
    n_rows = n_bytes = 0
    for batch in batches:
        n_rows += batch.num_rows
        _check_rows(n_rows, batch.num_columns, max_bytes)
        batch.validate(full=True)
        n_bytes += batch.get_total_buffer_size()
        if n_bytes > max_bytes:
            _refuse_size(max_bytes)
        yield batch


def _check_width(schema: pyarrow.Schema) -> None:
    if len(schema) > MAX_COLUMNS:
        raise TooLarge(f"The body has {len(schema)} columns; at most {MAX_COLUMNS} are read.")


def _check_rows(n_rows: int, n_columns: int, max_bytes: int) -> None:
    # Rows of nulls, or without columns, take no bytes in a body and many in memory.
    if n_rows * max(n_columns, 1) * _MIN_VALUE_BYTES > max_bytes:
        raise TooLarge(
            f"The body has {n_rows} rows of {n_columns} columns, more than fit in {max_bytes} "
            "bytes of memory. Send fewer rows at once.",
            n_rows=n_rows,
            limit=max_bytes,
        )


def _refuse_size(max_bytes: int) -> NoReturn:
    raise TooLarge(
        f"The body takes more than {max_bytes} bytes of memory once it is decompressed. Send fewer "
        "rows at once.",
        limit=max_bytes,
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["it cannot be read"])[0].rstrip(".")[:200]
