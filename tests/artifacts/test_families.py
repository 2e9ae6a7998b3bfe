from __future__ import annotations

import datetime as dt
import io
import json

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from mlserve_jupyter.artifacts.infer import choose_rows, infer_inputs
from mlserve_jupyter.artifacts.methods import can_be_asked, servable_methods
from mlserve_jupyter.artifacts.outputs import (
    decode_predictions,
    describe_output,
    encode_output,
)
from tests.artifacts.equality import assert_identical, round_trip
from tests.artifacts.families import (
    BINARY,
    CENTRED,
    COUNTS,
    ESTIMATORS,
    LABELS,
    MULTI_LABEL,
    N_ROWS,
    TARGET,
    TEXTS,
    WITHOUT_METHODS,
    data_for,
    fitted,
)

# scikit-learn warns of convergence on so little data, and of its own deprecated estimators.
pytestmark = pytest.mark.filterwarnings("ignore")


def assert_answers_equal(model, method, data):
    call = getattr(model, method)
    expected = call(data)
    body = encode_output(expected)
    assert encode_output(call(round_trip(data))) == body
    back = decode_predictions(json.loads(body), describe_output(expected, N_ROWS))
    if isinstance(expected, (np.ndarray, pd.DataFrame)) or sparse.issparse(expected):
        assert_identical(back, expected)


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) - set(WITHOUT_METHODS)))
def test_every_estimator_answers_a_request_as_it_answers_the_notebook(name):
    model, sample = fitted(name)
    methods = servable_methods(model)
    assert methods
    if can_be_asked(model, "inverse_transform"):
        methods.append("inverse_transform")
    for method in methods:
        assert_answers_equal(model, method, data_for(method, model, sample))


@pytest.mark.parametrize("name", sorted(set(ESTIMATORS) & set(WITHOUT_METHODS)))
def test_an_estimator_that_is_left_out_has_no_method_on_new_data(name):
    model, _ = fitted(name)
    assert servable_methods(model) == []


@pytest.fixture(scope="module")
def frame():
    n = np.arange(N_ROWS)
    texts = pd.Series(LABELS, dtype="str")
    return pd.DataFrame(
        {
            "text": texts.where(n % 5 != 0),
            "object": texts.astype(object).where(n % 7 != 0, None),
            "category": pd.Categorical(LABELS, categories=["yes", "no", 'perhaps, "maybe"']),
            "flag": n % 2 == 0,
            "maybe": pd.array([None if i % 6 == 0 else i % 2 == 0 for i in n], dtype="boolean"),
            "price": np.where(n % 4 == 0, np.nan, CENTRED[:, 0]),
            "single": CENTRED[:, 1].astype("float32"),
            "huge": 2**53 + n,
            "count": pd.array([None if i % 9 == 0 else 2**60 + i for i in n], dtype="Int64"),
            "when": pd.date_range("2024-02-28", periods=N_ROWS, freq="37h"),
            "aware": pd.date_range("2024-10-26", periods=N_ROWS, freq="h", tz="Europe/Berlin"),
        },
        index=n[::-1],
    )


def hour_of(frame):
    return frame.apply(lambda column: column.dt.hour)


def last_digit_of(frame):
    return frame.apply(lambda column: column.fillna(0).astype("int64") % 10)


def preprocessing():
    return ColumnTransformer(
        [
            (
                "hot",
                make_pipeline(
                    SimpleImputer(strategy="constant", fill_value="?", missing_values=None),
                    OneHotEncoder(handle_unknown="ignore"),
                ),
                ["object"],
            ),
            ("words", OrdinalEncoder(), ["text", "category"]),
            ("flags", "passthrough", ["flag"]),
            ("maybe", OrdinalEncoder(), ["maybe"]),
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["price", "single"]),
            ("integers", FunctionTransformer(last_digit_of), ["huge", "count"]),
            ("hours", FunctionTransformer(hour_of), ["when", "aware"]),
        ]
    )


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba"])
def test_a_pipeline_over_a_mixed_frame_answers_alike(frame, method):
    model = make_pipeline(
        preprocessing(), SimpleImputer(), RandomForestClassifier(5, random_state=0)
    ).fit(frame, LABELS)
    assert_answers_equal(model, method, frame)


def test_a_transformer_that_gives_frames_answers_alike(frame):
    model = preprocessing().set_params(hot="drop").set_output(transform="pandas").fit(frame)
    assert isinstance(model.transform(frame), pd.DataFrame)
    assert_answers_equal(model, "transform", frame)


def test_native_categories_and_missing_values_answer_alike(frame):
    columns = frame[["category", "price", "single", "huge"]]
    model = HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype")
    assert_answers_equal(model.fit(columns, BINARY), "predict_proba", columns)


def test_columns_that_a_selector_chose_by_dtype_are_chosen_alike(frame):
    model = ColumnTransformer(
        [
            ("numbers", SimpleImputer(), make_column_selector(dtype_include="float64")),
            ("single", "passthrough", make_column_selector(dtype_include="float32")),
            ("words", OrdinalEncoder(), make_column_selector(dtype_include="str")),
            ("kinds", OrdinalEncoder(), make_column_selector(dtype_include="category")),
        ]
    ).fit(frame)
    assert_answers_equal(model, "transform", frame)


@pytest.mark.parametrize("container", [list, np.array, pd.Series])
def test_a_text_model_answers_alike_whatever_holds_the_texts(container):
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, LABELS)
    assert_answers_equal(model, "predict_proba", container(TEXTS))


def test_a_text_column_in_a_frame_answers_alike():
    texts = pd.DataFrame({"text": TEXTS, "n": TARGET})
    model = ColumnTransformer([("words", CountVectorizer(), "text")], remainder="passthrough")
    assert_answers_equal(model.fit(texts), "transform", texts)


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, sparse.coo_array])
def test_sparse_rows_answer_alike(form):
    rows = form(COUNTS)
    assert_answers_equal(LogisticRegression().fit(rows, LABELS), "decision_function", rows)


def test_multi_label_and_multi_output_answers_are_alike():
    forest = RandomForestClassifier(5, random_state=0)
    both = np.column_stack([LABELS, BINARY])
    assert_answers_equal(forest.fit(CENTRED, both), "predict_proba", CENTRED)
    assert_answers_equal(forest.fit(CENTRED, both), "predict", CENTRED)
    many = OneVsRestClassifier(LogisticRegression()).fit(CENTRED, MULTI_LABEL)
    assert_answers_equal(many, "predict", CENTRED)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([True, False]),
        np.array([2**62 + 1, -5]),
        np.array([1.0, 2.0]),
        np.array(["a", "ü"]),
        np.array(["a", "ü"], dtype=object),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_class_labels_of_any_type_answer_alike(labels):
    model = KNeighborsClassifier().fit(CENTRED, labels[np.arange(N_ROWS) % 2])
    assert_answers_equal(model, "predict", CENTRED)


@pytest.mark.parametrize("layout", ["C", "F", "sliced"])
def test_sums_round_alike_however_the_sample_lies_in_memory(layout):
    rng = np.random.default_rng(3)
    wide = rng.normal(size=(200, 60)) * 10.0 ** rng.integers(-8, 8, size=60)
    rows = {"C": wide, "F": np.asfortranarray(wide), "sliced": wide[:, 5:35]}[layout]
    model = LinearRegression().fit(rows, rng.normal(size=200))
    for sample in (rows, pd.DataFrame(rows), pd.DataFrame(rows, copy=False)):
        chosen = choose_rows(sample, infer_inputs(sample))
        call = model.fit(sample, rng.normal(size=200)).predict
        again = round_trip(chosen, infer_inputs(sample))
        assert encode_output(call(again)) == encode_output(call(chosen))


@pytest.mark.parametrize("built", ["around an array", "column by column", "read"])
def test_sums_round_alike_however_a_mixed_frame_lies_in_memory(built):
    rng = np.random.default_rng(3)
    names = [f"f{j}" for j in range(20)]
    rows = rng.normal(size=(300, 20)) * 10.0 ** rng.integers(-6, 6, size=20)
    frame = pd.DataFrame(rows, columns=names, copy=False)
    if built == "column by column":
        frame = pd.DataFrame({name: rows[:, j] for j, name in enumerate(names)})
    frame.insert(3, "city", rng.choice(["u", "v"], 300))
    if built == "read":
        frame = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    model = make_pipeline(ColumnTransformer([("n", "passthrough", names)]), LinearRegression())
    model.fit(frame, rng.normal(size=300))
    spec = infer_inputs(frame)
    chosen = choose_rows(frame, spec)
    expected = encode_output(model.predict(chosen))
    assert encode_output(model.predict(round_trip(chosen, spec))) == expected


def test_functions_answer_alike():
    def total(rows: pd.DataFrame) -> dict[str, object]:
        return {"sum": rows["a"].sum(), "on": dt.date(2024, 5, 1), "rows": len(rows)}

    assert servable_methods(total) == ["__call__"]
    assert_answers_equal(total, "__call__", pd.DataFrame({"a": [0.1, 0.2]}))


def test_neighbours_of_different_number_are_ragged_lists():
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(radius=1.0).fit(CENTRED)
    assert_answers_equal(model, "radius_neighbors", CENTRED)
    spec = describe_output(model.radius_neighbors(CENTRED), N_ROWS)
    assert (spec.container, spec.by_row, len(spec.parts)) == ("tuple", True, 2)


def test_a_ridge_on_one_row_answers_alike():
    model = Ridge().fit(CENTRED, TARGET)
    assert_answers_equal(model, "predict", CENTRED[:1])
