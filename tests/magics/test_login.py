"""``%mlserve login`` and ``targets`` against a real server, and what stays out of the notebook."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import mlserve_jupyter as mlserve
from mlserve_jupyter.client.http import connect
from mlserve_jupyter.client.targets import FILE, Targets
from mlserve_jupyter.errors import RequestFailed, ServerNotFound
from mlserve_jupyter.magics.magic import run
from tests.accounts.signing_in import PASSWORD, Account, make_account
from tests.live import LiveServer

Type = Callable[[str], None]

X = np.arange(8.0).reshape(4, 2)


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.delenv("MLSERVE_KEY", raising=False)


@pytest.fixture
def ann(live_server: LiveServer) -> Account:
    return make_account(live_server)


@pytest.fixture
def type_password(monkeypatch: pytest.MonkeyPatch) -> Type:
    """What the keyboard gives where a password is asked for."""

    def type_it(password: str) -> None:
        monkeypatch.setattr(getpass, "getpass", lambda prompt: password)

    type_it(PASSWORD)
    return type_it


def test_a_line_signs_in_and_the_name_stands_for_the_server(
    live_server: LiveServer, ann: Account, type_password: Type, tmp_path: Path
) -> None:
    shown = run(f"login {live_server.jupyter_url} --email {ann.email} --name work", {})
    assert f"Signed in to {live_server.url} as {ann.email}" in str(shown)
    assert connect("work").me().name == ann.name
    assert connect(live_server.url).me().name == ann.name
    assert len(mlserve.list(to="work")) == 0
    [target] = mlserve.targets()
    texts = [str(shown), repr(shown), shown._repr_html_(), str(mlserve.targets()), repr(target)]
    for secret in (PASSWORD, target.access_token, target.refresh_token):
        assert not any(secret in text for text in texts)
        assert (secret in (tmp_path / FILE).read_text()) == (secret != PASSWORD)


def test_snippets_for_a_server_that_one_signed_in_to_carry_a_key_of_it(
    live_server: LiveServer, ann: Account, type_password: Type
) -> None:
    mlserve.login(live_server.url, ann.email, name="prod")
    model = LogisticRegression().fit(X, [0, 0, 1, 1])
    deployed = mlserve.deploy(model, "over-there", sample=X, to="prod")
    snippet = run("snippet over-there --to prod", {})
    assert deployed.snippet == snippet
    assert "JUPYTER_TOKEN" not in snippet.curl + snippet.python + snippet.hint
    assert '-H "X-MLServe-Key: $MLSERVE_KEY"' in snippet.curl
    assert "`%mlserve keys create NAME --to prod`" in snippet.hint
    made = run("keys create outside --to prod", {})
    for command in (["bash", "-c", snippet.curl], [sys.executable, "-c", snippet.python]):
        env = {**os.environ, "MLSERVE_KEY": made.key}
        answer = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert "[0]" in answer.stdout, answer.stderr


def test_a_token_that_ends_is_renewed_before_it_is_used(
    live_server: LiveServer, ann: Account, type_password: Type
) -> None:
    mlserve.login(live_server.url, ann.email, name="renewing")
    targets = Targets()
    [before] = targets.all()
    targets.keep(msgspec.structs.replace(before, expires_at_s=time.time() + 10))
    assert connect("renewing").me().name == ann.name
    [after] = targets.all()
    assert after.refresh_token != before.refresh_token
    assert after.expires_at_s > time.time() + 1000


def test_a_wrong_password_keeps_nothing(
    live_server: LiveServer, ann: Account, type_password: Type
) -> None:
    type_password("wrong horse battery")
    with pytest.raises(RequestFailed, match=r"email or the password is wrong"):
        mlserve.login(live_server.url, ann.email)
    assert len(mlserve.targets()) == 0


def test_forgetting_a_server_ends_its_tokens(
    live_server: LiveServer, ann: Account, type_password: Type
) -> None:
    mlserve.login(live_server.url, ann.email, name="leaving")
    [target] = mlserve.targets()
    assert "signed in to no other server" in str(run("targets --forget leaving", {}))
    headers = {"X-MLServe-Key": target.access_token}
    assert ann.login().status_code == 200
    answer = live_server.request("GET", "api/v1/auth/me", headers=headers)
    assert answer.status_code == 401
    with pytest.raises(ServerNotFound):
        mlserve.targets(forget="leaving")


def test_a_session_that_was_ended_elsewhere_says_how_to_sign_in_again(
    live_server: LiveServer, ann: Account, type_password: Type
) -> None:
    mlserve.login(live_server.url, ann.email, name="ended")
    targets = Targets()
    [target] = targets.all()
    targets.keep(msgspec.structs.replace(target, refresh_token="gone", expires_at_s=0.0))
    with pytest.raises(RequestFailed, match=f"%mlserve login {live_server.url} --name ended`"):
        connect("ended").me()


def test_a_token_that_was_ended_elsewhere_says_which_and_how_to_sign_in_again(
    live_server: LiveServer, ann: Account, type_password: Type
) -> None:
    mlserve.login(live_server.url, ann.email, name="revoked")
    [target] = mlserve.targets()
    headers = {"X-MLServe-Key": target.access_token}
    assert live_server.request("POST", "api/v1/auth/logout", headers=headers).status_code == 204
    with pytest.raises(RequestFailed) as caught:
        connect("revoked").me()
    assert "your session of the server 'revoked'" in caught.value.message
    assert f"`%mlserve login {live_server.url} --name revoked`" in caught.value.message
