"""The first administrator, and what a standalone server refuses to start with."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import bcrypt
import httpx
import pytest

from mlserve_jupyter.accounts.people import add_person
from mlserve_jupyter.storage.engine import writing
from tests.live import NO_TLS
from tests.standalone.hosts import COMMAND, StandaloneServer, environment, start_standalone
from tests.storage.databases import opened
from tests.stores import URLS, Stores

PASSWORD = "correct horse battery"
EMAIL = "ann@example.org"


@pytest.fixture
def own_stores(stores: Stores, tmp_path: Path) -> Stores:
    """The chosen stores, which a file names to every command that is run in ``tmp_path``."""
    settings = stores.at(tmp_path / "data" / "mlserve")
    lines = [f"c.MLServeServer.{name} = {getattr(settings, name)!r}\n" for name in URLS]
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "jupyter_mlserve_config.py").write_text("".join(lines))
    return stores


def run(
    folder: Path, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    (folder / "config").mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(folder, env),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def create(folder: Path, *arguments: str, password: str = PASSWORD) -> str:
    done = run(
        folder, "admin", "create", "--email", EMAIL, "--password-stdin", *arguments,
        stdin=f"{password}\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def login(server: StandaloneServer, password: str = PASSWORD) -> httpx.Response:
    return httpx.post(
        server.url + "api/v1/auth/login",
        json={"email": EMAIL, "password": password},
        timeout=60,
        verify=NO_TLS,
    )


def test_an_administrator_is_made_on_the_machine_beside_a_running_server(
    own_stores: Stores, tmp_path: Path
) -> None:
    with start_standalone(tmp_path, stores=own_stores) as server:
        assert login(server).status_code == 401
        assert "'ann' signs in" in create(tmp_path, "--name=ann")
        token = login(server).json()["access_token"]
        asked = server.request("GET", "api/v1/auth/me", headers={"X-MLServe-Key": token})
        assert (asked.json()["name"], asked.json()["role"]) == ("ann", "admin")
        assert PASSWORD not in server.log()

        reset = run(
            tmp_path, "admin", "password", f"--email={EMAIL}", "--password-stdin",
            stdin="another horse battery\n",
        )  # fmt: skip
        assert reset.returncode == 0, reset.stderr
        assert login(server).status_code == 401
        assert login(server, "another horse battery").status_code == 200


@pytest.mark.parametrize(
    ("arguments", "stdin", "complaint"),
    [
        (["create", f"--email={EMAIL}", "--password-stdin"], "admin\n", "too short"),
        (["create", f"--email={EMAIL}", "--password-stdin"], "", "0 characters"),
        (["create", "--email=nobody", "--password-stdin"], f"{PASSWORD}\n", "no address"),
        (["create", f"--email={EMAIL}"], f"{PASSWORD}\n", "no terminal"),
        (["create", f"--email={EMAIL}", f"--password={PASSWORD}"], "", "password"),
        (["password", f"--email={EMAIL}", "--password-stdin"], f"{PASSWORD}\n", "Nobody has"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    arguments: list[str], stdin: str, complaint: str, tmp_path: Path
) -> None:
    done = run(tmp_path, "admin", *arguments, stdin=stdin)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("password", ["", "admin", "changeme", EMAIL])
def test_it_does_not_start_with_an_administrator_of_a_default_password(
    password: str, tmp_path: Path
) -> None:
    given = {"MLSERVE_ADMIN_EMAIL": EMAIL, "MLSERVE_ADMIN_PASSWORD": password}
    done = run(tmp_path, "--port=0", env=given)
    assert done.returncode == 2
    assert "MLSERVE_ADMIN_PASSWORD" in done.stderr


@pytest.mark.parametrize("password", ["", "admin", "ann"])
def test_it_does_not_start_where_the_database_holds_such_an_administrator(
    password: str, own_stores: Stores, tmp_path: Path
) -> None:
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    with (
        opened(own_stores.at(tmp_path / "data" / "mlserve")) as engine,
        writing(engine) as connection,
    ):
        add_person(connection, email=EMAIL, name="ann", hashed_password=hashed, role="admin")
    done = run(tmp_path, "--port=0")
    assert done.returncode == 2
    assert "'ann' is empty or a default" in done.stderr


@pytest.mark.parametrize("secret", ["", "short", "x" * 64])
def test_it_does_not_start_with_a_weak_secret(secret: str, tmp_path: Path) -> None:
    done = run(tmp_path, "--port=0", env={"MLSERVE_JWT_SECRET": secret})
    assert done.returncode == 2
    assert "MLSERVE_JWT_SECRET" in done.stderr
    assert not secret or f"'{secret}'" not in done.stderr


@pytest.mark.slow
def test_the_environment_makes_an_administrator_once(own_stores: Stores, tmp_path: Path) -> None:
    given = {"MLSERVE_ADMIN_EMAIL": EMAIL, "MLSERVE_ADMIN_PASSWORD": PASSWORD}
    with start_standalone(tmp_path, env=given, stores=own_stores) as server:
        assert login(server).status_code == 200
    changed = {**given, "MLSERVE_ADMIN_PASSWORD": "another horse battery"}
    with start_standalone(tmp_path, env=changed, stores=own_stores) as server:
        assert login(server).status_code == 200, "who is there stays as found"
