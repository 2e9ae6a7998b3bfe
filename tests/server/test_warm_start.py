"""What a Jupyter server loads after a restart, before anybody has asked the platform anything."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import httpx
import pytest

from mlserve_jupyter.api.manifest import encode_json
from tests import toys
from tests.live import LiveServer, start_server
from tests.server.manifests import manifest_of
from tests.stores import Stores
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

MIB = 2**20
BODY = {"instances": [[1.0]]}


def deploy(server: LiveServer, name: str, folder: Path) -> None:
    artifact = Path(toys.write_model(toys.BallastModel(MIB), folder).path)
    answer = server.request(
        "POST",
        "api/v1/models",
        files=[
            ("manifest", (None, encode_json(manifest_of(name, artifact)))),
            ("artifact", ("model", artifact.read_bytes())),
        ],
    )
    assert answer.status_code == 201, answer.text


def loaded_bytes(server: LiveServer) -> float:
    """Return what the models in memory take, by Jupyter's own metrics, which open nothing."""
    answer = httpx.get(
        server.jupyter_url + "metrics", headers={"Authorization": f"token {server.token}"}
    )
    return sum(map(float, re.findall(r"^mlserve_loaded_bytes\S* (\S+)$", answer.text, re.M)))


def has_opened_the_database(server: LiveServer) -> bool:
    return "sqlalchemy" in Path(f"/proc/{server.process.pid}/maps").read_text()


def load_ms_of_calls(server: LiveServer) -> list[float]:
    """Return what loading took of the calls that are in the log, the last one first."""
    page = server.request("GET", "api/v1/analytics/models/clf/predictions").json()
    return [call["load_ms"] for call in page["items"]]


@pytest.mark.parametrize("which", ["called lately", "pinned"])
def test_a_model_is_loaded_after_a_restart_without_any_request(
    stores: Stores, tmp_path: Path, which: str
) -> None:
    with start_server(tmp_path, stores=stores) as server:
        deploy(server, "clf", tmp_path)
        if which == "pinned":
            answer = server.request("PATCH", "api/v1/models/clf", json={"keep_warm": True})
            assert answer.json()["keep_warm"] is True
        else:
            answer = server.request("POST", "api/v1/predict/clf", json=BODY)
        assert answer.status_code == 200
    with start_server(tmp_path, stores=stores) as server:
        assert wait_for(lambda: loaded_bytes(server) >= MIB, 60.0)
        n_before = len(load_ms_of_calls(server))
        assert server.request("POST", "api/v1/predict/clf", json=BODY).status_code == 200
        assert wait_for(lambda: len(load_ms_of_calls(server)) > n_before)
        assert load_ms_of_calls(server)[0] == 0


@pytest.mark.parametrize("what", ["nothing was deployed", "nothing is kept warm"])
def test_the_database_is_opened_by_the_first_request_alone_where(tmp_path: Path, what: str) -> None:
    with start_server(tmp_path) as server:
        assert server.request("GET", "api/v1/models").status_code == 200
        if what == "nothing is kept warm":
            deploy(server, "clf", tmp_path)
    options = ["--MLServeApp.keep_warm_models=0"] if what == "nothing is kept warm" else []
    with start_server(tmp_path, *options) as server:
        assert not wait_for(lambda: has_opened_the_database(server), 3.0)
        assert server.request("GET", "api/v1/models").status_code == 200
        assert has_opened_the_database(server), "which this can tell"


def test_a_database_that_cannot_be_opened_is_logged_and_jupyter_goes_on(tmp_path: Path) -> None:
    with start_server(tmp_path) as server:
        deploy(server, "clf", tmp_path)
        database = server.data_dir / "mlserve" / "mlserve.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'later'")
    with start_server(tmp_path) as server:
        assert wait_for(lambda: "No model is loaded ahead of its calls" in server.log(), 60.0)
        assert "Traceback" not in server.log()
        assert server.request("GET", "api/v1/models").json()["code"] == "schema_unknown"
    assert server.process.returncode == 0
