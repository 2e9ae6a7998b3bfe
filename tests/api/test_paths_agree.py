"""The fast path and the slow path of a JSON body must say the same of every body."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from mlserve_jupyter.api.json_body import JsonBody
from mlserve_jupyter.api.json_walk import walk_body
from mlserve_jupyter.api.layout import Layout
from mlserve_jupyter.api.signature import Column, InputSpec
from mlserve_jupyter.errors import MLServeError

KINDS = [
    ("float", "float64", {}),
    ("float", "float32", {}),
    ("integer", "int64", {}),
    ("integer", "uint64", {}),
    ("integer", "int8", {}),
    ("integer", "object", {}),
    ("boolean", "bool", {}),
    ("string", "str", {}),
    ("datetime", "datetime64[ns]", {}),
    ("timedelta", "timedelta64[s]", {}),
    ("category", "category", {"categories": ("a", "b")}),
    ("category", "category", {"categories": (1, 2)}),
    ("category", "category", {"categories": (1.5, 2.0)}),
    ("category", "category", {"categories": ("a", 1, True)}),
    ("any", "object", {}),
    ("any", "object", {"item": "bytes"}),
    ("string", "object", {"item": "Decimal"}),
]

VALUES = st.sampled_from(
    [
        "null", "true", "false", "0", "-0", "-0.0", "1", "2", "2.0", "1.5", "127", "128", "3e0",
        "1e2", "1e39", "1e999", "9223372036854775807", "9223372036854775808",
        "18446744073709551615", "18446744073709551616", "9007199254740993.0", '"a"', '"b"', '""',
        '"NaN"', '"Infinity"', '"1"', '"2024-05-01"', '"2024-02-30"', '"PT1S"', '"PT0.5S"',
        '"\\ud800"', '"\\ud83d\\ude00"', '":\\""', "[]", "[1]", "{}", '{"base64": "AA=="}',
        '{"a": 1, "a": 2}', '{"float": "NaN"}', '"1.50"', "NaN", "1" * 500,
    ]
)  # fmt: skip
COLUMNS = st.builds(lambda kind, nullable: (kind, nullable), st.sampled_from(KINDS), st.booleans())


def spec_of(kinds, container):
    columns = tuple(
        Column(name=f"c{i}", kind=kind, dtype=dtype, nullable=nullable, **rest)
        for i, ((kind, dtype, rest), nullable) in enumerate(kinds)
    )
    if container in ("series", "list"):
        return InputSpec(container=container, shape=(None,), columns=columns[:1])
    if container == "tensor":
        return InputSpec(container="ndarray", shape=(None, 2, 1), columns=columns[:1])
    return InputSpec(container=container, shape=(None, len(columns)), columns=columns)


@st.composite
def bodies(draw):
    kinds = draw(st.lists(COLUMNS, min_size=1, max_size=3))
    container = draw(
        st.sampled_from(["dataframe", "dataframe", "ndarray", "sparse", "series", "list", "tensor"])
    )
    form = draw(st.sampled_from(["instances", "inputs", "split", "records", "objects"]))
    names = [f"c{i}" for i in range(len(kinds))]
    if draw(st.booleans()):
        names = draw(st.lists(st.sampled_from([*names, "zip"]), min_size=1, max_size=4))
    n_rows = draw(st.integers(0, 3))
    rows = [[draw(VALUES) for _ in names] for _ in range(n_rows)]
    lists = ["[" + ", ".join(row) + "]" for row in rows]
    if container in ("series", "list") and form in ("instances", "inputs"):
        lists = [row[0] for row in rows]
    if container == "tensor" and draw(st.booleans()):
        lists = [f"[[{row[0]}],[{row[-1]}]]" for row in rows]
    if container == "sparse" and draw(st.booleans()):
        lists = [f'{{"indices": [0], "values": [{row[0]}], "size": {len(kinds)}}}' for row in rows]
    objects = [
        "{" + ",".join(f'"{n}":{v}' for n, v in zip(names, r, strict=True)) + "}" for r in rows
    ]
    body = {
        "instances": f'{{"instances": [{",".join(lists)}]}}',
        "inputs": f'{{"inputs": [{",".join(lists)}]}}',
        "objects": f'{{"instances":\n[ {",".join(objects)}]}}',
        "records": f'{{"dataframe_records": [{",".join(objects)}]}}',
        "split": f'{{"dataframe_split": {{"columns": {json.dumps(names)}, "index": [1], '
        f'"data": [{",".join(lists)}]}}}}',
    }[form]
    if draw(st.integers(0, 9)) == 0:
        body = body[: draw(st.integers(0, len(body)))]
    return spec_of(kinds, container), draw(st.sampled_from(["refuse", "drop"])), body.encode()


def outcome(read):
    try:
        rows = read()
    except MLServeError as error:
        return type(error), error.message
    return [repr(list(row) if isinstance(row, tuple) else row) for row in rows]


@settings(deadline=None, max_examples=600)
@given(bodies())
def test_both_paths_give_the_same_rows_or_the_same_error(drawn):
    spec, extra_columns, body = drawn
    layout = Layout(spec, extra_columns)
    fast = outcome(lambda: JsonBody(layout).rows(body))
    assert fast == outcome(lambda: walk_body(body, layout))
