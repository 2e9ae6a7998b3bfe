"""Row 25: whatever is sent to any route, the answer is one that the document describes.

Requests are made of the document, as it says and as it forbids; no answer is a 5xx, each has a
status, a content type, headers and a body that the document has for its route.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from mlserve_jupyter.api.arrow_body import ARROW_STREAM, PARQUET
from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.server.extension import MLServeHandler
from mlserve_jupyter.server.openapi.document import make_document
from mlserve_jupyter.server.routes import ROUTES
from mlserve_jupyter.server.standalone.handler import StandaloneHandler
from tests import toys
from tests.live import LiveServer, start_server
from tests.server.manifests import manifest_of
from tests.standalone.hosts import StandaloneServer, start_standalone

pytestmark = pytest.mark.slow

Server = LiveServer | StandaloneServer

MODEL = "sums"
SHA256 = "5" * 64
KNOWN = {
    "model": MODEL,
    "version": 1,
    "sha256": SHA256,
    "user": "known-user",
    "key": "known-key",
    "invitation": "known-invitation",
}
"""What paths may lead to, by the name of the parameter; the last three stand for ids."""

VISITOR = {"email": "visitor@example.org", "password": "a long and dull phrase"}

CHECKS: list[CheckFunction] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    negative_data_rejection,
]
BOUNDED = settings(
    max_examples=8,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@schemathesis.serializer(ARROW_STREAM, PARQUET)
def send_as_it_is(context: schemathesis.SerializationContext, value: Any) -> bytes:
    """Send anything as a body of columns, which it hardly ever is."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def schema_of(host: type[Any], *, with_credentials: bool) -> Any:
    """Return the document as schemathesis reads it, with paths to a model that is there.

    Parameters
    ----------
    with_credentials
        Whether requests have invented credentials.
    """
    document = json.loads(json.dumps(make_document(ROUTES, "/mlserve/", host.security_schemes)))
    for item in document["paths"].values():
        for parameter in item.get("parameters", []):
            known = KNOWN.get(parameter["name"])
            if known is not None:
                parameter["schema"] = {"anyOf": [{"const": known}, parameter["schema"]]}
    rows = document["paths"]["/api/v1/predict/{model}"]["post"]["requestBody"]["content"]
    rows["application/json"]["example"] = {"instances": [[1.5], [2.0]]}
    login = document["paths"]["/api/v1/auth/login"]["post"]["requestBody"]["content"]
    login["application/json"]["example"] = VISITOR
    if with_credentials:  # whose bodies are not looked at, so one of few words will do
        upload = document["paths"]["/api/v1/models"]["post"]["requestBody"]["content"]
        upload["multipart/form-data"]["schema"] = {"type": "object"}
    config = schemathesis.Config(seed=25)
    config.projects.default.generation.update(with_security_parameters=with_credentials)
    return schemathesis.openapi.from_dict(document, config=config)


EMBEDDED = schema_of(MLServeHandler, with_credentials=False)
EMBEDDED_FOR_ANYBODY = schema_of(MLServeHandler, with_credentials=True)
STANDALONE = schema_of(StandaloneHandler, with_credentials=False)
STANDALONE_FOR_ANYBODY = schema_of(StandaloneHandler, with_credentials=True)


@dataclass
class Administrator:
    """Calls a server with its own key, with real ids in the place of known ones."""

    server: Server
    ids: dict[str, str]

    def call_and_validate(self, case: schemathesis.Case) -> None:
        case.path_parameters = {
            name: self.ids.get(value, value) if isinstance(value, str) else value
            for name, value in (case.path_parameters or {}).items()
        }
        headers = {"X-MLServe-Key": self.server.key}
        case.call_and_validate(base_url=self.server.url, headers=headers, checks=CHECKS)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with start_server(
        tmp_path_factory.mktemp("embedded"), "--MLServeApp.registration=open"
    ) as server:
        register(server)
        yield server


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneServer]:
    with start_standalone(
        tmp_path_factory.mktemp("standalone"), "--allow-pickle=True", "--registration=open"
    ) as server:
        register(server)
        yield server


def register(server: Server) -> None:
    made = server.request("POST", "api/v1/auth/register", json=VISITOR)
    assert made.status_code == 201, made.text


@pytest.fixture
def administrator(request: pytest.FixtureRequest, tmp_path: Path) -> Administrator:
    """One who may do everything, with things to do it with, whatever was done before."""
    name = next(name for name in ("embedded", "standalone") if name in request.fixturenames)
    server: Server = request.getfixturevalue(name)
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    deployed = server.request(
        "POST",
        "api/v1/models",
        files=[
            ("manifest", (None, encode_json(manifest_of(MODEL, artifact)))),
            ("artifact", ("model", artifact.read_bytes())),
        ],
    )
    assert deployed.status_code == 201, deployed.text
    key = server.request("POST", "api/v1/api-keys", json={"name": uuid.uuid4().hex})
    invitation = server.request("POST", "api/v1/invitations", json={})
    users = server.request("GET", "api/v1/users").json()["items"]
    [visitor] = [user["id"] for user in users if user["email"] == VISITOR["email"]]
    return Administrator(
        server,
        {
            "known-user": visitor,
            "known-key": key.json()["id"],
            "known-invitation": invitation.json()["id"],
        },
    )


@EMBEDDED.parametrize()
@BOUNDED
def test_row_25_an_administrator_gets_documented_answers_embedded(
    case: schemathesis.Case, embedded: LiveServer, administrator: Administrator
) -> None:
    administrator.call_and_validate(case)


@EMBEDDED_FOR_ANYBODY.parametrize()
@BOUNDED
def test_row_25_anybody_gets_documented_answers_embedded(
    case: schemathesis.Case, embedded: LiveServer
) -> None:
    case.call_and_validate(base_url=embedded.url, checks=CHECKS)


@STANDALONE.parametrize()
@BOUNDED
def test_row_25_an_administrator_gets_documented_answers_standalone(
    case: schemathesis.Case, standalone: StandaloneServer, administrator: Administrator
) -> None:
    administrator.call_and_validate(case)


@STANDALONE_FOR_ANYBODY.parametrize()
@BOUNDED
def test_row_25_anybody_gets_documented_answers_standalone(
    case: schemathesis.Case, standalone: StandaloneServer
) -> None:
    case.call_and_validate(base_url=standalone.url, checks=CHECKS)
