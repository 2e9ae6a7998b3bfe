from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import msgspec
import pytest
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics import prediction_pages
from mlserve_jupyter.analytics.labels import write_labels
from mlserve_jupyter.analytics.prediction_log import PredictionLog
from mlserve_jupyter.analytics.prediction_pages import CallFilter
from mlserve_jupyter.errors import InvalidRequest
from mlserve_jupyter.registry.catalog import ServedVersion
from mlserve_jupyter.settings import Settings
from tests.analytics.calls import NOON, WAIT_S, call, opened_log
from tests.registry.deploys import Deploys


@pytest.fixture
def served(deploy: Deploys) -> ServedVersion:
    return deploy()


@pytest.fixture
def log(
    engine: Engine, settings: Settings, deploy: Deploys, served: ServedVersion
) -> Iterator[PredictionLog]:
    """A log of ten calls, a second apart, of all kinds."""
    second = deploy()
    with opened_log(engine, settings) as log:
        for number in range(10):
            log.append(
                call(
                    second if number == 9 else served,
                    number,
                    created_at=NOON + timedelta(seconds=number),
                    status=("ok", "ok", "model_failed", "input_rejected")[number % 4],
                    method="sim" if number == 5 else "predict",
                    principal="ben (key)" if number == 6 else "ada (token)",
                    inputs=b'{"instances":[{"city":"Bern","size":%d}]}' % number,
                )
            )
        assert log.flush(WAIT_S)
        write_labels(engine, served.model_id, {"r4": [1], "r8": [0], "elsewhere": [1]})
        yield log


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (CallFilter(), range(10)),
        (CallFilter(version=2), [9]),
        (CallFilter(version=3), []),
        (CallFilter(since=NOON + timedelta(seconds=7)), [7, 8, 9]),
        (CallFilter(until=NOON + timedelta(seconds=2)), [0, 1]),
        (CallFilter(status="ok"), [0, 1, 4, 5, 8, 9]),
        (CallFilter(status="input_rejected"), [3, 7]),
        (CallFilter(status="failed"), [2, 3, 6, 7]),
        (CallFilter(method="sim"), [5]),
        (CallFilter(principal="ben (key)"), [6]),
        (CallFilter(labelled=True), [4, 8]),
        (CallFilter(labelled=False), [0, 1, 2, 3, 5, 6, 7, 9]),
        (CallFilter(status="ok", version=1, until=NOON + timedelta(seconds=5)), [0, 1, 4]),
    ],
)
def test_calls_are_found_by_what_is_looked_for(
    log: PredictionLog, served: ServedVersion, wanted: CallFilter, numbers: list[int]
) -> None:
    names, cursor = [], None
    while True:
        page = log.list_predictions(served.model_id, wanted, limit=3, cursor=cursor)
        assert len(page.items) <= 3
        names += [item.request_id for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert names == [f"r{number}" for number in sorted(numbers, reverse=True)]


def test_labels_come_with_their_calls(log: PredictionLog, served: ServedVersion) -> None:
    page = log.list_predictions(served.model_id)
    labels = {item.request_id: bytes(item.labels) for item in page.items}
    assert labels.pop("r4") == b"[1]"
    assert labels.pop("r8") == b"[0]"
    assert set(labels.values()) == {b"null"}


@pytest.mark.parametrize("text", [b"0", b"-17", b"1.5", b'"3"', b"true", b" 7", b"null"])
def test_a_body_that_is_a_single_value_comes_back_as_it_was(
    engine: Engine, settings: Settings, served: ServedVersion, text: bytes
) -> None:
    with opened_log(engine, settings) as log:
        log.append(call(served, status="invalid_body", inputs=text, outputs=None))
        assert log.flush(WAIT_S)
        [item] = log.list_predictions(served.model_id).items
    assert msgspec.json.decode(item.inputs) == msgspec.json.decode(text)


def test_inputs_are_searched_on_postgresql_alone(
    engine: Engine, log: PredictionLog, served: ServedVersion
) -> None:
    wanted = CallFilter(contains='{"instances": [{"size": 3}]}')
    if engine.dialect.name != "postgresql":
        with pytest.raises(InvalidRequest, match="PostgreSQL alone"):
            log.list_predictions(served.model_id, wanted)
        return
    page = log.list_predictions(served.model_id, wanted)
    assert [item.request_id for item in page.items] == ["r3"]
    wanted = CallFilter(contains='{"instances": [{"city": "Bern"}]}', status="failed")
    page = log.list_predictions(served.model_id, wanted)
    assert [item.request_id for item in page.items] == ["r7", "r6", "r3", "r2"]
    wanted = CallFilter(contains='{"city": "Bern"}', status="failed")
    page = log.list_predictions(served.model_id, wanted)
    assert [item.request_id for item in page.items] == ["r7", "r6", "r3", "r2"]
    for text in ("Bern", "{"):
        with pytest.raises(InvalidRequest):
            log.list_predictions(served.model_id, CallFilter(contains=text))


@pytest.mark.parametrize(
    "inputs",
    [
        b'{"instances":[{"city":"Olten","n":1},{"city":"Bern","n":2}]}',
        b'{"inputs":[{"n":2,"city":"Bern"}]}',
        b'{"inputs":{"city":["Olten","Bern"],"n":[1,2]}}',
        b'{"dataframe_records":[{"city":"Bern","n":2}]}',
        b'{"dataframe_split":{"columns":["n","city"],"data":[[1,"Olten"],[2,"Bern"]]}}',
    ],
)
def test_a_row_is_found_by_its_columns_in_every_form_that_names_them(
    engine: Engine, log: PredictionLog, served: ServedVersion, inputs: bytes
) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("inputs are searched on PostgreSQL alone")
    log.append(call(served, inputs=inputs, request_id="new"))
    assert log.flush(WAIT_S)
    for text, found in (
        ('{"city": "Bern", "n": 2}', ["new"]),
        ('{"city": "Genf"}', []),
        ('{"town": "Bern"}', []),
    ):
        page = log.list_predictions(served.model_id, CallFilter(contains=text))
        assert [item.request_id for item in page.items] == found


def test_a_page_ends_where_it_has_become_large_and_the_next_goes_on(
    engine: Engine,
    settings: Settings,
    served: ServedVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prediction_pages, "MAX_PAGE_BYTES", 25_000)
    with opened_log(engine, settings) as log:
        for number in range(7):
            log.append(call(served, number, inputs=b'"%s"' % (b"x" * 10_000)))
        assert log.flush(WAIT_S)
        sizes, cursor = [], None
        while True:
            page = log.list_predictions(served.model_id, limit=100, cursor=cursor)
            sizes.append(len(page.items))
            cursor = page.next_cursor
            if cursor is None:
                break
    assert sizes == [3, 3, 1]
