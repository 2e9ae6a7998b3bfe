"""What ``%mlserve`` and ``%mlserve list`` say of alerts that fire."""

from __future__ import annotations

from pathlib import Path

import pytest

import mlserve_jupyter as mlserve
from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.magics.firing import firing_line
from mlserve_jupyter.magics.list import Models
from mlserve_jupyter.magics.magic import run
from tests import toys
from tests.live import start_server
from tests.server.manifests import manifest_of
from tests.waiting import wait_for
from tests.widgets.pages import HOSTILE, alert

WAIT_S = 90


def test_one_alert_is_said_in_full_and_of_several_the_newest() -> None:
    one, other = alert("owner~wine"), alert("owner~churn")
    assert firing_line([one]) == f"Alert: {one.text}"
    line = firing_line([one, other])
    assert line.startswith("2 alerts")
    assert line.endswith(one.text)
    assert "\n" not in line


def test_the_list_says_what_fires_as_inert_text() -> None:
    shown = Models((), "http://127.0.0.1:8888/mlserve/", alerts=(alert(HOSTILE),))
    assert "<img" not in shown._repr_html_()
    assert f"Alert: The error rate of {HOSTILE}" in repr(shown)
    assert "Alert" not in repr(Models((), "http://127.0.0.1:8888/mlserve/"))


@pytest.mark.slow
def test_what_fires_is_said_below_the_subcommands_and_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with start_server(tmp_path, "--MLServeApp.alert_every_s=0.3") as server:
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(server.runtime_dir))
        monkeypatch.setenv("JPY_PARENT_PID", str(server.process.pid))
        artifact = Path(toys.write_model(toys.FailsOn13(), tmp_path).path)
        parts = [
            ("manifest", (None, encode_json(manifest_of("fails", artifact)))),
            ("artifact", ("model", artifact.read_bytes())),
        ]
        assert server.request("POST", "api/v1/models", files=parts).status_code == 201
        run("", {})
        assert "Alert:" not in capsys.readouterr().out
        for _ in range(25):
            server.request("POST", "api/v1/predict/fails", json={"instances": [[13]]})
        assert wait_for(lambda: mlserve.list().alerts, WAIT_S)

        said = "Alert: The error rate of owner~fails is 100.0%"
        assert said in repr(mlserve.list())
        run("", {})
        assert said in capsys.readouterr().out
        run("help", {})
        assert said not in capsys.readouterr().out
