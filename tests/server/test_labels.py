"""Labels over HTTP: what a server keeps of what turned out to be true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import mlserve_jupyter
from tests import toys
from tests.live import LiveServer, start_server
from tests.server.conftest import Post
from tests.server.manifests import manifest_of
from tests.stores import Stores


@pytest.fixture
def model(live_server: LiveServer, post_deploy: Post, tmp_path: Path) -> str:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    answer = post_deploy(manifest_of("labelled", artifact), artifact)
    assert answer.status_code == 201, answer.text
    return "labelled"


def test_a_call_is_labelled_by_its_request_id(live_server: LiveServer, model: str) -> None:
    called = live_server.request("POST", f"api/v1/predict/{model}", json={"instances": [[1.0]]})
    request_id = called.json()["request_id"]
    answer = live_server.request(
        "POST", f"api/v1/predictions/{request_id}/label", json={"model": model, "labels": [1.0]}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"model": model, "n_calls": 1, "n_rows": 1, "n_without_answer": 0}


def test_many_calls_are_labelled_at_once(live_server: LiveServer, model: str) -> None:
    calls = [{"request_id": f"r{i}", "labels": [i, None, "a", True]} for i in range(1200)]
    answer = live_server.request("POST", "api/v1/labels", json={"model": model, "calls": calls})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "model": model, "n_calls": 1200, "n_rows": 4800, "n_without_answer": 1200,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([1.0], "answered with 2 values, and there are 1 labels"),
        ([1.0, 2.0, None], "answered with 2 values, and there are 3 labels"),
        ([1.0, "many"], "Label 1 .* is 'many', and the model answers with a number"),
    ],
)
def test_labels_that_can_never_be_scored_are_refused_and_none_of_the_others_kept(
    live_server: LiveServer, model: str, labels: list[Any], words: str
) -> None:
    body = {"instances": [[1.0], [2.0]]}
    ids = [
        live_server.request("POST", f"api/v1/predict/{model}", json=body).json()["request_id"]
        for _ in range(2)
    ]
    calls = [
        {"request_id": ids[0], "labels": [1.0, None]},
        {"request_id": ids[1], "labels": labels},
    ]
    answer = live_server.request("POST", "api/v1/labels", json={"model": model, "calls": calls})
    assert (answer.status_code, answer.json()["code"]) == (422, "label_rejected"), answer.text
    assert re.search(words, answer.json()["message"])
    assert answer.json()["details"]["request_id"] == ids[1]
    logged = live_server.request("GET", f"api/v1/analytics/models/{model}/predictions").json()
    assert {each["labels"] for each in logged["items"] if each["request_id"] in ids} == {None}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "labelled", "labels": []}, 400),
        ({"model": "labelled", "labels": [[1]]}, 400),
        ({"model": "labelled", "labels": ["x" * 257]}, 400),
        ({"model": "labelled", "label": 1}, 400),
        ({"labels": [1]}, 400),
        ({"model": "nothing", "labels": [1]}, 404),
    ],
)
def test_what_is_no_label_is_refused(
    live_server: LiveServer, model: str, body: dict[str, Any], status: int
) -> None:
    answer = live_server.request("POST", "api/v1/predictions/r1/label", json=body)
    assert answer.status_code == status, answer.text


def test_what_is_no_request_id_is_refused(live_server: LiveServer, model: str) -> None:
    body = {"model": model, "labels": [1]}
    answer = live_server.request("POST", "api/v1/predictions/a%20b/label", json=body)
    assert answer.status_code == 400
    assert "request id" in answer.json()["message"]


@pytest.mark.slow
def test_labels_that_were_acknowledged_and_counts_that_were_written_outlive_a_kill(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(300, 2))
    ids = [f"call-{i}" for i in range(120)]
    with start_server(tmp_path, stores=stores) as server:
        monkeypatch.setenv("MLSERVE_URL", server.url)
        monkeypatch.setenv("MLSERVE_KEY", server.key)
        mlserve_jupyter.deploy(LogisticRegression().fit(X, X[:, 0] > 0), name="kept", sample=X)
        for i, request_id in enumerate(ids):
            called = server.request(
                "POST",
                "api/v1/predict/kept",
                json={"instances": [X[i].tolist()]},
                headers={"X-Request-Id": request_id},
            )
            assert called.status_code == 200, called.text
        assert mlserve_jupyter.drift("kept").drift.n_live_rows == 120  # and so it is written
        acknowledged = [
            request_id
            for i, request_id in enumerate(ids)
            if server.request(
                "POST",
                f"api/v1/predictions/{request_id}/label",
                json={"model": "kept", "labels": [bool(X[i, 0] > 0)]},
            ).is_success
        ]
        server.process.kill()
        server.process.wait()
    assert acknowledged == ids
    with start_server(tmp_path, stores=stores) as server:
        monkeypatch.setenv("MLSERVE_URL", server.url)
        monkeypatch.setenv("MLSERVE_KEY", server.key)
        [found] = mlserve_jupyter.quality("kept").quality.versions
        assert found.n_calls == len(ids)
        assert found.classification is not None
        assert found.classification.accuracy > 0.9
        drift = mlserve_jupyter.drift("kept").drift
        assert (drift.n_live_rows, drift.level) == (120, "none")
