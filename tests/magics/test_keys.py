"""``%mlserve keys`` against a real server: made, shown once, listed, completed, revoked."""

from __future__ import annotations

import html
import subprocess
import uuid

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import mlserve_jupyter as mlserve
from mlserve_jupyter.errors import InvalidUsage, RequestFailed
from mlserve_jupyter.magics.completion import complete
from mlserve_jupyter.magics.magic import run
from tests.live import NO_TLS, LiveServer

X_rows = np.arange(8.0).reshape(4, 2)


@pytest.fixture(autouse=True)
def server(live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> LiveServer:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(live_server.runtime_dir))
    monkeypatch.setenv("JPY_PARENT_PID", str(live_server.process.pid))
    return live_server


@pytest.fixture
def name() -> str:
    return f"key-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def model() -> str:
    name = f"model-{uuid.uuid4().hex[:8]}"
    fitted = LogisticRegression().fit(X_rows, [0, 1, 0, 1])
    mlserve.deploy(fitted, name=name, sample=X_rows)
    return name


def test_a_key_is_shown_once_with_a_call_that_works(name: str, model: str) -> None:
    made = run(f"keys create {name} --models {model} --expires 30d --rate 100", {})
    for shown in (repr(made), html.unescape(made._repr_html_())):
        assert made.key in shown
        assert model in shown
        assert "only time" in shown
    assert made.key not in repr(run("keys list", {}))
    assert made.described.rate_limit == 100
    called = subprocess.run(
        ["bash", "-c", made.curl], env={"MLSERVE_KEY": made.key, "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert f'"model":"{model}"' in called.stdout, called.stderr


def test_a_key_is_listed_and_revoked_by_its_name(
    name: str, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = mlserve.keys.create(name, scopes=["read"])

    def status() -> int:
        headers = {"X-MLServe-Key": made.key}
        return httpx.get(server.url + "api/v1/models", headers=headers, verify=NO_TLS).status_code

    assert status() == 200
    assert name in [key.name for key in mlserve.keys.list()]
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert "was not revoked" in repr(mlserve.keys.revoke(name))
    assert status() == 200
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert f"Revoked the key {name}" in repr(run(f"keys revoke {name}", {}))
    assert status() == 401
    assert name not in [key.name for key in mlserve.keys.list()]


@pytest.mark.parametrize("by", ["id", "prefix", "key"])
def test_a_key_is_revoked_by_its_id_by_how_it_begins_and_by_itself(name: str, by: str) -> None:
    made = mlserve.keys.create(name)
    words = {"id": made.described.id, "prefix": made.described.prefix, "key": made.key}
    assert mlserve.keys.revoke(words[by], yes=True).was_revoked


@pytest.mark.parametrize(
    ("line", "error", "said"),
    [
        ("keys", InvalidUsage, "goes on with create, list, revoke"),
        ("keys make x", InvalidUsage, "goes on with create, list, revoke"),
        ("keys create", InvalidUsage, "NAME is missing"),
        ("keys create x --scopes predict,all", InvalidUsage, "--scopes is one of predict"),
        ("keys create x --expires tomorrow", InvalidUsage, "write 90min, 12h, 30d or 8w"),
        ("keys create 'A b'", RequestFailed, "is not a name"),
        ("keys create x --models nothing-like-it", RequestFailed, "There is no model"),
        ("keys revoke no-such-key --yes", InvalidUsage, "You have no such key"),
        ("key create x", InvalidUsage, "keys create NAME"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(line: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as raised:
        run(line, {})
    assert "\n" not in str(raised.value)


def test_nobody_revokes_a_key_by_a_word_that_is_only_part_of_it(name: str) -> None:
    made = mlserve.keys.create(name)
    for word in (name[:-1], made.described.prefix[:-1], "mls_", "mls"):
        with pytest.raises(InvalidUsage):
            mlserve.keys.revoke(word, yes=True)


def test_help_of_a_subcommand_of_two_words(capsys: pytest.CaptureFixture[str]) -> None:
    run("keys create --help", {})
    assert "--scopes SCOPE,…" in capsys.readouterr().out


def offered(line: str) -> list[str]:
    offer = complete(line, {})
    assert offer is not None
    return [word for word in offer.words if word.startswith(offer.typed)]


def test_tab_offers_the_second_word_scopes_models_and_keys(name: str, model: str) -> None:
    mlserve.keys.create(name)
    assert offered("%mlserve ke") == ["keys"]
    assert offered("%mlserve keys ") == ["create", "list", "revoke"]
    assert offered("%mlserve keys create x --scopes ") == ["predict", "read", "deploy", "admin"]
    assert offered("%mlserve keys create x --scopes read,p") == ["read,predict"]
    assert f"a,{model}" in offered("%mlserve keys create x --models a,model-")
    assert name in offered("%mlserve keys revoke key-")
