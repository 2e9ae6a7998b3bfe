"""The extension in Jupyter servers of several configurations, and when they end badly."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlserve_jupyter.client.connection import start_ticks
from tests import toys
from tests.live import LiveServer, start_server, wait_until_live
from tests.server.manifests import manifest_of, sample_of
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

BODY = {"instances": [[1.0]]}


def deploy(server: LiveServer, artifact: Path, name: str, **changes: Any) -> httpx.Response:
    from mlserve_jupyter.api.manifest import encode_json

    return server.request(
        "POST",
        "api/v1/models",
        files=[
            ("manifest", (None, encode_json(manifest_of(name, artifact, **changes)))),
            ("artifact", ("model", artifact.read_bytes())),
        ],
    )


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_it_works_behind_a_base_url_where_nothing_is_open_without_authentication(
    tmp_path: Path,
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    option = "--ServerApp.allow_unauthenticated_access=False"
    with start_server(tmp_path, option, base_url="/hub/user/ann/") as server:
        assert deploy(server, artifact, "clf").status_code == 201
        model = server.request("GET", "api/v1/models/clf").json()
        assert model["predict_path"] == "/hub/user/ann/mlserve/api/v1/predict/clf"
        root = server.jupyter_url.removesuffix("/hub/user/ann/")
        response = httpx.post(
            root + model["predict_path"], json=BODY, headers={"X-MLServe-Key": server.key}
        )
        assert response.json()["predictions"] == [1.0]
        assert httpx.post(root + model["predict_path"], json=BODY).status_code in (401, 403)
        assert httpx.get(server.url + "health/live").status_code == 200
        assert httpx.get(server.url + "health/ready").status_code == 200


CONFIG = """
from jupyter_server.auth import Authorizer, IdentityProvider, User


class Named(IdentityProvider):
    def get_user(self, handler):
        name = handler.request.headers.get("X-Test-User")
        return User(username=name) if name else None


class ReadOnly(Authorizer):
    def is_authorized(self, handler, user, action, resource):
        return not resource.startswith("mlserve:") or action == "read" or user.username == "ann"


c.ServerApp.identity_provider_class = Named
c.ServerApp.authorizer_class = ReadOnly
"""


def test_named_users_own_their_models_and_an_authorizer_that_refuses_is_obeyed(
    tmp_path: Path,
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "jupyter_server_config.py").write_text(CONFIG)
    with start_server(tmp_path) as server, httpx.Client(base_url=server.url) as client:
        xsrf = client.get(server.jupyter_url + "api/status", headers={"X-Test-User": "ann"})
        assert xsrf.status_code == 200

        def names(user: str) -> list[str]:
            page = client.get("api/v1/models", headers={"X-Test-User": user}).json()
            return [model["name"] for model in page["items"]]

        assert client.get("api/v1/models").status_code == 401
        assert names("ann") == names("Ann") == names("bob") == []
        from mlserve_jupyter.api.manifest import encode_json

        files = [
            ("manifest", (None, encode_json(manifest_of("clf", artifact)))),
            ("artifact", ("model", artifact.read_bytes())),
        ]
        client.cookies.set("_xsrf", "token")
        writing = {"X-XSRFToken": "token"}
        for user, status in (("ann", 201), ("bob", 403)):
            response = client.post(
                "api/v1/models", files=files, headers={"X-Test-User": user, **writing}
            )
            assert response.status_code == status, response.text
        assert names("ann") == ["clf"]
        assert names("Ann") == names("bob") == []
        hidden = client.get("api/v1/models/ann~clf", headers={"X-Test-User": "bob"})
        assert hidden.status_code == 404


@pytest.mark.parametrize("place", ["root/mlserve", "root/.hidden/mlserve"])
def test_a_data_folder_that_jupyter_would_serve_is_refused(tmp_path: Path, place: str) -> None:
    data_dir = f"--MLServeApp.data_dir={tmp_path / place}"
    hidden = "--ContentsManager.allow_hidden=True"
    with start_server(tmp_path, data_dir, hidden, with_extension=False) as server:
        assert server.request("GET", "health/live").status_code == 404
        assert "lies under the notebook root" in server.log()


def test_a_hidden_folder_under_the_notebook_root_will_do(tmp_path: Path) -> None:
    data_dir = f"--MLServeApp.data_dir={tmp_path / 'root/.hidden/mlserve'}"
    with start_server(tmp_path, data_dir) as server:
        server.request("GET", "api/v1/models")
        for route in ("files", "api/contents"):
            response = httpx.get(
                f"{server.jupyter_url}{route}/.hidden/mlserve/mlserve.db",
                headers={"Authorization": f"token {server.token}"},
            )
            assert response.status_code == 404


def test_row_27_a_server_that_is_killed_takes_its_workers_along_and_loses_nothing_it_acknowledged(
    tmp_path: Path,
) -> None:
    artifact = Path(toys.write_model(toys.PidModel(), tmp_path).path)
    with start_server(tmp_path) as server:
        assert deploy(server, artifact, "clf").status_code == 201
        pids = [server.request("POST", "api/v1/predict/clf", json=BODY).json()["predictions"][0]]
        supervisor = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
        # Calls that were answered within the log's flush interval may be lost, and are counted.
        for _ in range(5):
            server.request("POST", "api/v1/predict/clf", json=BODY)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        assert wait_for(lambda: not is_running(pids[0]) and not is_running(supervisor), 5.0)
    with start_server(tmp_path) as server:
        answer = server.request("POST", "api/v1/predict/clf", json=BODY)
        assert answer.status_code == 200
        page = server.request("GET", "api/v1/analytics/models/clf/predictions").json()
        assert len(page["items"]) + page["lost"] == 7


def test_row_28_a_kill_in_the_middle_of_a_deploy_leaves_the_version_before(tmp_path: Path) -> None:
    quick = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    slow = Path(toys.write_model(toys.SleepModel(), tmp_path).path)
    sample = sample_of([[30.0]], [30.0])
    with start_server(tmp_path) as server:
        assert deploy(server, quick, "clf").status_code == 201

        def doomed() -> None:
            with pytest.raises(httpx.TransportError):
                deploy(server, slow, "clf", sample=sample)

        deploying = threading.Thread(target=doomed)
        deploying.start()
        staging = server.data_dir / "mlserve" / "models" / ".staging"
        assert wait_for(lambda: staging.exists() and list(staging.iterdir()), 10)
        time.sleep(0.3)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        deploying.join()
    with start_server(tmp_path) as server:
        versions = server.request("GET", "api/v1/models/clf/versions").json()["items"]
        assert [version["version"] for version in versions] == [1]
        answer = server.request("POST", "api/v1/predict/clf", json=BODY)
        assert answer.json()["predictions"] == [1.0]
        assert not list((server.data_dir / "mlserve" / "models" / ".staging").iterdir())
        assert deploy(server, quick, "clf").json()["version"]["version"] == 2


def test_a_deploy_of_one_server_answers_on_another_with_the_same_data(tmp_path: Path) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    data_dir = f"--MLServeApp.data_dir={tmp_path / 'shared'}"
    with (
        start_server(tmp_path / "one", data_dir) as one,
        start_server(tmp_path / "two", data_dir) as two,
    ):
        assert two.request("GET", "api/v1/models").json()["items"] == []
        assert deploy(one, artifact, "clf").status_code == 201

        def answers() -> bool:
            return two.request("POST", "api/v1/predict/clf", json=BODY).status_code == 200

        assert wait_for(answers, 30)


def test_closing_the_server_ends_its_processes_and_removes_the_connection_file(
    tmp_path: Path,
) -> None:
    artifact = Path(toys.write_model(toys.PidModel(), tmp_path).path)
    with start_server(tmp_path) as server:
        deploy(server, artifact, "clf")
        [pid] = server.request("POST", "api/v1/predict/clf", json=BODY).json()["predictions"]
        connection_file = server.connection_file
        server.stop()
        assert server.process.returncode == 0
        assert not connection_file.exists()
        assert wait_for(lambda: not is_running(pid), 5.0)


def test_a_database_of_another_release_is_not_touched(tmp_path: Path) -> None:
    import sqlite3

    with start_server(tmp_path) as server:
        server.request("GET", "api/v1/models")
        database = server.data_dir / "mlserve" / "mlserve.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'later'")
    with start_server(tmp_path) as server:
        response = server.request("GET", "api/v1/models")
        assert (response.status_code, response.json()["code"]) == (503, "schema_unknown")
        assert server.request("GET", "health/ready").status_code == 503
        assert server.request("GET", "health/live").status_code == 200


def test_a_model_that_blocks_holds_up_neither_jupyter_nor_other_models(tmp_path: Path) -> None:
    slow = Path(toys.write_model(toys.SleepModel(), tmp_path).path)
    quick = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    with start_server(tmp_path, "--MLServeApp.predict_timeout_s=1.5") as server:
        for name, artifact in (("slow", slow), ("quick", quick)):
            assert deploy(server, artifact, name).status_code == 201
        results: list[httpx.Response] = []
        blocked = threading.Thread(
            target=lambda: results.append(
                server.request("POST", "api/v1/predict/slow", json={"instances": [[60.0]]})
            )
        )
        blocked.start()
        for _ in range(10):
            answer = server.request("POST", "api/v1/predict/quick", json=BODY)
            assert answer.json()["predictions"] == [1.0]
            assert not results
        blocked.join()
        assert (results[0].status_code, results[0].json()["code"]) == (504, "deadline_exceeded")
        again = server.request("POST", "api/v1/predict/slow", json={"instances": [[0.0]]})
        assert again.json()["predictions"] == [0.0]


DISK_BYTES = 16 * 2**20


@contextmanager
def on_a_small_disk(folder: Path) -> Iterator[tuple[LiveServer, Path]]:
    """Start a server whose data have a disk to themselves; give it and the disk, as it is seen."""
    disk = folder / "small"
    disk.mkdir()
    wrapper = folder / "on_a_small_disk.sh"
    wrapper.write_text(
        "#!/bin/sh\n"
        f"mount -t tmpfs -o size={DISK_BYTES},mode=0700 tmpfs {disk}\n"
        f'exec {sys.executable} "$@"\n'
    )
    wrapper.chmod(0o755)
    option = f"--MLServeApp.data_dir={disk}/mlserve"
    with start_server(
        folder, option, interpreter="unshare", before=("-rm", str(wrapper))
    ) as server:
        # The disk is there in the namespace of the server alone.
        yield server, Path(f"/proc/{server.process.pid}/root{disk}")


def test_row_33_a_full_disk_refuses_the_deploy_and_goes_on_predicting(tmp_path: Path) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    large = Path(toys.write_model(toys.BallastModel(40 * 2**20), tmp_path).path)
    with on_a_small_disk(tmp_path) as (server, _):
        assert deploy(server, artifact, "clf").status_code == 201
        refused = deploy(server, large, "clf")
        assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
        answer = server.request("POST", "api/v1/predict/clf", json=BODY)
        assert answer.json()["predictions"] == [1.0]
        versions = server.request("GET", "api/v1/models/clf/versions").json()["items"]
        assert [version["version"] for version in versions] == [1]
        assert deploy(server, artifact, "clf").status_code == 201


def test_row_33_while_the_disk_is_full_calls_are_answered_and_logged_once_there_is_space(
    tmp_path: Path,
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    n_calls = 0

    def call() -> None:
        nonlocal n_calls
        n_calls += 1
        body = {"instances": [[float(n_calls)]] * 200}
        answer = server.request("POST", "api/v1/predict/clf", json=body)
        assert answer.json()["predictions"] == [n_calls] * 200

    def logged() -> int:
        calls = server.request("GET", "api/v1/analytics/models/clf/predictions?limit=1000")
        return len(calls.json()["items"]) if calls.status_code == 200 else -1

    with on_a_small_disk(tmp_path) as (server, disk):
        assert deploy(server, artifact, "clf").status_code == 201
        call()
        with open(disk / "filling", "wb", buffering=0) as filling, suppress(OSError):
            while True:
                filling.write(bytes(4096))
        # The database has some room left in its own files.
        deadline_s = time.monotonic() + 60
        while "The prediction log waits for its database" not in server.log():
            assert time.monotonic() < deadline_s
            call()
        for _ in range(20):
            call()
        assert logged() < n_calls
        (disk / "filling").unlink()
        assert wait_for(lambda: logged() == n_calls, 30)


def test_row_33_a_full_disk_makes_the_server_unready_and_tells_a_stranger_nothing_else(
    tmp_path: Path,
) -> None:
    with on_a_small_disk(tmp_path) as (server, disk):
        assert wait_for(lambda: httpx.get(server.url + "health/ready").status_code == 200)
        (disk / "filling").write_bytes(b"x" * (DISK_BYTES - 2**19 - size_of(disk)))
        answer = httpx.get(server.url + "health/ready")
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_full")
        assert str(tmp_path) not in answer.text
        assert "free some on its disk" in server.log()
        (disk / "filling").unlink()
        assert httpx.get(server.url + "health/ready").status_code == 200


def size_of(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def file_server(tmp_path: Path) -> Iterator[LiveServer]:
    """A server whose database is a file, whatever the stores of the others are."""
    with start_server(tmp_path) as server:
        yield server


def test_a_database_that_is_deleted_stops_what_would_be_lost_and_not_the_predictions(
    file_server: LiveServer, tmp_path: Path
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    assert deploy(file_server, artifact, "clf").status_code == 201
    for path in (file_server.data_dir / "mlserve").glob("mlserve.db*"):
        path.unlink()
    answer = file_server.request("POST", "api/v1/predict/clf", json=BODY)
    assert answer.json()["predictions"] == [1.0]
    refused = deploy(file_server, artifact, "clf")
    assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
    assert "mlserve.db was deleted or replaced" in refused.json()["message"]
    ready = httpx.get(file_server.url + "health/ready")
    assert (ready.status_code, ready.json()["code"]) == (503, "storage_unavailable")
    assert "mlserve.db" not in ready.text
    models = file_server.data_dir / "mlserve" / "models"
    assert len(list(models.glob("*/*/v*/model.*"))) == 1
    assert not list((models / ".staging").iterdir())


def test_callers_that_wait_for_the_database_hold_up_no_prediction(
    file_server: LiveServer, tmp_path: Path
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    assert deploy(file_server, artifact, "clf").status_code == 201
    database = sqlite3.connect(
        file_server.data_dir / "mlserve" / "mlserve.db", isolation_level=None
    )
    database.execute("BEGIN IMMEDIATE")
    change = {"json": {"description": "changed"}}
    with ThreadPoolExecutor(40) as callers:
        waiting = [
            callers.submit(file_server.request, "PATCH", "api/v1/models/clf", **change)
            for _ in range(40)
        ]
        time.sleep(1)
        # Large enough to be decoded in a thread.
        large = {"instances": [[1.0]] * 30_000}
        answer = file_server.request("POST", "api/v1/predict/clf", json=large)
        assert not any(call.done() for call in waiting)
        database.execute("ROLLBACK")
        database.close()
        assert answer.json()["predictions"] == [1.0] * 30_000
        assert {call.result().status_code for call in waiting} == {200}


def test_an_extension_that_is_turned_off_leaves_jupyter_alone(tmp_path: Path) -> None:
    with start_server(tmp_path, "--MLServeApp.enabled=False", with_extension=False) as server:
        assert server.request("GET", "health/live").status_code == 404
        assert "turned off" in server.log()


def test_the_connection_file_says_how_to_reach_the_server(live_server: LiveServer) -> None:
    connection = json.loads(live_server.connection_file.read_bytes())
    assert connection["pid"] == live_server.process.pid
    assert connection["start_ticks"] == start_ticks(live_server.process.pid)
    assert connection["url"] == live_server.url
    assert connection["has_token"]
    wait_until_live(live_server)
