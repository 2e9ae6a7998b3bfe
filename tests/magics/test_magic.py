"""The magic in a real IPython shell: displays, errors of one line, and Tab."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from sklearn.linear_model import LinearRegression

from mlserve_jupyter.magics import magic

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[InteractiveShell]:
    """A shell with the magic, where no server is running."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.delenv("MLSERVE_URL", raising=False)
    monkeypatch.setattr(magic, "warm_in_background", lambda: None)
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False
    shell.extension_manager.load_extension("mlserve_jupyter")
    yield shell
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()


def completions(shell: InteractiveShell, line: str) -> list[str]:
    with provisionalcompleter():
        return [each.text for each in shell.Completer.completions(line, len(line))]


def run(shell: InteractiveShell, line: str) -> Any:
    return shell.run_cell(line)


def test_alone_it_lists_the_subcommands(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shell, "%mlserve")
    shown = capsys.readouterr().out
    assert "deploy" in shown
    assert "Take a version, or the whole model, out of service; --undo" in shown


def test_help_shows_every_argument(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shell, "%mlserve deploy --help")
    shown = capsys.readouterr().out
    assert shown.startswith("%mlserve deploy OBJ [--name NAME]")
    assert "--no-verify" in shown


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("%mlserve deplyo clf", "InvalidUsage: %mlserve has no subcommand 'deplyo'"),
        ("%mlserve deploy nothing", "NotebookError: There is no `nothing` in this notebook"),
        ("%mlserve list", "ServerNotFound: No Jupyter server with mlserve_jupyter is running"),
        ("import mlserve_jupyter; mlserve_jupyter.list()", "ServerNotFound: No Jupyter server"),
    ],
)
def test_an_error_is_one_line_from_magics_and_from_functions(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    run(shell, line)
    captured = capsys.readouterr()
    shown = (captured.out + captured.err).strip()
    assert shown.startswith(said)
    assert "\n" not in shown


def test_tab_offers_subcommands(shell: InteractiveShell) -> None:
    assert set(completions(shell, "%mlserve de")) == {"deploy"}
    assert {"list", "logs"} <= set(completions(shell, "%mlserve l"))


def test_tab_offers_the_options_that_are_not_given_yet(shell: InteractiveShell) -> None:
    shell.user_ns["clf"] = LinearRegression()
    offered = completions(shell, "%mlserve deploy clf --name wine --n")
    assert set(offered) == {"--note", "--no-verify"}


def test_tab_offers_choices(shell: InteractiveShell) -> None:
    assert set(completions(shell, "%mlserve deploy clf --format c")) == {"cloudpickle"}


def test_tab_offers_servable_objects_only(shell: InteractiveShell) -> None:
    shell.run_cell("def score_row(rows): return rows\nscore_text = 'text'\nscore_table = [1]")
    shell.user_ns["score_model"] = LinearRegression()
    shell.user_ns["score_class"] = LinearRegression
    assert set(completions(shell, "%mlserve deploy score_")) == {"score_row", "score_model"}


def test_tab_offers_rows_for_a_sample(shell: InteractiveShell) -> None:
    shell.run_cell("import numpy as np\nx_rows = np.ones((3, 2))\nx_number = 3")
    assert set(completions(shell, "%mlserve deploy clf --sample x_")) == {"x_rows"}
    assert set(completions(shell, "%mlserve predict wine x_")) == {"x_rows"}


def test_tab_offers_nothing_for_models_where_no_server_runs(shell: InteractiveShell) -> None:
    # What is typed already, so that IPython offers nothing either.
    assert completions(shell, "%mlserve show ba") == ["ba"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("%mlserve deploy ", {"clf"}),
        ("%mlserve deploy clf --sample ", {"Zeta"}),
        ("%mlserve deploy clf --sample=Ze", {"Zeta"}),
        ("%mlserve deploy clf --method ", {"predict"}),
        ("%mlserve deploy clf --format=clo", {"cloudpickle"}),
        ('%mlserve deploy clf --sample Zeta["', {"alpha", "beta beta"}),
        ('%mlserve deploy clf --sample Zeta[["alpha", "beta b', {"beta beta"}),
        ('%mlserve deploy models["', {"one"}),
        ("%mlserve deploy holder.in", {"inner"}),
        ("%mlserve archive wine ", {"--version", "--yes", "--undo", "--to"}),
        ("%mlserve list ", {"--scope", "--to"}),
        ("%mlserve show wine --n", {"--n"}),
        ("%mlserve nonsense ", {""}),
    ],
)
def test_tab_offers_what_fits_and_nothing_else(
    shell: InteractiveShell, line: str, offered: set[str]
) -> None:
    shell.run_cell(
        "import pandas as pd\nZeta = pd.DataFrame({'alpha': [1], 'beta beta': [2]})\n"
        "class Holder: pass\nholder = Holder()"
    )
    shell.user_ns["clf"] = LinearRegression().fit([[1.0]], [1.0])
    shell.user_ns["models"] = {"one": shell.user_ns["clf"]}
    shell.user_ns["holder"].inner = shell.user_ns["clf"]
    assert set(completions(shell, line)) == offered


def test_the_import_brings_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules); import mlserve_jupyter; dir(mlserve_jupyter);"
        "new = {m.partition('.')[0] for m in set(sys.modules) - before};"
        "print(sorted(new - sys.stdlib_module_names - {'mlserve_jupyter'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_the_kernel_side_never_imports_the_server_side() -> None:
    code = (
        "import sys; import mlserve_jupyter as m;"
        "[getattr(m, name) for name in m.__all__]; import mlserve_jupyter.magics.magic;"
        "side = ('server', 'platform', 'serving', 'accounts', 'registry', 'analytics', 'storage');"
        "print([m for m in sys.modules if m.startswith(tuple('mlserve_jupyter.' + s for s in side))"
        " or m.split('.')[0] in ('tornado', 'sqlalchemy', 'jupyter_server', 'pandas', 'sklearn')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_every_public_name_can_be_imported() -> None:
    import mlserve_jupyter

    for name in mlserve_jupyter.__all__:
        assert getattr(mlserve_jupyter, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'deplyo'"):
        mlserve_jupyter.deplyo  # noqa: B018


def test_the_variables_of_a_function_are_seen(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell("def ship():\n    inner = None\n    %mlserve deploy inner --name mine")
    shell.run_cell("ship()")
    # Had it not been seen, there would be "no `inner` in this notebook".
    assert capsys.readouterr().out.startswith("ServerNotFound")


def test_the_variable_of_a_loop_asks_for_a_name_that_may_come_from_it(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell("for key in ['a']:\n    model = None\n    %mlserve deploy key")
    assert "InvalidName: `key` is the variable of a loop" in capsys.readouterr().out
    shell.run_cell("for key in ['A b']:\n    model = None\n    %mlserve deploy model --name {key}")
    assert "InvalidName: 'A b' is not a name" in capsys.readouterr().out
