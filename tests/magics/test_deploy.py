"""Deploying from a notebook's namespace to a real server, and what is said when it cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import mlserve_jupyter as mlserve
from mlserve_jupyter.errors import (
    InvalidName,
    InvalidRequest,
    InvalidUsage,
    NotebookError,
    NotPicklable,
    NotServable,
    RequestFailed,
    SampleUnusable,
    VersionNotFound,
)
from mlserve_jupyter.magics.magic import run
from tests.live import LiveServer, start_server

X_train = pd.DataFrame({"a": np.arange(8.0), "b": np.arange(8.0)[::-1]})
Y = np.array([0, 1] * 4)
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def server(live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> LiveServer:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(live_server.runtime_dir))
    monkeypatch.setenv("JPY_PARENT_PID", str(live_server.process.pid))
    return live_server


@pytest.fixture
def namespace() -> dict[str, Any]:
    return {"clf": LogisticRegression().fit(X_train, Y), "X_train": X_train, "y": Y}


def test_the_magic_finds_name_and_sample_and_says_so(namespace: dict[str, Any]) -> None:
    deployed = run("deploy clf", namespace)
    assert deployed.name == "clf"
    assert deployed.url.endswith("/mlserve/api/v1/predict/clf")
    shown = repr(deployed)
    assert "the DataFrame `X_train`" in shown
    assert "8 rows answered exactly as in the notebook" in shown
    np.testing.assert_array_equal(
        run("predict clf X_train", namespace), namespace["clf"].predict(X_train)
    )


def test_the_function_finds_the_variables_of_its_caller() -> None:
    Local_model = LogisticRegression().fit(X_train, Y)
    deployed = mlserve.deploy(Local_model)
    assert deployed.name == "local_model"
    assert "local_model, after the variable Local_model" in repr(deployed)
    assert deployed.source == "the DataFrame `X_train`"


def test_the_same_name_makes_the_next_version(namespace: dict[str, Any]) -> None:
    first = run("deploy clf --name next --note 'the first'", namespace)
    second = run("deploy clf --name next", namespace)
    assert second.version == first.version + 1
    model = run("show next", namespace)
    assert [version.version for version in model.versions] == [second.version, first.version]
    assert "the first" in repr(model)


def test_the_snippets_work_as_they_are(
    namespace: dict[str, Any], server: LiveServer, tmp_path: Path
) -> None:
    run("deploy clf --name snippet", namespace)
    snippet = run("snippet snippet --method predict_proba", namespace)
    expected = namespace["clf"].predict_proba(X_train.head(1)).tolist()
    env = {**os.environ, "JUPYTER_TOKEN": server.token}
    python = subprocess.run(
        [sys.executable, "-c", snippet.python], env=env, capture_output=True, text=True, timeout=60
    )
    assert python.stdout.strip() == str(expected), python.stderr
    shell = subprocess.run(
        ["bash", "-c", snippet.curl], env=env, capture_output=True, text=True, timeout=60
    )
    assert json.loads(shell.stdout)["predictions"] == expected


def test_a_text_pipeline_and_a_function_deploy(namespace: dict[str, Any]) -> None:
    texts = ["good wine", "bad wine", "good cheese", "bad cheese"]
    namespace["texts"] = texts
    namespace["reader"] = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(
        texts, [1, 0, 1, 0]
    )
    assert run("deploy reader", namespace).source == "the variable `texts`"
    assert run("predict reader texts[:2]", namespace).tolist() == [1, 0]
    exec("def double(rows):\n    return rows * 2", namespace)
    run("deploy double --sample X_train", namespace)
    pd.testing.assert_frame_equal(run("predict double X_train", namespace), X_train * 2)


def test_a_class_of_the_notebook_is_said_to_travel(namespace: dict[str, Any]) -> None:
    source = (
        "import numpy as np\n"
        "class Threshold:\n"
        "    def predict(self, X):\n"
        "        return np.asarray(X)[:, 0] > 3\n"
        "threshold = Threshold()"
    )
    namespace["__name__"] = "__main__"
    exec(source, namespace)
    deployed = run("deploy threshold --sample X_train", namespace)
    assert "Threshold, from this notebook" in repr(deployed)
    assert run("predict threshold X_train", namespace).tolist() == [False] * 4 + [True] * 4


def test_answers_that_are_random_are_verified_by_shape_and_it_is_said(
    namespace: dict[str, Any],
) -> None:
    exec(
        "import numpy as np\ndef dice(rows):\n    return np.random.random(len(rows))",
        namespace,
    )
    deployed = run("deploy dice --sample X_train", namespace)
    assert len(deployed.warnings) == 1
    assert "gives other answers each time" in deployed.warnings[0]
    assert "in the same shape as in the notebook" in repr(deployed)
    assert "exactly" not in repr(deployed)


def test_a_name_in_quotes_is_no_model(namespace: dict[str, Any]) -> None:
    with pytest.raises(NotServable, match=r"drop the quotes, `%mlserve deploy clf`"):
        run('deploy "clf"', namespace)
    with pytest.raises(NotServable, match=r"'other' is a text, not a model: give the variable"):
        run("deploy 'other'", namespace)


def test_a_row_that_is_a_series_is_refused_with_how_to_take_it(namespace: dict[str, Any]) -> None:
    run("deploy clf --name rows", namespace)
    with pytest.raises(RequestFailed, match=r"`df\.iloc\[\[0\]\]` and not `df\.iloc\[0\]`"):
        run("predict rows X_train.iloc[0]", namespace)
    assert len(run("predict rows X_train.iloc[[0]]", namespace)) == 1


def test_a_method_that_fails_on_the_sample_is_left_out_and_it_is_said(
    namespace: dict[str, Any],
) -> None:
    source = (
        "class Half:\n"
        "    def predict(self, X): return X['a'].tolist()\n"
        "    def transform(self, X): raise RuntimeError('not today')\n"
        "half = Half()"
    )
    namespace["__name__"] = "__main__"
    exec(source, namespace)
    deployed = run("deploy half --sample X_train", namespace)
    assert deployed.answer.version.methods == ["predict"]
    assert "`transform` is left out" in " ".join(deployed.warnings)
    assert "not today" in " ".join(deployed.warnings)


def test_without_verification_it_is_said(namespace: dict[str, Any]) -> None:
    deployed = run("deploy clf --name unverified --no-verify", namespace)
    assert "nothing (deployed with --no-verify)" in repr(deployed)


def test_columns_beyond_the_models_can_be_dropped(namespace: dict[str, Any]) -> None:
    run("deploy clf --name strict", namespace)
    with pytest.raises(RequestFailed, match="c"):
        run("predict strict X_train.assign(c=1)", namespace)
    run("deploy clf --name lenient --extra-columns drop", namespace)
    assert len(run("predict lenient X_train.assign(c=1)", namespace)) == 8


@pytest.mark.parametrize(
    ("line", "error", "said"),
    [
        ("deploy clf --name 'Not a name'", InvalidName, "'Not a name' is not a name"),
        ("deploy y", NotServable, "An ndarray has no method to serve"),
        ("deploy LogisticRegression", NotServable, "LogisticRegression is a class"),
        ("deploy unfitted", NotServable, "not fitted"),
        ("deploy locked", NotPicklable, "attribute `lock`: a thread lock"),
        ("deploy clf --sample y", SampleUnusable, "does not fit"),
        ("deploy clf --sample X_train[['a']]", SampleUnusable, "does not fit"),
        ("deploy clf --method fit", NotServable, "no method `fit`"),
        ("deploy clf --method score_them", NotServable, "it has predict, predict_proba"),
        ("deploy len --sample X_train --runtime onnx", RequestFailed, "(?i)onnx|compiled"),
        ("deploy [clf][0].set_params()[0]", NotebookError, "cannot be evaluated"),
        ("deploy dict(a=clf)['a'].__class__()", InvalidName, "--name"),
        ("show no-such-model", RequestFailed, "no-such-model"),
        ("predict no-such-model X_train", RequestFailed, "no-such-model"),
        ("deploy clf --to nowhere", NotebookError, "no server of the name 'nowhere'"),
        ("logs no-such-model", RequestFailed, "no-such-model"),
        ("logs clf --limit 0", InvalidRequest, "limit must be 1 or more"),
    ],
)
def test_what_cannot_be_done_is_said(
    namespace: dict[str, Any], line: str, error: type[Exception], said: str
) -> None:
    namespace["LogisticRegression"] = LogisticRegression
    namespace["unfitted"] = LogisticRegression()
    namespace["locked"] = LogisticRegression().fit(X_train, Y)
    namespace["locked"].lock = threading.Lock()
    with pytest.raises(error, match=said) as caught:
        run(line, namespace)
    assert "\n" not in str(caught.value)


def test_a_model_that_needs_its_process_is_refused_and_leaves_nothing(
    namespace: dict[str, Any],
) -> None:
    namespace["__name__"] = "__main__"
    exec(
        "import os\nHOME = os.getpid()\n"
        "class Homesick:\n"
        "    def __init__(self): self.home = os.getpid()\n"
        "    def predict(self, X): return [self.home == os.getpid()] * len(X)\n"
        "homesick = Homesick()",
        namespace,
    )
    with pytest.raises(RequestFailed) as caught:
        run("deploy homesick --sample X_train", namespace)
    assert caught.value.server_code == "verification_failed"
    assert "homesick" not in [model.name for model in run("list", namespace)]


def test_logs_are_a_frame_with_inputs_and_outputs(namespace: dict[str, Any]) -> None:
    run("deploy clf --name framed", namespace)
    run("predict framed X_train[:3]", namespace)
    run("predict framed X_train[:2] --method predict_proba", namespace)
    answers = namespace["clf"].predict(X_train[:3]).tolist()
    calls = run("logs framed --calls", namespace)
    assert calls["method"].tolist() == ["predict_proba", "predict"]
    assert calls["n_rows"].tolist() == [2, 3]
    assert calls["outputs"][1] == answers
    rows = run("logs framed --method predict --since 1h", namespace)
    assert rows["prediction"].tolist() == answers
    assert rows["row"].tolist() == [0, 1, 2]
    assert rows[["a", "b"]].to_numpy().tolist() == X_train[:3].to_numpy().tolist()
    assert len(run("logs framed --limit 1 --calls", namespace)) == 1
    assert len(run("logs framed --since 2000-01-01 --until 2001-01-01", namespace)) == 0
    assert calls.attrs == {"lost": 0, "cut": False}


def test_what_is_logged_is_chosen_with_the_deploy_and_changed_later(
    namespace: dict[str, Any],
) -> None:
    deployed = run("deploy clf --name discreet --log-without a", namespace)
    assert "all calls, without a" in repr(deployed)
    run("predict discreet X_train[:2]", namespace)
    assert "a" not in run("logs discreet", namespace).columns
    assert run("logs discreet", namespace)["b"].tolist() == X_train["b"][:2].tolist()
    assert "keeps no calls" in repr(run("logging discreet --log none", namespace))
    run("predict discreet X_train[:3]", namespace)
    assert len(run("logs discreet --calls", namespace)) == 1
    assert "no calls, which are only counted" in repr(run("show discreet", namespace))
    with pytest.raises(RequestFailed, match="no input column 'x77'"):
        run("logging discreet --log-without x77", namespace)
    with pytest.raises(InvalidUsage, match="cannot be logged"):
        run("logging discreet --log sometimes", namespace)
    assert "no calls" in repr(run("logging discreet", namespace))
    assert "all calls, without a" in repr(run("logging discreet --log all", namespace))
    assert "without a" in repr(run("deploy clf --name discreet --log 0.4", namespace))
    assert "would be left out" in repr(run("logging discreet --log no-inputs", namespace))
    cleared = repr(run("logging discreet --log inputs --log-without ''", namespace))
    assert cleared.endswith("keeps 40 % of the calls, at random.")


def test_archiving_asks_first(namespace: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    run("deploy clf --name old", namespace)
    run("deploy clf --name old", namespace)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert "Nothing of old" in repr(run("archive old", namespace))
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert "Archived version 2 of old; version 1 answers now." in repr(
        run("archive old --version 2", namespace)
    )
    with pytest.raises(VersionNotFound, match="no version 9: it has versions 1, 2"):
        run("archive old --version 9", namespace)
    for line in ("logs old --version 9", "snippet old --version 9"):
        with pytest.raises(RequestFailed, match="'old' has no version 9"):
            run(line, namespace)


def test_a_snippet_names_a_method_that_the_version_has(namespace: dict[str, Any]) -> None:
    run("deploy clf --name methodical", namespace)
    with pytest.raises(InvalidUsage, match=r"no method 'predict_prob'; did you mean predict_pro"):
        run("snippet methodical --method predict_prob", namespace)


def test_archiving_has_a_way_back(namespace: dict[str, Any]) -> None:
    run("deploy clf --name back", namespace)
    run("deploy clf --name back", namespace)
    shown = repr(run("archive back --version 2 --yes", namespace))
    assert "`%mlserve archive back --version 2 --undo` puts it back." in shown
    with pytest.raises(RequestFailed, match="archive back --version 2 --undo`"):
        run("predict back X_train --version 2", namespace)
    assert "Version 2 of back is active again; version 2 answers now." in repr(
        run("archive back --version 2 --undo", namespace)
    )
    run("archive back --yes", namespace)
    with pytest.raises(RequestFailed, match="`%mlserve archive back --undo` makes"):
        run("predict back X_train", namespace)
    assert mlserve.archive("back", undo=True).versions == (1, 2)
    assert len(run("predict back X_train", namespace)) == 8
    assert "could be active again" in repr(run("archive back --undo", namespace))


def test_where_nobody_can_be_asked_archiving_wants_a_yes(
    namespace: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(question: str) -> str:
        raise EOFError

    run("deploy clf --name older", namespace)
    monkeypatch.setattr("builtins.input", refuse)
    with pytest.raises(InvalidUsage, match="--yes"):
        run("archive older", namespace)
    assert "no version answers now" in repr(run("archive older --yes", namespace))


def test_row_06_what_is_shown_is_text_and_never_html(namespace: dict[str, Any]) -> None:
    note = "<img src=x onerror=alert(1)>"
    deployed = run(f'deploy clf --name inert --note "{note}"', namespace)
    model = run("show inert", namespace)
    for shown in (deployed, model, run("list", namespace), run("snippet inert", namespace)):
        assert "<img" not in shown._repr_html_()
        bundle = shown._repr_mimebundle_()
        assert set(bundle) == {"text/plain", "text/html"}
    assert "&lt;img" in model._repr_html_()


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False
    shell.extension_manager.load_extension("mlserve_jupyter")
    yield shell
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()


def test_tab_offers_the_models_of_the_server(
    shell: InteractiveShell, namespace: dict[str, Any]
) -> None:
    from IPython.core.completer import provisionalcompleter

    run("deploy clf --name tabbed", namespace)
    with provisionalcompleter():
        line = "%mlserve show tab"
        assert [c.text for c in shell.Completer.completions(line, len(line))] == ["tabbed"]
        line = "%mlserve predict tabbed X --version "
        assert [c.text for c in shell.Completer.completions(line, len(line))] == ["1"]
        line = "%mlserve snippet tabbed --method predict_p"
        assert [c.text for c in shell.Completer.completions(line, len(line))] == ["predict_proba"]


@pytest.mark.slow
def test_behind_a_base_url_the_kernel_finds_its_server_all_the_same(
    namespace: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = "--ServerApp.allow_unauthenticated_access=False"
    with start_server(tmp_path, closed, base_url="/user/ann/") as server:
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(server.runtime_dir))
        monkeypatch.setenv("JPY_PARENT_PID", str(server.process.pid))
        deployed = run("deploy clf", namespace)
        assert deployed.url == server.url + "api/v1/predict/clf"
        assert "/user/ann/mlserve/" in deployed.snippet.curl
        expected = namespace["clf"].predict(X_train)
        np.testing.assert_array_equal(run("predict clf X_train", namespace), expected)


def test_an_outside_program_gets_the_notebooks_answers(
    namespace: dict[str, Any], server: LiveServer
) -> None:
    deployed = run("deploy clf --name outside", namespace)
    body = json.dumps({"instances": X_train.to_numpy().tolist()}).encode()
    headers = {"Authorization": f"token {server.token}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(deployed.url, body, headers)) as response:
        answer = json.load(response)
    assert answer["predictions"] == namespace["clf"].predict(X_train).tolist()


def test_functions_that_work_in_place_answer_over_rest_as_they_do_here(
    namespace: dict[str, Any],
) -> None:
    namespace["__name__"] = "__main__"
    exec(
        "from functools import partial\n"
        "def add(x, n): return x + n\n"
        "plus_five = partial(add, n=5)\n"
        "def take(rows): return [row.pop('amount') for row in rows]\n"
        "def centre(X):\n"
        "    X['a'] -= 1\n"
        "    return X['a'].to_numpy()\n",
        namespace,
    )
    namespace["orders"] = [{"amount": n} for n in range(6)]
    before = X_train.copy()
    run("deploy take --sample orders", namespace)
    run("deploy centre --sample X_train", namespace)
    deployed = run("deploy plus_five --sample X_train", namespace)
    assert deployed.answer.version.method == "__call__"
    assert namespace["orders"] == [{"amount": n} for n in range(6)]
    pd.testing.assert_frame_equal(X_train, before)
    assert run("predict take orders", namespace) == [0, 1, 2, 3, 4, 5]
    assert run("predict take orders[2:3]", namespace) == [2]
    assert run("predict centre X_train", namespace).tolist() == (before["a"] - 1).tolist()
    pd.testing.assert_frame_equal(run("predict plus_five X_train", namespace), before + 5)


def test_a_version_that_takes_something_else_is_warned_of(namespace: dict[str, Any]) -> None:
    namespace["narrow"] = LogisticRegression().fit(X_train[["a"]], Y)
    namespace["X"] = X_train[["a"]]
    assert run("deploy clf --name changed", namespace).warnings == ()
    assert run("deploy clf --name changed", namespace).warnings == ()
    run("archive changed --version 2 --yes", namespace)
    deployed = run("deploy narrow --name changed", namespace)
    assert deployed.warnings == (
        "version 1 took 2 columns, this one takes 1: calls that were written for it will be "
        "refused",
    )
    assert "version 1 took 2 columns" in repr(deployed)


def test_the_function_takes_the_name_of_its_argument() -> None:
    alpha = beta = LogisticRegression().fit(X_train, Y)
    assert mlserve.deploy(beta, sample=X_train).name == "beta"
    with pytest.raises(InvalidName, match="alpha, beta"):
        mlserve.deploy([alpha][0], sample=X_train)
    for model in [alpha]:
        with pytest.raises(InvalidName, match="variable of a loop"):
            mlserve.deploy(model, sample=X_train)
    with pytest.raises(InvalidName, match="A name is a text"):
        mlserve.deploy(alpha, name=5)  # type: ignore[arg-type]


def test_without_a_token_the_snippets_carry_the_key_of_the_server(
    namespace: dict[str, Any], own_server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads(own_server.connection_file.read_text())
    own_server.connection_file.write_text(json.dumps({**content, "has_token": False}))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(own_server.runtime_dir))
    monkeypatch.setenv("JPY_PARENT_PID", str(own_server.process.pid))
    deployed = run("deploy clf", namespace)
    snippet = deployed.snippet
    assert "JUPYTER_TOKEN" not in snippet.curl + snippet.python + snippet.hint
    assert '-H "X-MLServe-Key: $MLSERVE_KEY"' in snippet.curl
    assert str(own_server.connection_file) in snippet.hint
    assert own_server.key not in repr(snippet) + repr(deployed)
    env = {**os.environ, "MLSERVE_KEY": own_server.key}
    expected = namespace["clf"].predict(X_train.head(1)).tolist()
    shell = subprocess.run(
        ["bash", "-c", snippet.curl], env=env, capture_output=True, text=True, timeout=60
    )
    assert json.loads(shell.stdout)["predictions"] == expected
    python = subprocess.run(
        [sys.executable, "-c", snippet.python], env=env, capture_output=True, text=True, timeout=60
    )
    assert python.stdout.strip() == str(expected), python.stderr


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import only_beside_the_notebook", "Import it at the top of a cell"),
        ("open('beside_the_notebook.txt').close()", "by its absolute path"),
    ],
)
def test_what_only_a_fresh_process_misses_has_a_next_step(
    namespace: dict[str, Any],
    body: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "only_beside_the_notebook.py").touch()
    (tmp_path / "beside_the_notebook.txt").touch()
    namespace["__name__"] = "__main__"
    exec(f"def needy(rows):\n    {body}\n    return [1] * len(rows)", namespace)
    with pytest.raises(RequestFailed, match=said) as caught:
        run("deploy needy --sample X_train", namespace)
    assert "\n" not in str(caught.value)


def test_an_interrupt_is_one_line(
    shell: InteractiveShell, namespace: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    shell.user_ns.update(namespace)
    shell.run_cell("def tired(rows): raise KeyboardInterrupt")
    shell.run_cell("%mlserve deploy tired --sample X_train")
    shown = capsys.readouterr()
    said = "KeyboardInterrupt: tired was not deployed, unless `%mlserve list` shows it."
    assert (shown.out + shown.err).strip() == said


def test_a_series_comes_back_with_its_name_and_the_index_of_the_input(
    namespace: dict[str, Any],
) -> None:
    namespace["__name__"] = "__main__"
    exec(
        "import pandas as pd\n"
        "def rate(X): return pd.cut(X['a'], [-1, 3, 9], labels=['low', 'high']).rename('risk')",
        namespace,
    )
    namespace["named"] = X_train.set_axis(list("pqrstuvw"))
    run("deploy rate --sample named", namespace)
    back = run("predict rate named[1:5]", namespace)
    pd.testing.assert_series_equal(back, namespace["rate"](namespace["named"][1:5]))
    assert back.cat.ordered
