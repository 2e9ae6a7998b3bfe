from __future__ import annotations

import base64
import io
import math
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pandas as pd
import pytest

from mlserve_jupyter.api.resources import DescribePrediction, DescribeVersion
from mlserve_jupyter.api.signature import Column, InputSpec, OutputSpec, Signature
from mlserve_jupyter.magics.log_frame import frame_of, rows_of

NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)


def version(
    *names: str, output: OutputSpec | None = None, container: Any = "dataframe"
) -> DescribeVersion:
    columns = tuple(Column(name, "float", "float64") for name in names)
    spec = InputSpec(container, (None, len(names)), columns)
    outputs = {"predict": output or OutputSpec("ndarray", "int64", (None,))}
    return cast(DescribeVersion, SimpleNamespace(signature=Signature(spec, outputs)))


def call(
    inputs: Any, outputs: Any = None, labels: Any = None, n_rows: int = 1, status: str = "ok"
) -> Any:
    def raw(value: Any) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(value))

    return DescribePrediction(
        request_id="r", model="m", version=1, method="predict", principal="ada (key)",
        created_at=NOON, status=status, cached=False, n_rows=n_rows, queue_ms=0.0, load_ms=0.0,
        predict_ms=1.0, total_ms=2.0, inputs=raw(inputs), outputs=raw(outputs), truncated=False,
        labels=raw(labels),
    )  # fmt: skip


def frame(calls: list[Any], described: DescribeVersion) -> pd.DataFrame:
    return frame_of(*rows_of(calls, lambda number: described))


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1, 2], [3, None]]},
        {"inputs": [[1, 2], [3, None]]},
        {"inputs": {"a": [1, 3], "b": [2, None]}},
        {"instances": [{"b": 2, "a": 1}, {"a": 3}]},
        {"dataframe_records": [{"b": 2, "a": 1}, {"a": 3}]},
        {"dataframe_split": {"columns": ["b", "a"], "data": [[2, 1], [None, 3]]}},
        {
            "instances": [
                {"indices": [0, 1], "values": [1, 2], "size": 2},
                {"indices": [0], "values": [3], "size": 2},
            ]
        },
    ],
)
def test_every_form_of_a_body_becomes_the_columns_of_the_input(body: Any) -> None:
    found = frame([call(body, [7, 8], [7, None], n_rows=2)], version("a", "b"))
    assert found["a"].tolist() == [1, 3]
    assert found["b"][0] == 2
    assert math.isnan(found["b"][1])
    assert found["prediction"].tolist() == [7, 8]
    assert found["label"].tolist()[0] == 7
    assert found["row"].tolist() == [0, 1]
    assert found["time"].tolist() == [pd.Timestamp(NOON)] * 2


def test_csv_and_columns_of_numbers_become_columns_too() -> None:
    import pyarrow

    sink = io.BytesIO()
    table = pyarrow.table({"b": [2.0], "a": [1.0]})
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    arrow = {
        "content_type": "application/vnd.apache.arrow.stream",
        "base64": base64.b64encode(sink.getvalue()).decode(),
    }
    found = frame([call("b,a\n2,1\n"), call("1,2"), call(arrow)], version("a", "b"))
    assert found["a"].tolist() == [1, 1, 1]
    assert found["b"].tolist() == [2, 2, 2]
    assert (found["a"].dtype, found["b"].dtype) == ("float64", "float64")


def test_cells_of_csv_are_what_the_version_takes() -> None:
    columns = (
        Column("n", "integer", "int64"),
        Column("on", "boolean", "bool"),
        Column("name", "string", "object"),
        Column("size", "category", "category", categories=(1, 2), categories_dtype="int64"),
        Column("x", "float", "float64", nullable=True),
    )
    signature = Signature(InputSpec("dataframe", (None, 5), columns), {})
    described = cast(DescribeVersion, SimpleNamespace(signature=signature))
    found = frame([call("3,TRUE,7,2,\n4,false,8,1,NaN\n", n_rows=2)], described)
    assert found[["n", "on", "name", "size"]].to_numpy().tolist() == [
        [3, True, "7", 2],
        [4, False, "8", 1],
    ]
    assert (found["n"].dtype, found["x"].dtype) == ("int64", "float64")


@pytest.mark.parametrize(
    ("status", "inputs"),
    [
        ("unsupported_media_type", "hello"),
        ("invalid_body", "1;2"),
        ("signature_mismatch", {"instances": [{"a": "many", "other": 1}]}),
        ("method_not_found", {"instances": [{"other": 1}]}),
    ],
)
def test_a_body_that_was_refused_is_in_no_column_of_the_input(status: str, inputs: Any) -> None:
    calls = [call({"instances": [[1]]}), call(inputs, status=status), call("2")]
    found = frame(calls, version("a"))
    assert "other" not in found.columns
    assert found["status"].tolist() == ["ok", status, "ok"]
    assert found["a"].dtype == "float64"
    assert math.isnan(found["a"][1])


def test_numbers_that_json_lacks_are_numbers_here() -> None:
    body = {"instances": [["NaN"], ["Infinity"], [1.5]]}
    found = frame([call(body, n_rows=3)], version("a"))
    assert found["a"].dtype == "float64"
    assert math.isnan(found["a"][0])
    assert found["a"].tolist()[1:] == [float("inf"), 1.5]


def test_a_call_without_inputs_is_one_row_and_keeps_its_answer() -> None:
    found = frame([call(None, [1, 2], n_rows=2), call({"instances": "?"}), call([3])], version("a"))
    assert len(found) == 3
    assert "a" not in found.columns
    assert found["prediction"][0] == 1


def test_an_input_column_never_hides_one_of_the_log() -> None:
    found = frame([call({"instances": [[5, 6]]}, [1])], version("time", "error"))
    assert found["input.time"].tolist() == [5]
    assert found["input.error"].tolist() == [6]
    assert found["time"].tolist() == [pd.Timestamp(NOON)]


def test_an_answer_that_does_not_go_by_rows_stays_whole() -> None:
    pair = OutputSpec("tuple", parts=(OutputSpec("ndarray"), OutputSpec("ndarray")))
    found = frame([call({"instances": [[1], [2]]}, [[1, 2], [3, 4]], n_rows=2)],
                  version("a", output=pair))  # fmt: skip
    assert found["prediction"].tolist() == [[[1, 2], [3, 4]]] * 2
    wide = OutputSpec("dataframe", columns=("p", "q"))
    found = frame([call({"instances": [[1]]}, [[0.1, 0.9]])], version("a", output=wide))
    assert found["prediction"].tolist() == [{"p": 0.1, "q": 0.9}]


def test_items_and_tensors_are_one_column() -> None:
    found = frame([call({"instances": ["a", "b"]}, [1, 2], n_rows=2)],
                  version("text", container="list"))  # fmt: skip
    assert found["text"].tolist() == ["a", "b"]
    found = frame([call({"instances": [[[1, 2], [3, 4]]]}, [1])], version("x"))
    assert found["x"].tolist() in ([[[1, 2], [3, 4]]], [[[[1, 2], [3, 4]]]])
