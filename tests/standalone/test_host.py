"""The standalone server in several configurations, and what it says of its health."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from mlserve_jupyter.server.standalone.application import MLServeServer
from mlserve_jupyter.server.standalone.hosts import HostNames
from tests import toys
from tests.standalone.hosts import COMMAND, environment, start_standalone
from tests.waiting import wait_for

DOCS = Path(__file__).parents[2] / "docs"


def test_it_imports_nothing_of_jupyters_server_and_no_library_that_models_need() -> None:
    script = (
        "import mlserve_jupyter.server.standalone.application\n"
        "import mlserve_jupyter.server.standalone.parent, json, sys\n"
        "print(json.dumps([name.split('.')[0] for name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    modules = set(json.loads(done.stdout))
    assert not modules & {"jupyter_server", "IPython", "jinja2", "zmq"}
    assert not modules & {"numpy", "pandas", "scipy", "sklearn", "joblib", "cloudpickle"}


def test_every_option_is_documented() -> None:
    text = (DOCS / "standalone.md").read_text()
    documented = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\|[^|]*\|", text, re.M))))
    options = set(MLServeServer.class_own_traits(config=True))
    assert options
    assert options <= documented
    assert all(trait.help for trait in MLServeServer.class_own_traits(config=True).values())


@pytest.mark.parametrize(
    "options",
    [
        ("--workers=0",),
        ("--port=x",),
        ("--max-body-bytes=-1",),
        ("--access-log=/nonexistent/access.log",),
        ("--certfile=/nonexistent.pem",),
        ("--ip=192.0.2.1",),
    ],
    ids=" ".join,
)
def test_what_cannot_work_is_said_in_one_line_and_nothing_is_started(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [*COMMAND, *options], env=environment(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("jupyter mlserve: ")


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    env = environment(tmp_path)
    first = subprocess.run([*COMMAND, "key"], env=env, capture_output=True, text=True, check=True)
    path = tmp_path / "data" / "mlserve" / "mlserve-standalone.key"
    path.chmod(0o644)
    refused = subprocess.run([*COMMAND, "key"], env=env, capture_output=True, text=True)
    assert refused.returncode == 2
    assert first.stdout.strip() not in refused.stderr + refused.stdout
    assert "may be read by others" in refused.stderr


@pytest.mark.parametrize(
    ("ip", "allowed", "header", "is_served"),
    [
        ("127.0.0.1", [], "LOCALHOST:8899", True),
        ("127.0.0.1", [], "models.example", False),
        ("127.0.0.1", ["models.example"], "Models.Example:443", True),
        ("127.0.0.1", ["*"], "anything", True),
        ("10.1.2.3", [], "10.1.2.3:8899", True),
        ("10.1.2.3", [], "10.1.2.4:8899", False),
        ("0.0.0.0", [], "10.9.9.9:8899", True),
        ("0.0.0.0", [], "[2001:db8::1]:8899", True),
        ("0.0.0.0", [], "elsewhere.example", False),
        ("0.0.0.0", [], "10.9.9.9.elsewhere.example", False),
    ],
)
def test_names_that_are_served(ip: str, allowed: list[str], header: str, is_served: bool) -> None:
    assert HostNames(ip, allowed).allows(header) is is_served


@pytest.mark.slow
def test_a_second_server_does_not_take_a_share_of_the_first_ones_port(tmp_path: Path) -> None:
    with start_standalone(tmp_path) as server:
        done = subprocess.run(
            [*COMMAND, f"--port={server.port}"],
            env=server.env, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 2
        assert "Address already in use" in done.stderr


@pytest.mark.slow
def test_a_database_that_does_not_answer_is_not_ready_and_lives(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "mlserve"
    with start_standalone(tmp_path) as server:
        assert server.request("GET", "health/ready").status_code == 200
    import sqlite3

    with sqlite3.connect(folder / "mlserve.db") as connection:
        [(known,)] = connection.execute("SELECT version_num FROM alembic_version")
        connection.execute("UPDATE alembic_version SET version_num = 'later'")
    with start_standalone(tmp_path, ready=False) as server:
        assert wait_for(lambda: _status(server.url + "health/live") == 200, 30)
        ready = httpx.get(server.url + "health/ready")
        assert (ready.status_code, ready.json()["code"]) == (503, "schema_unknown")
        with sqlite3.connect(folder / "mlserve.db") as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (known,))
        assert wait_for(lambda: _status(server.url + "health/ready") == 200, 30)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_it_works_with_tls_behind_a_base_url(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out",
         str(cert), "-days", "2", "-subj", "/CN=x",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    trusting = ssl.create_default_context(cafile=cert)
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    options = (f"--certfile={cert}", f"--keyfile={key}", "--allow-pickle=True")
    with start_standalone(tmp_path, *options, base_url="/team/", scheme="https") as server:
        deployed = httpx.post(
            server.url + "api/v1/models",
            headers={"X-MLServe-Key": server.key},
            verify=trusting,
            files=_files(artifact),
        )
        assert deployed.status_code == 201
        path = deployed.json()["model"]["predict_path"]
        assert path == "/team/mlserve/api/v1/predict/clf"
        answer = httpx.post(
            f"https://127.0.0.1:{server.port}{path}",
            headers={"X-MLServe-Key": server.key},
            json={"instances": [[1.0]]},
            verify=trusting,
        )
        assert answer.json()["predictions"] == [1.0]


def _files(artifact: Path) -> list[tuple[str, tuple[str | None, bytes]]]:
    from mlserve_jupyter.api.manifest import encode_json
    from tests.server.manifests import manifest_of

    return [
        ("manifest", (None, encode_json(manifest_of("clf", artifact)))),
        ("artifact", ("model", artifact.read_bytes())),
    ]


def _status(url: str) -> int:
    try:
        return httpx.get(url).status_code
    except httpx.TransportError:
        return 0
