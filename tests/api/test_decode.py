from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys

import pytest

from mlserve_jupyter.api.decode import InputDecoder
from mlserve_jupyter.api.signature import Column, InputSpec
from mlserve_jupyter.errors import InvalidBody, SignatureMismatch, UnsupportedMediaType

JSON = "application/json"

PEOPLE = InputSpec(
    container="dataframe",
    shape=(None, 4),
    columns=(
        Column(name="age", kind="integer", dtype="int64"),
        Column(name="income", kind="float", dtype="float64", nullable=True),
        Column(name="city", kind="string", dtype="str"),
        Column(
            name="plan",
            kind="category",
            dtype="category",
            categories=("basic", "pro"),
            nullable=True,
        ),
    ),
)
ROW = [41, 1.5, "Oslo", "pro"]
RECORD = dict(zip(["age", "income", "city", "plan"], ROW, strict=True))


def frame_of(*columns):
    return InputSpec(container="dataframe", shape=(None, len(columns)), columns=columns)


def column_of(kind, dtype, **rest):
    return frame_of(Column(name="v", kind=kind, dtype=dtype, **rest))


def decode(spec, body, content_type=JSON, **options):
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return InputDecoder(spec, **options).decode(sent, content_type)


def values_of(spec, *values):
    return decode(spec, {"instances": [[value] for value in values]}).columns[0]


def refused(spec, body, content_type=JSON, error=SignatureMismatch, **options):
    with pytest.raises(error) as caught:
        decode(spec, body, content_type, **options)
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [ROW]},
        {"inputs": [ROW]},
        {"instances": [RECORD]},
        {"dataframe_records": [RECORD]},
        {"dataframe_split": {"columns": list(RECORD), "data": [ROW]}},
        {"dataframe_split": {"index": [7], "columns": list(RECORD)[::-1], "data": [ROW[::-1]]}},
        {"dataframe_records": [dict(reversed(RECORD.items()))]},
    ],
    ids=str,
)
def test_all_json_forms_give_the_same_batch(body):
    batch = decode(PEOPLE, body)
    assert batch.columns == [[41], [1.5], ["Oslo"], ["pro"]]
    assert (batch.n_rows, batch.rows) == (1, None)


@pytest.mark.parametrize(
    ("text", "content_type"),
    [
        ("age,income,city,plan\n41,1.5,Oslo,pro\n", "text/csv"),
        ('\ufeffplan,"city",age,income\r\npro,Oslo,41.0,1.5\r\n', "text/csv; charset=utf-8"),
        ("41,1.5,Oslo,pro", "text/csv; header=absent"),
    ],
)
def test_csv_gives_the_same_batch(text, content_type):
    batch = decode(PEOPLE, text.encode(), content_type)
    assert batch.columns == [[41], [1.5], ["Oslo"], ["pro"]]


def test_csv_fields_may_hold_commas_quotes_and_line_breaks():
    text = 'age,income,city,plan\n1,,"a, ""b""\nc",\n\n2,,,basic\n'
    batch = decode(PEOPLE, text.encode(), "text/csv")
    assert batch.columns == [[1, 2], [None, None], ['a, "b"\nc', ""], [None, "basic"]]


def test_a_batch_can_be_pickled_without_any_class_of_ours_but_itself():
    batch = decode(PEOPLE, {"instances": [ROW]})
    assert pickle.loads(pickle.dumps(batch)) == batch


def test_numbers_that_needed_the_slow_path_are_plain_ones():
    batch = decode(PEOPLE, b'{"instances": [[3.0, "NaN", "a", null]]}')
    assert [type(column[0]) for column in batch.columns] == [int, float, str, type(None)]


def test_a_wrong_value_is_named_with_its_row_and_column():
    error = refused(PEOPLE, {"instances": [ROW, ROW, ROW, ["abc", 1.5, "Oslo", "pro"]]})
    assert error.message == "row 3, column 'age': expected an integer, got the string 'abc'."
    assert error.details == {
        "row": 3,
        "column": "age",
        "expected": "an integer",
        "got": "the string 'abc'",
    }


def test_a_wrong_value_under_other_column_order_is_named_by_its_column():
    body = {"dataframe_split": {"columns": ["city", "age"], "data": [["a", 1], ["b", None]]}}
    error = refused(PEOPLE, body)
    assert (error.details["row"], error.details["column"]) == (1, "age")


def test_null_where_nothing_was_missing_says_how_to_allow_it():
    error = refused(PEOPLE, {"instances": [[None, 1.5, "Oslo", "pro"]]})
    assert error.message.startswith("row 0, column 'age': expected an integer, got null. ")
    assert "deploy again with a sample that has one" in error.message


def test_an_unknown_category_is_answered_with_the_known_ones():
    error = refused(PEOPLE, {"instances": [[1, 1.5, "Oslo", "gold"]]})
    assert "expected one of the categories 'basic', 'pro', got the string 'gold'" in error.message


def test_many_categories_are_shortened():
    spec = column_of("category", "category", categories=tuple(f"c{i}" for i in range(500)))
    error = refused(spec, {"instances": [["x"]]})
    assert "'c9', … (500 in all)" in error.message
    assert "'c10'" not in error.message


def test_a_missing_nullable_column_is_null():
    assert decode(PEOPLE, {"instances": [{"age": 1, "city": "a"}]}).columns == [
        [1],
        [None],
        ["a"],
        [None],
    ]
    body = {"dataframe_split": {"columns": ["city", "age"], "data": [["a", 1]]}}
    assert decode(PEOPLE, body).columns == [[1], [None], ["a"], [None]]


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [RECORD, {"age": 1}]},
        {"dataframe_split": {"columns": ["age"], "data": [[1]]}},
    ],
)
def test_a_missing_needed_column_is_named(body):
    error = refused(PEOPLE, body)
    assert "column 'city' is missing" in error.message
    assert error.details["column"] == "city"


EXTRA = [
    {"instances": [RECORD | {"zip": 1}]},
    {"dataframe_split": {"columns": [*RECORD, "zip"], "data": [[*ROW, 1]]}},
]


@pytest.mark.parametrize("body", EXTRA)
def test_an_extra_column_is_refused_by_name(body):
    error = refused(PEOPLE, body)
    assert "column 'zip' is not one of the model's, which are 'age', 'income'" in error.message


@pytest.mark.parametrize("name", ["Feature_307", "FEATURE_307", "feature_307x"])
def test_the_column_that_was_meant_is_named_however_many_there_are(name):
    names = [f"feature_{number}" for number in range(400)]
    wide = frame_of(*(Column(name=each, kind="float", dtype="float64") for each in names))
    error = refused(wide, {"instances": [{name: 1.0}]})
    assert (
        f"column {name!r} is not one of the model's (did you mean 'feature_307'?)" in error.message
    )


def test_a_column_in_other_letters_is_named_where_extra_ones_are_dropped():
    body = {"instances": [RECORD | {"Age": 41}]}
    del body["instances"][0]["age"]
    error = refused(PEOPLE, body, extra_columns="drop")
    assert "column 'age' is missing" in error.message
    assert "'Age', which came, is not one of the model's" in error.message


@pytest.mark.parametrize("body", EXTRA)
def test_an_extra_column_is_dropped_where_that_is_set(body):
    batch = decode(PEOPLE, body, extra_columns="drop")
    assert batch.columns == [[41], [1.5], ["Oslo"], ["pro"]]


def test_an_extra_csv_column_is_refused_or_dropped():
    text = b"age,income,city,plan,zip\n41,1.5,Oslo,pro,1\n"
    assert "column 'zip'" in refused(PEOPLE, text, "text/csv").message
    assert decode(PEOPLE, text, "text/csv", extra_columns="drop").columns[3] == ["pro"]


@pytest.mark.parametrize("row", [[1, 2.0, "a"], [1, 2.0, "a", "pro", 5], []])
def test_a_row_of_the_wrong_length_is_named(row):
    error = refused(PEOPLE, {"instances": [ROW, row]})
    assert error.message.startswith("row 1: expected a list of 4 values ('age', 'income', ")
    assert error.details["got"] == f"a list of {len(row)} value{'s' if len(row) != 1 else ''}"


def test_one_flat_row_is_refused_with_the_right_form():
    error = refused(PEOPLE, {"instances": ROW})
    assert "put it into one more pair of brackets" in error.message


@pytest.mark.parametrize("body", [{"instances": []}, {"dataframe_records": []}])
def test_no_rows_are_refused_unless_allowed(body):
    assert "no rows" in refused(PEOPLE, body).message
    assert decode(PEOPLE, body, allow_empty=True).columns == [[], [], [], []]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b'{"instances": [[1, 2', "at line 1, column 21"),
        (b'{"instances":\n [[1, oops]]}', "at line 2, column 7"),
        (b"[[1, 2]]", "exactly one of the keys"),
        (b"{}", "has no key"),
        (b'{"instances": [], "inputs": []}', "'instances' and 'inputs'"),
        (b'{"rows": []}', "unknown key 'rows'"),
        (b'{"instances": [], "instances": []}', "'instances' twice"),
        (b'{"instances": 5}', "must be a list"),
        (b'{"instances": [["\xff"]]}', "not UTF-8: byte 17 is 0xff"),
        (b'{"instances": [[NaN]]}', 'as a string: "NaN"'),
        (b'{"dataframe_split": [[1]]}', '{"columns": ["a", "b"], "data"'),
        (b'{"dataframe_split": {"columns": ["age"], "data": [], "x": 1}}', '"columns"'),
        (b'{"instances": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nested too deep"),
        (b"[" * 10_000 + b"]" * 10_000, "nested too deep"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested too deep"),
        (b'{"instances":' + b"[" * 10_000, "The body is"),
    ],
)
def test_a_body_that_cannot_be_read_says_why(body, said):
    assert said in refused(PEOPLE, body, error=InvalidBody).message


def test_the_depth_of_free_values_is_limited():
    spec = InputSpec(
        container="list", shape=(None,), columns=(Column(name="x0", kind="any", dtype="object"),)
    )
    assert decode(spec, b'{"instances": [' + b"[" * 50 + b"]" * 50 + b"]}").n_rows == 1
    body = b'{"instances": [' + b"[" * 150 + b"]" * 150 + b"]}"
    assert "nested too deep" in refused(spec, body, error=InvalidBody).message


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [{"age": 1, "city": "a"}, {"age": 1, "age": 2, "city": "a"}]}',
        b'{"instances": [{"age":1,"city":"a"},{"age" : 1,"age":2,"city":"a:b"}]}',
        b'{"dataframe_records": [{"age":1,"city":"a"},{"age":1,"city":"\\":","age":2}]}',
    ],
)
def test_a_key_that_comes_twice_in_a_record_is_named_with_its_row(body):
    error = refused(PEOPLE, body)
    assert error.message == "row 1: column 'age' came twice."


def test_a_column_that_comes_twice_is_named():
    body = {"dataframe_split": {"columns": ["age", "city", "age"], "data": [[1, "a", 1]]}}
    assert "column 'age' came twice" in refused(PEOPLE, body).message
    assert "came twice" in refused(PEOPLE, b"age,age,city\n1,1,a", "text/csv").message


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int8", -128),
        ("uint8", 255),
        ("Int16", 32767),
        ("int64", 2**63 - 1),
        ("int64", -(2**63)),
        ("uint64", 2**64 - 1),
        ("UInt64", 2**64 - 1),
        ("int32[pyarrow]", -1),
        (">i2", 32767),
        ("object", 2**200),
        ("int64", 2**53 + 1),
    ],
)
def test_integers_within_the_range_of_the_dtype_are_exact(dtype, value):
    assert values_of(column_of("integer", dtype), value) == [value]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int8", 128),
        ("uint8", -1),
        ("Int16", 32768),
        ("int64", 2**63),
        ("uint64", 2**64),
        ("UInt64", -1),
        ("int64", 10**500),
        (">i2", 32768),
        ("int64", 1e300),
    ],
)
def test_integers_out_of_range_are_refused(dtype, value):
    error = refused(column_of("integer", dtype), {"instances": [[value]]})
    assert "out of range" in error.message


def test_whole_floats_count_as_integers_in_all_digits():
    spec = column_of("integer", "int64")
    body = b'{"instances": [[3.0], [9007199254740993.0], [-1e2]]}'
    assert decode(spec, body).columns == [[3, 9007199254740993, -100]]
    assert "got the number 3.5" in refused(spec, {"instances": [[3.5]]}).message


@pytest.mark.parametrize("kind", ["integer", "float"])
def test_booleans_are_no_numbers(kind):
    error = refused(column_of(kind, f"{kind[:5]}64"), {"instances": [[True]]})
    assert "got the boolean true" in error.message


@pytest.mark.parametrize("value", [1, "true", None, 0.0])
def test_only_booleans_are_booleans(value):
    assert (
        "expected true or false"
        in refused(column_of("boolean", "bool"), {"instances": [[value]]}).message
    )


def test_integers_are_fine_where_floats_are_expected():
    assert values_of(column_of("float", "float64"), 3, 2**60) == [3.0, float(2**60)]


@pytest.mark.parametrize("body", [b"1e999", b"-1e999", b"1" * 400, b"1" * 5000])
def test_numbers_beyond_floats_are_refused_with_their_place(body):
    error = refused(column_of("float", "float64"), b'{"instances": [[1], [' + body + b"]]}")
    assert error.message.startswith("row 1, column 'v': expected a number, got the ")


def test_numbers_beyond_the_dtype_are_refused_rather_than_made_infinite():
    error = refused(column_of("float", "float32"), {"instances": [[3.5e38]]})
    assert "within ±3.4028e+38" in error.message
    assert values_of(column_of("float", "float32"), 3.4e38) == [3.4e38]


def test_non_finite_floats_come_as_strings():
    spec = column_of("float", "float64", nullable=True)
    values = values_of(spec, "NaN", "Infinity", "-Infinity", None, 1)
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf, None, 1.0]


def test_nan_is_refused_where_nothing_was_missing():
    assert (
        "got NaN. The sample had no missing values"
        in refused(column_of("float", "float64"), {"instances": [["NaN"]]}).message
    )


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        ("datetime64[ns]", "2024-02-29T23:59:59.123456789", "2023-02-29"),
        ("datetime64[ns]", "2024-05-01 12:30", "2024-05-01T12:30:00Z"),
        ("datetime64[ns]", "1677-09-22", "1500-01-01"),
        ("datetime64[us]", "0001-01-01T00:00:00.000001", "2024-01-01T00:00:00.0000001"),
        ("datetime64[s]", "9999-12-31T23:59:59.000", "2024-01-01T00:00:00.5"),
        ("datetime64[D]", "2024-05-01", "2024-05-01T12:00:00"),
        ("datetime64[ns, UTC]", "2024-05-01T12:30:00+02:00", "2024-05-01T12:30:00"),
        ("datetime64[ns, UTC]", "2024-05-01T12:30:00Z", "yesterday"),
    ],
)
def test_datetimes_must_fit_the_dtype(dtype, good, bad):
    spec = column_of("datetime", dtype)
    assert values_of(spec, good) == [good]
    assert "expected a datetime with" in refused(spec, {"instances": [[bad]]}).message


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        ("timedelta64[ns]", "P1DT2H3M4.000000005S", "P1Y"),
        ("timedelta64[ns]", "-PT0.5S", "PT"),
        ("timedelta64[ns]", "P-1DT23H59M59S", "1 day"),
        ("timedelta64[s]", "P2W", "PT0.5S"),
        ("timedelta64[ns]", "P106751D", "P106752D"),
    ],
)
def test_durations_must_fit_the_dtype(dtype, good, bad):
    spec = column_of("timedelta", dtype)
    assert values_of(spec, good) == [good]
    assert "expected a duration such as" in refused(spec, {"instances": [[bad]]}).message


def test_categories_of_numbers_are_numbers():
    spec = column_of("category", "category", categories=(1.0, 2.5), categories_dtype="float64")
    assert values_of(spec, 1, 2.5) == [1.0, 2.5]
    assert refused(spec, {"instances": [["1.0"]]})
    assert decode(spec, b"v\n1\n2.50\n", "text/csv").columns == [[1.0, 2.5]]


def test_strings_with_half_a_surrogate_pair_are_refused():
    spec = column_of("string", "str")
    assert "surrogate" in refused(spec, rb'{"instances": [["\ud800"]]}').message


def test_bytes_come_as_base64():
    spec = column_of("any", "object", item="bytes")
    assert values_of(spec, {"base64": "AP8="}) == [{"base64": "AP8="}]
    for bad in ("AP8=", {"base64": "?"}, {"base64": 1}, None):
        assert "base64" in refused(spec, {"instances": [[bad]]}).message


ARRAY = InputSpec(
    container="ndarray",
    shape=(None, 2, 3),
    columns=(Column(name="x", kind="float", dtype="float64"),),
    dtype="float64",
)


def test_nested_arrays_keep_their_nesting():
    row = [[1, 2, 3], [4, 5, 6]]
    assert decode(ARRAY, {"instances": [row, row]}).rows == [row, row]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([[1, 2, 3], [4, 5]], "nested list of the shape 2 × 3, got a list of 2 values at [1]"),
        ([[1, 2, 3]], "got a list of 1 value"),
        ([[1, 2, 3], [4, 5, "a"]], "row 1, at [1, 2]: expected a number, got the string 'a'"),
        ([1, 2], "got the integer 1 at [0]"),
    ],
)
def test_ragged_and_wrong_nested_arrays_are_named(row, said):
    assert said in refused(ARRAY, {"instances": [[[1, 2, 3], [4, 5, 6]], row]}).message


def test_nested_arrays_have_no_columns_by_name():
    body = {"dataframe_split": {"columns": ["x"], "data": []}}
    assert "named columns" in refused(ARRAY, body, error=InvalidBody).message
    assert "JSON" in refused(ARRAY, b"x\n1", "text/csv", error=UnsupportedMediaType).message.upper()


SPARSE = InputSpec(
    container="sparse",
    shape=(None, 3),
    columns=tuple(Column(name=f"x{i}", kind="float", dtype="float64") for i in range(3)),
    dtype="float64",
    sparse_class="csr_matrix",
)


@pytest.mark.parametrize(
    "row",
    [
        [0, 1.5, 0],
        {"indices": [1], "values": [1.5], "size": 3},
        {"values": [1.5], "indices": [1]},
    ],
)
def test_sparse_rows_may_be_dense_or_sparse(row):
    from mlserve_jupyter.artifacts.inputs import build_input

    batch = decode(SPARSE, {"instances": [row, [0, 0, 0]]})
    assert build_input(SPARSE, batch).toarray().tolist() == [[0, 1.5, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    "row",
    [
        {"indices": [3], "values": [1.5], "size": 3},
        {"indices": [1], "values": [1.5], "size": 4},
        {"indices": [1], "values": []},
        {"indices": [True], "values": [1]},
        {"indices": [1], "values": ["a"]},
        {"indices": [1]},
        [1, 2],
        7,
    ],
)
def test_wrong_sparse_rows_are_named(row):
    assert refused(SPARSE, {"instances": [[0, 0, 0], row]}).details["row"] == 1


TEXTS = InputSpec(
    container="list", shape=(None,), columns=(Column(name="x0", kind="string", dtype="object"),)
)


def test_a_list_of_texts_is_a_list_of_texts():
    assert decode(TEXTS, {"inputs": ["a", "b"]}).rows == ["a", "b"]
    assert decode(TEXTS, b"x0\na\n\nb\n", "text/csv").rows == ["a", "", "b"]
    error = refused(TEXTS, {"instances": ["a", ["b"]]})
    assert error.message == "row 1: expected a string, got a list of 1 value."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("age,city\n1,a\nx,b", "row 1 (line 3), column 'age': expected an integer, got the string"),
        ("age,city\n1,a\n1", "row 1 (line 3): expected 2 fields, got 1"),
        ("age,city\n,a", "row 0 (line 2), column 'age': expected an integer, got an empty field"),
        ("age,income,city\n1,1_0,a", "column 'income': expected a number"),
        ("age,city,plan\n1,a,gold", "one of the categories 'basic', 'pro', got the string 'gold'"),
    ],
)
def test_a_wrong_csv_field_is_named_with_its_line(text, said):
    assert said in refused(PEOPLE, text.encode(), "text/csv").message


def test_csv_without_a_header_says_how_to_send_it():
    error = refused(PEOPLE, b"41,1.5,Oslo,pro", "text/csv")
    assert "text/csv; header=absent" in error.message
    assert error.details["column"] == "41"
    assert "header=absent" not in refused(PEOPLE, b"age,town\n1,a", "text/csv").message


def test_a_fraction_among_integers_has_a_next_step():
    error = refused(PEOPLE, {"instances": [[1.5, 1.5, "Oslo", "pro"]]})
    assert error.message.startswith("row 0, column 'age': expected an integer, got the number 1.5.")
    assert "a sample in which they are float" in error.message


@pytest.mark.parametrize("body", [b"", b'age,city\n1,"a', b"\xff\xfe"])
def test_csv_that_cannot_be_read_says_why(body):
    assert "CSV" in refused(PEOPLE, body, "text/csv", error=InvalidBody).message


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"],
)
def test_other_content_types_are_refused_with_those_that_are_read(content_type):
    error = refused(PEOPLE, b"{}", content_type, error=UnsupportedMediaType)
    assert error.details["accepted"][0].startswith(JSON)


def test_a_content_type_may_carry_parameters():
    assert decode(PEOPLE, {"instances": [ROW]}, "Application/JSON; charset=UTF-8").n_rows == 1


def test_names_that_no_struct_can_carry_work_as_well():
    spec = frame_of(Column(name='a "b"\n\\', kind="integer", dtype="int64"))
    assert decode(spec, {"instances": [{'a "b"\n\\': 1}]}).columns == [[1]]
    assert decode(spec, {"instances": [[1]]}).columns == [[1]]


def test_integer_labels_may_be_sent_as_integers():
    spec = frame_of(Column(name="0", kind="integer", dtype="int64", label=0))
    assert decode(spec, {"dataframe_split": {"columns": [0], "data": [[5]]}}).columns == [[5]]


def test_bodies_are_decoded_without_numpy():
    code = (
        "import sys, mlserve_jupyter.api.decode, mlserve_jupyter.api.compare\n"
        "print(sorted({'numpy', 'pandas', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
