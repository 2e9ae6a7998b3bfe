"""The client against a real server, and against none."""

from __future__ import annotations

import shutil
import socket
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import mlserve_jupyter as mlserve
from mlserve_jupyter.api.manifest import Environment, Manifest, Provenance
from mlserve_jupyter.api.signature import InputSpec, Signature
from mlserve_jupyter.artifacts.loading import sha256_of
from mlserve_jupyter.client.connection import Connection, find_connection
from mlserve_jupyter.client.http import Client, connect
from mlserve_jupyter.errors import RequestFailed, ServerNotFound
from tests.live import LiveServer

X = pd.DataFrame({"a": np.arange(8.0), "b": np.arange(8.0)[::-1]})
Y = np.array(["no", "yes"] * 4)


@pytest.fixture
def client(live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(live_server.runtime_dir))
    monkeypatch.setenv("JPY_PARENT_PID", str(live_server.process.pid))
    return connect()


def test_a_model_answers_as_it_does_here(client: Client) -> None:
    model = LogisticRegression().fit(X, Y)
    mlserve.deploy(model, "client-logistic", sample=X)
    answers = client.predict("client-logistic", X)
    assert answers.dtype == model.predict(X).dtype
    np.testing.assert_array_equal(answers, model.predict(X))
    probabilities = client.predict("client-logistic", X, method="predict_proba")
    np.testing.assert_array_equal(probabilities, model.predict_proba(X))


def test_several_arrays_come_back_as_several(client: Client) -> None:
    model = KNeighborsClassifier(2).fit(X.to_numpy(), Y)
    mlserve.deploy(model, "client-neighbors", sample=X.to_numpy(), method="kneighbors")
    distances, indices = client.predict("client-neighbors", X.to_numpy()[:3])
    expected_distances, expected_indices = model.kneighbors(X.to_numpy()[:3])
    np.testing.assert_array_equal(distances, expected_distances)
    np.testing.assert_array_equal(indices, expected_indices)


def test_the_token_of_jupyter_opens_it_too(live_server: LiveServer) -> None:
    other = Client(Connection(live_server.url, live_server.token))
    assert isinstance(other.models(), list)
    other.close()


@pytest.mark.parametrize("key", ["", "mls_bad", "wrong"])
def test_a_bad_credential_is_refused_in_words(live_server: LiveServer, key: str) -> None:
    other = Client(Connection(live_server.url, key))
    with pytest.raises(RequestFailed) as caught:
        other.models()
    assert caught.value.status in (401, 403)
    assert len(caught.value.message) > 20
    other.close()


@pytest.mark.parametrize(
    ("query", "key", "said"),
    [
        ("", "mls_bad", "the API key of the environment variable MLSERVE_KEY: set MLSERVE_KEY to"),
        ("", "wrong", "the token of the environment variable MLSERVE_KEY"),
        ("?token=wrong", "mls_x", "the token of the URL, behind `token=`"),
        ("", "", "sent nothing: sign in with `%mlserve login http"),
    ],
)
def test_a_refusal_says_which_credential_was_sent(
    live_server: LiveServer, tmp_path: Path, query: str, key: str, said: str
) -> None:
    environ = {"MLSERVE_KEY": key, "JUPYTER_RUNTIME_DIR": str(tmp_path)}
    client = Client(find_connection(live_server.url + query, environ=environ))
    with pytest.raises(RequestFailed) as caught:
        client.me()
    assert said in caught.value.message
    assert "exactly one" not in caught.value.message
    client.close()


def test_a_model_that_is_not_there_has_the_servers_code(client: Client) -> None:
    with pytest.raises(RequestFailed) as caught:
        client.model("no-such-model")
    assert (caught.value.status, caught.value.server_code) == (404, "model_not_found")
    assert "no-such-model" in str(caught.value)
    assert caught.value.request_id


def test_nobody_at_the_address_says_what_to_start() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/mlserve/"
    other = Client(Connection(url, ""))
    with pytest.raises(ServerNotFound, match=f"{url}.*jupyter lab"):
        other.models()
    other.close()


def test_a_jupyter_server_without_the_extension_is_told_apart(live_server: LiveServer) -> None:
    url = live_server.jupyter_url + "not-mlserve/"
    other = Client(Connection(url, live_server.token))
    with pytest.raises(RequestFailed, match="does not have mlserve_jupyter"):
        other.models()
    other.close()


def test_an_upload_is_counted_and_leaves_memory_flat(client: Client, tmp_path: Path) -> None:
    artifact = tmp_path / "model.joblib"
    with artifact.open("wb") as file:
        file.truncate(48 * 2**20)
    manifest = Manifest(
        name="client-big",
        format="joblib",
        size_bytes=artifact.stat().st_size,
        sha256=sha256_of(artifact),
        method="predict",
        methods=["predict"],
        signature=Signature(InputSpec("list", (None,), ())),
        environment=Environment(interpreter=str(shutil.which("true")), python_version="3"),
        provenance=Provenance(model_class="none"),
    )
    seen: list[tuple[int, int]] = []
    tracemalloc.start()
    try:
        # A file of zeros is no artifact, which the server finds out once it has all of it.
        with pytest.raises(RequestFailed, match="."):
            client.deploy(manifest, artifact, lambda sent, total: seen.append((sent, total)))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen[-1] == (48 * 2**20, 48 * 2**20)
    assert len(seen) > 10
    assert peak_bytes < 16 * 2**20
    assert "client-big" not in [model.name for model in client.models()]


def test_the_connection_is_shared_between_calls(client: Client) -> None:
    assert connect() is client
