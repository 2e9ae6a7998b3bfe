"""What may be deployed to a standalone server, and how a notebook does it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import httpx
import pytest

from tests import toys
from tests.standalone.hosts import StandaloneServer, start_standalone
from tests.waiting import wait_for

_COMMAND = re.compile(r"`(curl .*?)`")
BODY = {"instances": [[1.0]]}


def _command_in(refused: httpx.Response) -> str:
    """Return the command that a refusal names."""
    found = _COMMAND.search(refused.json()["message"])
    assert found is not None
    return f"{found[1]} --silent --fail"


@pytest.mark.parametrize("format", ["joblib", "cloudpickle"])
def test_artifacts_that_can_run_code_are_refused_unless_they_are_allowed(
    standalone: StandaloneServer, tmp_path: Path, format: str
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    refused = standalone.deploy(artifact, "clf", format=format)
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    assert "allow_pickle" in refused.json()["message"]
    assert standalone.request("GET", "api/v1/models/clf").status_code == 404
    assert not list((standalone.data_dir / "models").rglob("model.*"))


def test_what_was_deployed_before_needs_an_approval_or_the_option(tmp_path: Path) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    with start_standalone(tmp_path, "--allow-pickle") as server:
        assert server.deploy(artifact, "clf").status_code == 201
        assert server.request("POST", "api/v1/predict/clf", json=BODY).status_code == 200
    with start_standalone(tmp_path) as server:
        refused = server.request("POST", "api/v1/predict/clf", json=BODY)
        assert refused.status_code == 403
        assert "or start the server with --allow-pickle" in refused.json()["message"]
        assert "any more" not in refused.json()["message"]
        again = server.deploy(artifact, "clf")
        assert again.status_code == 403
        assert _command_in(again) == _command_in(refused)
        subprocess.run(
            ["sh", "-c", _command_in(refused)],
            env={**os.environ, "MLSERVE_KEY": server.key, "MLSERVE_URL": server.url},
            check=True,
            timeout=60,
        )
        assert server.request("POST", "api/v1/predict/clf", json=BODY).status_code == 200
        assert server.deploy(artifact, "clf").status_code == 201


def test_a_pickle_that_says_it_is_skops_is_refused(
    standalone: StandaloneServer, tmp_path: Path
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    refused = standalone.deploy(artifact, "clf", format="skops")
    assert (refused.status_code, refused.json()["code"]) == (422, "artifact_rejected")


def test_no_other_program_than_the_servers_own_interpreter_is_started(
    standalone: StandaloneServer, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    refused = standalone.request("POST", "api/v1/environments", json={"interpreter": str(program)})
    assert (refused.status_code, refused.json()["details"]) == (403, {"setting": "allow_pickle"})
    assert not (tmp_path / "ran").exists()


def test_a_skops_model_is_deployed_and_predicts(
    standalone: StandaloneServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    import mlserve_jupyter

    monkeypatch.setenv("MLSERVE_URL", standalone.url)
    monkeypatch.setenv("MLSERVE_KEY", standalone.key)
    x, y = [[0.0], [1.0], [2.0]], [0.0, 2.0, 4.0]
    model = make_pipeline(SimpleImputer(), LinearRegression()).fit(x, y)
    mlserve_jupyter.deploy(model, name="line", sample=x, format="skops")
    answer = standalone.request("POST", "api/v1/predict/line", json={"instances": [[3.0]]})
    assert answer.json()["predictions"] == pytest.approx([6.0])
    log = standalone.folder / "access.log"
    assert wait_for(lambda: '"model":"line","version":1' in log.read_text(), 30)


@pytest.mark.slow
def test_what_one_process_deploys_all_processes_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlserve_jupyter

    with start_standalone(
        tmp_path, "--workers=2", "--allow-pickle=True", "--catalog-poll-s=600",
        f"--access-log={tmp_path / 'access.log'}",
    ) as server:  # fmt: skip
        monkeypatch.setenv("MLSERVE_KEY", server.key)
        for name in ("one", "two", "three"):
            artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
            assert server.deploy(artifact, name).status_code == 201
            # Each request is a connection of its own, so both processes get some of them.
            for _ in range(12):
                answer = server.request("POST", f"api/v1/predict/{name}", json=BODY)
                assert answer.json()["predictions"] == [1.0]
        lines = (tmp_path / "access.log").read_text
        assert wait_for(lambda: all(f'"pid":{pid}' in lines() for pid in server.pids()), 30)

        slow = Path(toys.write_model(toys.SleepModel(), tmp_path).path)
        assert server.deploy(slow, "slow").status_code == 201
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                server.url + "api/v1/predict/slow",
                headers={"X-MLServe-Key": server.key},
                json={"instances": [[3.0]]},
                timeout=0.5,
            )
        assert wait_for(lambda: '"status":499' in lines(), 30)

        # A notebook names the server in the line itself.
        model = toys.SumModel()
        deployed = mlserve_jupyter.deploy(
            model, name="mine", sample=[[1.0]], to=f"http://127.0.0.1:{server.port}"
        )
        assert "mine" in repr(deployed)
        assert server.request("POST", "api/v1/predict/mine", json=BODY).status_code == 200
        assert os.path.exists(server.data_dir / "models")
