"""Both hosts alike, for tests of who may do what: real servers, and people who call them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy.engine import Engine

from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.storage.engine import open_engine
from mlserve_jupyter.storage.users import Role
from tests.accounts.people import ALL_SCOPES, Person, add_person
from tests.live import LiveServer
from tests.server.manifests import manifest_of
from tests.standalone.hosts import StandaloneServer

Host = LiveServer | StandaloneServer


@dataclass(frozen=True)
class RunningPlatform:
    """A server of either host, and its database."""

    host: Host
    engine: Engine

    @property
    def data_dir(self) -> Path:
        return data_dir_of(self.host)

    def person(
        self,
        name: str,
        role: Role = "user",
        scopes: Collection[str] = ALL_SCOPES,
        model_ids: Collection[str] | None = None,
    ) -> Person:
        """Return a user of the server, with a new key."""
        return add_person(self.engine, self.host.url, name, role, scopes, model_ids)

    def events(self, **query: str) -> list[dict[str, Any]]:
        """Read the audit log as an administrator, newest first."""
        answer = self.person("auditor", "admin").request("GET", "api/v1/audit", params=query)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["items"])


def data_dir_of(host: Host) -> Path:
    return host.data_dir / "mlserve" if isinstance(host, LiveServer) else host.data_dir


@contextmanager
def running(host: Host) -> Iterator[RunningPlatform]:
    """Give a server with its database."""
    host.request("GET", "api/v1/models")  # the embedded host opens its database at the first call
    engine = open_engine(host.settings)
    try:
        yield RunningPlatform(host, engine)
    finally:
        engine.dispose()


def deploy(person: Person, name: str, artifact: Path | bytes, **changes: Any) -> httpx.Response:
    """Deploy as a person."""
    content = artifact if isinstance(artifact, bytes) else artifact.read_bytes()
    manifest = encode_json(manifest_of(name, content, **changes))
    files = [("manifest", (None, manifest)), ("artifact", ("model", content))]
    return person.request("POST", "api/v1/models", files=files)


def deploy_approved(
    platform: RunningPlatform, person: Person, name: str, artifact: Path, **changes: Any
) -> None:
    """Deploy as a person what an administrator has approved, which either host takes."""
    sha256 = manifest_of(name, artifact).sha256
    administrator = platform.person("approver", "admin")
    approved = administrator.request("PUT", f"api/v1/artifact-approvals/{sha256}")
    assert approved.status_code == 200, approved.text
    deployed = deploy(person, name, artifact, **changes)
    assert deployed.status_code == 201, deployed.text
