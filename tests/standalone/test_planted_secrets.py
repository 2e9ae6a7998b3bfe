"""Secrets that came in with requests are kept nowhere, in either host."""

from __future__ import annotations

import uuid
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from mlserve_jupyter.storage.engine import open_engine, reading
from mlserve_jupyter.storage.tables import metadata
from tests import toys
from tests.live import NO_TLS, LiveServer, start_server
from tests.server.manifests import manifest_of
from tests.standalone.hosts import StandaloneServer, start_standalone
from tests.stores import Stores
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

BODY = {"instances": [[1.0]]}
PASSWORD = f"planted-{uuid.uuid4().hex}"

Server = StandaloneServer | LiveServer


def use_secrets(server: Server, artifact: Path) -> list[str]:
    """Send secrets wherever one may come in, well and badly; return what must be nowhere."""
    from mlserve_jupyter.accounts.keys import make_key
    from mlserve_jupyter.api.manifest import encode_json

    files = [
        ("manifest", (None, encode_json(manifest_of("failing", artifact)))),
        ("artifact", ("model", artifact.read_bytes())),
    ]
    deployed = server.request("POST", "api/v1/models", files=files)
    assert deployed.status_code == 201, deployed.text
    wanted = {"name": "planted", "scopes": ["predict", "read", "deploy", "admin"]}
    key = server.request("POST", "api/v1/api-keys", json=wanted).json()["key"]
    unknown = make_key()[0]
    token = "eyJ0eXAiOiJtbHNlcnZlLWF0K2p3dCIsImFsZyI6IkhTMjU2In0.e30.cGxhbnRlZC1zaWduYXR1cmU"
    planted = f"planted-{uuid.uuid4().hex}"
    url = server.url
    with httpx.Client(verify=NO_TLS, timeout=60) as client:
        for secret in (key, unknown, token, planted):
            for headers in (
                {"X-MLServe-Key": secret},
                {"Authorization": f"Bearer {secret}"},
                {"Authorization": f"Bearer {secret},Bearer {secret}"},
                {"Cookie": f"session={secret}"},
            ):
                client.post(url + "api/v1/predict/failing", json=BODY, headers=headers)
                client.get(url + "api/v1/models/nothing", headers=headers)
                client.post(url + "api/v1/models", content=b"{", headers=headers)
                client.post(url + "api/v1/api-keys", content=b"{", headers=headers)
                client.get(url + "nothing", params={"token": secret}, headers=headers)
        sign_in = {"email": "nobody@example.org", "password": PASSWORD}
        client.post(url + "api/v1/auth/login", json=sign_in)
        client.post(url + "api/v1/auth/register", json={**sign_in, "name": "nobody"})
        client.post(url + "api/v1/auth/refresh", json={"refresh_token": token})
    return [key.split("_")[2], unknown.split("_")[2], token.rpartition(".")[2], planted, PASSWORD]


def texts_of(server: Server, folder: Path, log_path: Path) -> dict[str, bytes]:
    """Return everything that a server has written, and what it tells of itself."""
    texts = {
        str(path): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".key")
    }
    assert server.settings.database_url or any(name.endswith("mlserve.db") for name in texts)
    texts["rows"] = rows_of(server)
    texts[str(log_path)] = log_path.read_bytes()
    for path in (
        "api/v1/models", "api/v1/api-keys", "api/v1/analytics/models/failing/predictions",
        "api/v1/audit", "health/ready", "metrics",
    ):  # fmt: skip
        texts[path] = server.request("GET", path).content
    return texts


def rows_of(server: Server) -> bytes:
    """Return all that is in a server's database."""
    engine = open_engine(server.settings)
    try:
        with reading(engine) as connection:
            rows = [list(connection.execute(sa.select(table))) for table in metadata.sorted_tables]
    finally:
        engine.dispose()
    assert "failing" in str(rows), "the right database was searched"
    return str(rows).encode()


def check_nowhere(secrets: list[str], texts: dict[str, bytes]) -> None:
    found = [(secret[:8], name) for secret in secrets for name, text in texts.items()
             if secret.encode() in text]  # fmt: skip
    assert not found


def test_row_16_planted_secrets_are_nowhere_standalone(stores: Stores, tmp_path: Path) -> None:
    artifact = Path(toys.write_model(toys.ErrorModel(), tmp_path).path)
    access_log = tmp_path / "access.log"
    options = ("--allow-pickle=True", f"--access-log={access_log}", "--log-level=DEBUG")
    with start_standalone(tmp_path, *options, stores=stores) as server:
        secrets = use_secrets(server, artifact)
        assert wait_for(lambda: access_log.stat().st_size > 0, 30)
        texts = texts_of(server, server.data_dir, server.log_path)
        assert server.stop() == 0
        texts["access log"] = access_log.read_bytes()
        texts["log at the end"] = server.log_path.read_bytes()
        check_nowhere([*secrets, server.key.split("_")[2]], texts)


def test_row_16_planted_secrets_are_nowhere_embedded(stores: Stores, tmp_path: Path) -> None:
    artifact = Path(toys.write_model(toys.ErrorModel(), tmp_path).path)
    with start_server(tmp_path, stores=stores) as server:
        secrets = use_secrets(server, artifact)
        kernels_key = server.key.split("_")[2]
        texts = texts_of(server, server.data_dir / "mlserve", server.log_path)
        headers = {"Authorization": f"token {server.token}"}
        metrics = httpx.get(server.jupyter_url + "metrics", headers=headers, verify=NO_TLS)
        texts["Jupyter's metrics"] = metrics.content
        server.stop()
        texts["log at the end"] = server.log_path.read_bytes()
        check_nowhere([*secrets, kernels_key], texts)
