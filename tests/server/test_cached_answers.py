"""The result cache as a caller, the log and the notebook see it."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis
from sklearn.base import BaseEstimator
from sklearn.tree import DecisionTreeClassifier

import mlserve_jupyter
from tests.cache.redis_process import RedisProcess
from tests.live import LiveServer, start_server


class Dice(BaseEstimator):
    """Gives other answers each time."""

    def fit(self, X: Any, y: Any) -> Dice:
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X: Any) -> Any:
        return np.random.default_rng().random(len(X))


def test_a_caller_sees_that_the_answer_was_kept_and_so_does_the_log(
    live_server: LiveServer, notebook: Any
) -> None:
    X = np.arange(20.0).reshape(10, 2)
    tree = DecisionTreeClassifier().fit(X, X[:, 0] > 9)
    # Compiled, the version would keep its answers anew from some moment on.
    notebook.deploy(tree, name="kept", sample=X, runtime="native")
    notebook.deploy(Dice().fit(X, None), name="thrown", sample=X)
    bodies = [
        {"json": {"instances": [[1, 2.0]]}},
        {"json": {"dataframe_records": [{"x1": 2, "x0": 1.0}]}},
        {"content": "x1,x0\n2,1\n", "headers": {"Content-Type": "text/csv"}},
    ]
    answers = [live_server.request("POST", "api/v1/predict/kept", **b).json() for b in bodies]
    assert [answer["cached"] for answer in answers] == [False, True, True]
    assert [answer["predictions"] for answer in answers] == [[False]] * 3
    assert len({answer["request_id"] for answer in answers}) == 3
    page = live_server.request("GET", "api/v1/analytics/models/kept/predictions").json()
    assert [item["cached"] for item in page["items"]] == [True, True, False]
    assert page["items"][0]["outputs"] == [False]
    [use] = live_server.request("GET", "api/v1/models/kept/versions/1").json()["result_cache"]
    assert (use["method"], use["n_hits"], use["n_misses"]) == ("predict", 2, 1)

    rolls = [live_server.request("POST", "api/v1/predict/thrown", **bodies[0]) for _ in range(3)]
    assert len({json.dumps(roll.json()["predictions"]) for roll in rolls}) == 3
    assert "predict: not used" in str(notebook.show("thrown"))
    assert "predict: 2 of 3 calls" in str(notebook.show("kept"))


@pytest.mark.slow
def test_another_start_finds_answers_in_redis_and_none_needs_it(tmp_path: Path) -> None:
    X = np.arange(20.0).reshape(10, 2)
    redis = RedisProcess(tmp_path)
    option = f"--MLServeApp.redis_url={redis.url}"
    path = "api/v1/predict/tree"
    body = {"instances": [[1.0, 2.0]]}
    with start_server(tmp_path, option) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLSERVE_URL", server.url)
        patch.setenv("MLSERVE_KEY", server.key)
        mlserve_jupyter.deploy(
            DecisionTreeClassifier().fit(X, X[:, 0] > 9), name="tree", sample=X, runtime="native"
        )
        computed = server.request("POST", path, json=body).json()
    with start_server(tmp_path, option) as server:
        found = server.request("POST", path, json=body).json()
        assert (computed["cached"], found["cached"]) == (False, True)
        assert found["predictions"] == computed["predictions"]
        redis.kill()
        for i in range(20):
            new = server.request("POST", path, json={"instances": [[float(i), 0.5]]})
            assert (new.status_code, new.json()["cached"]) == (200, False)
        assert server.request("POST", path, json=body).json()["cached"], "it is in memory by now"
        assert "Redis is left alone" in server.log()


@pytest.mark.slow
def test_row_32_whatever_others_write_to_redis_only_what_this_server_kept_is_answered(
    tmp_path: Path,
) -> None:
    X = np.arange(20.0).reshape(10, 2)
    redis = RedisProcess(tmp_path)
    options = (f"--MLServeApp.redis_url={redis.url}", "--MLServeApp.result_cache=on")
    path = "api/v1/predict/tree"
    bodies = [{"instances": [[float(i), 2.0]]} for i in range(3)]
    with start_server(tmp_path, *options) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLSERVE_URL", server.url)
        patch.setenv("MLSERVE_KEY", server.key)
        mlserve_jupyter.deploy(
            DecisionTreeClassifier().fit(X, X[:, 0] > 9), name="tree", sample=X, runtime="native"
        )
        computed = [server.request("POST", path, json=body).json() for body in bodies]
    expiry = struct.pack(">d", time.time() + 3600)
    with Redis.from_url(redis.url) as client:
        keys = client.keys("mlserve:result:*")
        assert len(keys) == 3
        kept = client.get(keys[0])
        forgeries = (kept + b"1", expiry + b"[null," + b"[" * 100_000, expiry + b"[null,[true]]")
        for key, forgery in zip(keys, forgeries, strict=True):
            client.set(key, forgery)
    with start_server(tmp_path, *options) as server:
        for _ in range(2):
            for body, before in zip(bodies, computed, strict=True):
                found = server.request("POST", path, json=body).json()
                assert found["predictions"] == before["predictions"]
        assert found["cached"]
        assert "no server with this server's secret" in server.log()
    redis.kill()
