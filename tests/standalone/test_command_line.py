"""Words on the command line that name nothing: refused in one line, with what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlserve_jupyter.errors import SettingsInvalid
from mlserve_jupyter.server.standalone.application import MLServeServer, main
from tests.standalone.hosts import start_standalone


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").mkdir()
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stats"], "no command 'stats'"),
        (["kye"], "Did you mean key?"),
        (["--port=0", "stats"], "no command 'stats'"),
        (["--port=0", "key"], "A command comes first"),
        (["--prot", "3"], "no option --prot. Did you mean --port?"),
        (["key", "--data-dri=x"], "Did you mean --data-dir?"),
        (["--MLServeServer.quota_per_minte=3"], "Did you mean --MLServeServer.quota_per_minute?"),
        (["--ServerApp.port=3"], "no option --ServerApp.port"),
    ],
)
def test_what_names_nothing_is_refused_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


def test_a_misspelled_line_of_a_configuration_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config" / "jupyter_mlserve_config.py"
    file.write_text("c.MLServeServer.quota_per_minte = 3\n")
    with pytest.raises(SettingsInvalid, match=r"Did you mean c\.MLServeServer\.quota_per_minute\?"):
        MLServeServer.configured([])
    file.write_text("c.MLServeServer.quota_per_minute = 3\nc.ServerApp.prot = 3\n")
    assert MLServeServer.configured([]).quota_per_minute == 3


def test_all_ways_to_write_an_option_are_known() -> None:
    app = MLServeServer.configured(
        [
            "--port",
            "1",
            "--workers=2",
            "--MLServeServer.drain_grace_s=3",
            "--JupyterApp.log_level=40",
        ]
    )
    assert (app.port, app.workers, app.log_level) == (1, 2, 40)
    assert MLServeServer.configured(["--debug", "-y"]).answer_yes


@pytest.mark.slow
def test_the_command_that_is_named_prints_this_servers_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a folder"
    with start_standalone(tmp_path, f"--data-dir={folder}") as server:
        assert f"`jupyter mlserve key --data-dir='{folder}'` prints it" in server.log()
    assert main(["key", f"--data-dir={folder}"]) == 0
    assert (
        capsys.readouterr().out.strip() == (folder / "mlserve-standalone.key").read_text().strip()
    )
