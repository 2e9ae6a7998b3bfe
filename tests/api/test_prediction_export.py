from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timezone

import msgspec
import pytest
from pyarrow import parquet

from mlserve_jupyter.api.prediction_export import ExportFormat, open_export
from mlserve_jupyter.api.resources import DescribePrediction

NOON = datetime(2026, 5, 1, 12, 0, 0, 1, tzinfo=timezone.utc)


def call(number: int = 0, **others: object) -> DescribePrediction:
    return msgspec.structs.replace(
        DescribePrediction(
            request_id=f"r{number}", model="wine", version=2, method="predict",
            principal="ada (key)", created_at=NOON, status="ok", cached=True, n_rows=1,
            queue_ms=0.0, load_ms=0.0, predict_ms=0.5, total_ms=1.5,
            inputs=msgspec.Raw(b'{"instances":\n [[1.50, "\xc3\xa9"]]}'),
            outputs=msgspec.Raw(b"[1]"), truncated=False, labels=msgspec.Raw(b"null"),
        ),
        **others,
    )  # fmt: skip


def exported(format: ExportFormat, *pages: list[DescribePrediction]) -> bytes:
    export = open_export(format)
    return export.begin() + b"".join(export.add(page) for page in pages) + export.end()


def test_csv_has_a_line_a_call_that_no_spreadsheet_takes_for_formulas() -> None:
    evil = call(1, principal="=HYPERLINK(1)", error="@SUM(1)\r\nx", outputs=msgspec.Raw(b'"+1"'))
    whole = exported("csv", [call(), evil], [], [call(2)]).decode()
    lines = list(csv.DictReader(io.StringIO(whole)))
    assert whole.count("\r\n") == 4
    assert [line["request_id"] for line in lines] == ["r0", "r1", "r2"]
    assert json.loads(lines[0]["inputs"]) == {"instances": [[1.5, "é"]]}
    assert lines[0]["created_at"] == NOON.isoformat()
    assert (lines[0]["cached"], lines[0]["labels"], lines[0]["predict_ms"]) == ("true", "", "0.5")
    assert lines[1]["principal"] == "'=HYPERLINK(1)"
    assert lines[1]["error"] == "'@SUM(1)\\u000d\\u000ax"


def test_json_lines_are_one_line_each_whatever_was_sent() -> None:
    labelled = call(1, labels=msgspec.Raw(b"[\n1]"), error="a\u2028b\nc")
    lines = exported("jsonl", [call()], [labelled]).decode().splitlines()
    calls = [msgspec.json.decode(line, type=DescribePrediction) for line in lines]
    assert [each.request_id for each in calls] == ["r0", "r1"]
    assert calls[1].error == "a\u2028b\nc"
    assert json.loads(bytes(calls[1].labels)) == [1]


def test_parquet_comes_in_pieces_that_make_one_file() -> None:
    failed = call(1, inputs=msgspec.Raw(b"null"), outputs=msgspec.Raw(b"null"), error="boom")
    pages = [[call(), failed], [], [call(2)]]
    file = parquet.ParquetFile(io.BytesIO(exported("parquet", *pages)))
    assert file.num_row_groups == 2
    rows = file.read().to_pylist()
    assert [row["request_id"] for row in rows] == ["r0", "r1", "r2"]
    assert rows[0]["created_at"] == NOON
    assert json.loads(rows[0]["inputs"]) == {"instances": [[1.5, "é"]]}
    assert (rows[1]["inputs"], rows[1]["error"]) == (None, "boom")
    names = [*DescribePrediction.__struct_fields__]
    assert file.schema_arrow.names == names


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_a_log_without_calls_is_a_file_too(format: ExportFormat) -> None:
    whole = exported(format, [])
    assert format != "parquet" or parquet.ParquetFile(io.BytesIO(whole)).metadata.num_rows == 0
