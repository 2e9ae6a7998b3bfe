"""Deploys over HTTP: what is published, what is refused, and what neither leaves behind."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import open_engine, reading
from mlserve_jupyter.storage.tables import model_versions, models
from tests import toys
from tests.live import LiveServer
from tests.server.manifests import manifest_of, sample_of
from tests.waiting import wait_for

Post = Callable[..., httpx.Response]


@pytest.fixture(autouse=True)
def nothing_half_made(live_server: LiveServer) -> Iterator[None]:
    """Whatever a test does, no staged upload stays, and each folder of a version has its row."""
    yield
    staged = artifacts_of(live_server) / ".staging"
    assert not staged.exists() or not list(staged.iterdir())
    deployed = [
        json.loads(path.read_bytes()) for path in artifacts_of(live_server).rglob("metadata.json")
    ]
    on_disk = {f"{metadata['model']} v{metadata['version']}" for metadata in deployed}
    assert on_disk == published_in(live_server.settings)


def published_in(settings: Settings) -> set[str]:
    """Return the versions of all users that the database has."""
    engine = open_engine(settings)
    statement = sa.select(models.c.name, model_versions.c.version).join(model_versions)
    with reading(engine) as connection:
        found = {f"{name} v{version}" for name, version in connection.execute(statement)}
    engine.dispose()
    return found


def artifacts_of(server: LiveServer) -> Path:
    """Return the folder of the artifacts, or of their copies where they lie elsewhere."""
    name = "artifact-copies" if server.settings.artifacts_url else "models"
    return server.data_dir / "mlserve" / name


def test_a_deployed_model_answers_as_the_notebook_and_the_next_deploy_is_version_two(
    live_server: LiveServer, notebook: Any
) -> None:
    X, y = load_iris(return_X_y=True, as_frame=True)
    clf = LogisticRegression(max_iter=500).fit(X, y)
    first = notebook.deploy(clf, name="iris", sample=X)
    response = live_server.request(
        "POST",
        "api/v1/predict/iris?method=predict_proba",
        json={"dataframe_split": X.to_dict("split")},
    )
    assert response.json()["predictions"] == clf.predict_proba(X).tolist()
    assert (response.json()["model"], response.json()["version"]) == ("iris", 1)
    assert first.version == 1
    again = LogisticRegression(max_iter=500, C=0.01).fit(X, y)
    assert notebook.deploy(again, name="iris", sample=X).version == 2
    body = {"instances": X.values[:3].tolist()}
    for query, model in (("", again), ("?version=1", clf), ("?version=2", again)):
        response = live_server.request("POST", f"api/v1/predict/iris{query}", json=body)
        assert response.json()["predictions"] == model.predict(X[:3]).tolist()


def test_what_was_verified_is_kept_with_the_version(live_server: LiveServer, notebook: Any) -> None:
    X, y = load_iris(return_X_y=True)
    notebook.deploy(LogisticRegression(max_iter=500).fit(X, y), name="verified", sample=X)
    version = live_server.request("GET", "api/v1/models/verified/versions/1").json()
    verification = version["verification"]
    assert verification["verified"]
    assert verification["n_rows"] > 10
    assert {"predict", "predict_proba", "decision_function"} <= set(verification["methods"])
    assert verification["max_abs_difference"] == 0.0
    assert verification["loaded_bytes"] > 0
    assert version["environment"]["packages"]["scikit-learn"]


def test_deploys_of_one_name_at_once_make_versions_without_a_gap(
    live_server: LiveServer, post_deploy: Post, tmp_path: Path
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    with ThreadPoolExecutor(4) as pool:
        responses = list(
            pool.map(lambda _: post_deploy(manifest_of("at-once", artifact), artifact), range(4))
        )
    assert [response.status_code for response in responses] == [201] * 4
    assert sorted(r.json()["version"]["version"] for r in responses) == [1, 2, 3, 4]


def test_an_answer_other_than_the_notebooks_is_refused_and_shown(
    live_server: LiveServer, post_deploy: Post, tmp_path: Path
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    good = manifest_of("compared", artifact, sample=sample_of([[1.0], [2.0]], [1.0, 2.0]))
    assert post_deploy(good, artifact).status_code == 201
    bad = manifest_of("compared", artifact, sample=sample_of([[1.0], [2.0]], [1.0, 2.5]))
    response = post_deploy(bad, artifact)
    assert response.status_code == 422
    assert response.json()["code"] == "verification_failed"
    assert "2.0 instead of 2.5 at predictions[1]" in response.json()["message"]
    versions = live_server.request("GET", "api/v1/models/compared/versions").json()["items"]
    assert [version["version"] for version in versions] == [1]


def test_the_last_bits_of_numbers_may_differ_and_that_is_said(
    post_deploy: Post, tmp_path: Path
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    sample = sample_of([[1e6]], [1e6 + 1e-9])
    response = post_deploy(manifest_of("rounded", artifact, sample=sample), artifact)
    assert response.status_code == 201
    difference = response.json()["version"]["verification"]["max_abs_difference"]
    assert 0 < difference < 1e-8
    assert any("differ" in warning for warning in response.json()["warnings"])


def test_a_model_that_ends_its_process_when_it_is_loaded_is_refused(
    post_deploy: Post, tmp_path: Path
) -> None:
    artifact = Path(toys.write_model(toys.ExitAtLoad(), tmp_path).path)
    response = post_deploy(manifest_of("exits", artifact), artifact)
    assert response.status_code == 422
    assert "exit 3" in response.json()["message"]


def test_a_module_that_is_missing_is_named_with_what_to_install(post_deploy: Post) -> None:
    artifact = b"\x80\x04cno_such_module.inner\nModel\n."
    response = post_deploy(manifest_of("missing", artifact), artifact)
    assert response.status_code == 422
    assert response.json()["code"] == "environment_unusable"
    assert "pip install no_such_module" in response.json()["message"]


@pytest.mark.parametrize("methods", [["a"] * 1001, ["a" * 100_000]])
def test_methods_without_number_are_refused_without_being_repeated(
    post_deploy: Post, tmp_path: Path, methods: list[str]
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    response = post_deploy(manifest_of("many", artifact, methods=methods), artifact)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    assert len(response.content) < 2000


def test_an_interpreter_that_is_not_there_is_refused(post_deploy: Post, tmp_path: Path) -> None:
    from mlserve_jupyter.api.manifest import Environment

    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    for interpreter in ("/no/such/python", "python3", str(tmp_path)):
        environment = Environment(interpreter=interpreter, python_version="3.11.0")
        response = post_deploy(manifest_of("nowhere", artifact, environment=environment), artifact)
        assert response.status_code == 422, interpreter
        assert interpreter in response.json()["message"]


def test_bytes_that_are_not_the_announced_ones_are_refused(post_deploy: Post) -> None:
    manifest = manifest_of("damaged", b"\x80\x04N.")
    response = post_deploy(manifest, b"\x80\x04N.x")
    assert (response.status_code, response.json()["code"]) == (422, "artifact_rejected")


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"\x1f\x8b\x08", b"x\x9c", b"", b"plain"])
def test_the_format_is_decided_from_the_bytes(post_deploy: Post, content: bytes) -> None:
    response = post_deploy(manifest_of("disguised", content), content)
    assert (response.status_code, response.json()["code"]) == (422, "artifact_rejected")


def test_row_20_a_name_that_is_not_one_is_refused_with_one_that_is(post_deploy: Post) -> None:
    for name in ("My Model!", "../up", "", "a" * 65, "a..b", "é", "a\x00b"):
        response = post_deploy(manifest_of(name, b"\x80\x04N."), b"\x80\x04N.")
        assert (response.status_code, response.json()["code"]) == (400, "invalid_name")
    assert "'my-model'" in post_deploy(manifest_of("My Model!", b"x"), b"x").json()["message"]


def test_bodies_that_are_not_a_deploy_are_refused(live_server: LiveServer) -> None:
    def send(**options: Any) -> tuple[int, str]:
        response = live_server.request("POST", "api/v1/models", **options)
        return response.status_code, response.json()["code"]

    assert send(json={}) == (415, "unsupported_media_type")
    assert send(files=[("artifact", ("x", b"x"))]) == (400, "invalid_request")
    assert send(files=[("manifest", (None, b"{"))]) == (400, "invalid_body")
    assert send(files=[("manifest", (None, b'{"name": 1}'))]) == (400, "invalid_body")
    assert send(files=[("other", (None, b"x"))]) == (400, "invalid_request")
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert send(content=b"no boundary", headers=headers) == (400, "invalid_body")


def test_an_upload_that_is_cut_off_leaves_nothing(live_server: LiveServer) -> None:
    manifest = encode_json(manifest_of("cut-off", b"\x80" * 4_000_000))
    head = (
        b'--b\r\nContent-Disposition: form-data; name="manifest"\r\n\r\n'
        + manifest
        + b"\r\n--b\r\n"
        b'Content-Disposition: form-data; name="artifact"; filename="m"\r\n\r\n'
    )
    place = urlsplit(live_server.url)
    staging = artifacts_of(live_server) / ".staging"
    with socket.create_connection((place.hostname, place.port)) as connection:
        connection.sendall(
            f"POST {place.path}api/v1/models HTTP/1.1\r\nHost: {place.netloc}\r\n"
            f"Authorization: token {live_server.token}\r\nContent-Length: 9000000\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
            + head
        )
        connection.sendall(b"\x80" * 3_000_000)
        assert wait_for(lambda: any(staging.glob("*")))
    assert wait_for(lambda: not any(staging.glob("*")))
    assert live_server.request("GET", "api/v1/models/cut-off").status_code == 404


def test_a_sender_who_leaves_during_the_deploy_does_not_take_the_artifact_along(
    live_server: LiveServer, tmp_path: Path
) -> None:
    artifact = Path(toys.write_model(toys.SleepModel(), tmp_path).path)
    manifest = manifest_of("left-alone", artifact, sample=sample_of([[0.5]], [0.5]))
    request = httpx.Request(
        "POST",
        live_server.url + "api/v1/models",
        headers={"Authorization": f"token {live_server.token}"},
        files=[
            ("manifest", (None, encode_json(manifest))),
            ("artifact", ("model", artifact.read_bytes())),
        ],
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    place = urlsplit(live_server.url)
    staging = artifacts_of(live_server) / ".staging"
    with socket.create_connection((place.hostname, place.port)) as connection:
        connection.sendall(f"POST {place.path}api/v1/models HTTP/1.1\r\n{head}\r\n".encode())
        connection.sendall(request.read())
        assert wait_for(lambda: any(path.stat().st_size for path in staging.glob("*/model.*")))
        time.sleep(0.2)  # by then it is being verified, which takes half a second
    versions = "api/v1/models/left-alone/versions"
    assert wait_for(lambda: live_server.request("GET", versions).status_code == 200)
    body = {"instances": [[0.0]]}
    answer = live_server.request("POST", "api/v1/predict/left-alone", json=body)
    assert answer.json()["predictions"] == [0.0]
    downloaded = live_server.request("GET", f"{versions}/1/artifact")
    assert downloaded.content == artifact.read_bytes()


def test_an_artifact_comes_back_as_it_was_deployed(
    live_server: LiveServer, post_deploy: Post, tmp_path: Path
) -> None:
    artifact = Path(toys.write_model(toys.BallastModel(3_000_000), tmp_path).path)
    assert post_deploy(manifest_of("download", artifact), artifact).status_code == 201
    response = live_server.request("GET", "api/v1/models/download/versions/1/artifact")
    assert response.content == artifact.read_bytes()


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_an_artifact_that_is_not_whole_is_not_sent(
    live_server: LiveServer, post_deploy: Post, tmp_path: Path, damage: str
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    name = f"artifact-{damage}"
    assert post_deploy(manifest_of(name, artifact), artifact).status_code == 201
    folder = artifacts_of(live_server)
    (published,) = (
        path
        for path in folder.rglob("model.*")
        if ".staging" not in path.parts
        and json.loads((path.parent / "metadata.json").read_bytes())["model"] == name
    )
    if damage == "missing":
        published.unlink()
    else:
        os.truncate(published, 10)
    response = live_server.request("GET", f"api/v1/models/{name}/versions/1/artifact")
    if live_server.settings.artifacts_url:
        assert response.content == artifact.read_bytes(), "it is fetched anew"
        return
    assert (response.status_code, response.json()["code"]) == (503, "artifact_corrupt")
    assert str(folder) not in response.text


def test_a_models_life_ends_with_archiving_then_deleting(
    live_server: LiveServer, post_deploy: Post, tmp_path: Path
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    for _ in range(2):
        assert post_deploy(manifest_of("mortal", artifact), artifact).status_code == 201
    path = "api/v1/models/mortal"
    body = {"instances": [[1.0]]}
    predict = "api/v1/predict/mortal"
    assert live_server.request("DELETE", path).status_code == 409
    patched = live_server.request("PATCH", f"{path}/versions/2", json={"status": "archived"})
    assert patched.json()["status"] == "archived"
    assert live_server.request("POST", predict, json=body).json()["version"] == 1
    refused = live_server.request("POST", f"{predict}?version=2", json=body)
    assert (refused.status_code, refused.json()["code"]) == (404, "version_not_found")
    assert (
        live_server.request("PATCH", path, json={"description": "gone soon"}).json()["description"]
        == "gone soon"
    )
    assert live_server.request("PATCH", path, json={"name": "other"}).status_code == 400
    live_server.request("PATCH", f"{path}/versions/1", json={"status": "archived"})
    assert live_server.request("POST", predict, json=body).status_code == 404
    assert live_server.request("DELETE", path).status_code == 204
    assert live_server.request("GET", path).status_code == 404
    other = post_deploy(manifest_of("lasting", artifact), artifact)
    assert other.status_code == 201
    log = live_server.request("GET", "api/v1/analytics/models/lasting/predictions").json()
    assert log["lost"] == 0


@pytest.mark.parametrize("version", ["0", "-1", "x", "1.0", "99", "9" * 30])
def test_a_version_that_does_not_exist_is_404(
    live_server: LiveServer, post_deploy: Post, tmp_path: Path, version: str
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    name = f"versions-{abs(hash(version))}"
    assert post_deploy(manifest_of(name, artifact), artifact).status_code == 201
    response = live_server.request("GET", f"api/v1/models/{name}/versions/{version}")
    assert (response.status_code, response.json()["code"]) == (404, "version_not_found")
