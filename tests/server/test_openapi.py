"""The OpenAPI document: of all routes, and of one model's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from mlserve_jupyter import errors
from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.api.signature import Signature
from mlserve_jupyter.server.documentation import SecuritySchemes, documented
from mlserve_jupyter.server.errors import STATUS
from mlserve_jupyter.server.extension import MLServeHandler
from mlserve_jupyter.server.openapi.document import make_document, path_of
from mlserve_jupyter.server.openapi.operations import DESCRIPTIONS
from mlserve_jupyter.server.openapi.schemas import split_docstring
from mlserve_jupyter.server.policy import policy_of, public
from mlserve_jupyter.server.resource import Resource
from mlserve_jupyter.server.routes import ROUTES
from mlserve_jupyter.server.standalone.application import main
from mlserve_jupyter.server.standalone.handler import StandaloneHandler
from tests import toys
from tests.live import LiveServer
from tests.server.manifests import manifest_of

SCHEMES = {
    "embedded": MLServeHandler.security_schemes,
    "standalone": StandaloneHandler.security_schemes,
}


@pytest.fixture(params=SCHEMES, ids=list(SCHEMES))
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    schemes: SecuritySchemes = SCHEMES[request.param]
    return json.loads(json.dumps(make_document(ROUTES, "/below/mlserve/", schemes)))


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in item.keys() - {"parameters"}:
            yield path, method, item[method]


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_the_document_has_every_method_that_has_a_policy(document: dict[str, Any]) -> None:
    expected = set()
    for pattern, resource in ROUTES:
        for method in ("get", "post", "put", "patch", "delete"):
            function = getattr(resource, method, None)
            if policy_of(function) is not None and not pattern.endswith(".*"):
                expected.add((path_of(pattern, function), method))
    assert {(path, method) for path, method, _ in operations_of(document)} == expected
    names = [operation["operationId"] for _, _, operation in operations_of(document)]
    assert len(set(names)) == len(names)


def test_only_what_is_open_to_anybody_asks_for_no_credential(document: dict[str, Any]) -> None:
    policies = {
        (path_of(pattern, function), method): policy_of(function)
        for pattern, resource in ROUTES
        for method in ("get", "post", "put", "patch", "delete")
        if (function := getattr(resource, method, None)) is not None
    }
    for path, method, operation in operations_of(document):
        policy = policies[path, method]
        assert policy is not None
        assert (operation["security"] == []) is policy.is_public
        assert policy.is_public or "401" in operation["responses"]
        if not policy.is_public:
            ways = {name for way in operation["security"] for name in way}
            assert ways == document["components"]["securitySchemes"].keys()


def test_every_path_parameter_is_described(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        described = [p["name"] for p in item.get("parameters", [])]
        assert described == re.findall(r"{(\w+)}", path)
        assert all(p["description"] for p in item.get("parameters", []))


def test_every_status_of_an_error_has_words() -> None:
    assert set(STATUS.values()) <= DESCRIPTIONS.keys()


def test_errors_name_their_codes(document: dict[str, Any]) -> None:
    refusal = document["paths"]["/api/v1/models/{model}"]["get"]["responses"]["404"]["$ref"]
    response = document["components"]["responses"][refusal.rsplit("/", 1)[1]]
    schema = response["content"]["application/json"]["schema"]
    assert set(schema["properties"]["code"]["enum"]) == {"model_not_found", "not_found"}


def test_a_method_without_a_description_is_not_left_out_in_silence() -> None:
    class ForgottenResource(Resource):
        @public
        def get(self) -> None: ...

    with pytest.raises(ValueError, match=r"ForgottenResource\.get has no @documented"):
        make_document([("mlserve/forgotten", ForgottenResource)], "/mlserve/", ())


def test_an_error_stands_for_those_below_it() -> None:
    class SomeResource(Resource):
        @documented(summary="Something", answers={204: None}, errors=(errors.NotFound,))
        @public
        def get(self) -> None:
            """Do something."""

    made = make_document([("mlserve/some", SomeResource)], "/mlserve/", ())
    name = made["paths"]["/some"]["get"]["responses"]["404"]["$ref"].rsplit("/", 1)[1]
    codes = made["components"]["responses"][name]["content"]["application/json"]["schema"]
    assert "version_not_found" in codes["properties"]["code"]["enum"]


def test_a_docstring_becomes_descriptions() -> None:
    text, attributes = split_docstring(
        """A thing, see :class:`~mlserve.Thing`.

        Attributes
        ----------
        a, b
            What ``both`` are,
            in two lines.
        c
            Another.

        Notes
        -----
        For developers.
        """
    )
    assert text == "A thing, see `mlserve.Thing`."
    assert attributes == {
        "a": "What `both` are, in two lines.",
        "b": "What `both` are, in two lines.",
        "c": "Another.",
    }


def test_anybody_may_read_the_document_and_it_tells_nothing_of_this_server(
    live_server: LiveServer,
) -> None:
    live_server.request("GET", "api/v1/models")
    response = httpx.get(live_server.url + "openapi.json")
    assert response.status_code == 200
    served = response.json()
    assert served["servers"] == [{"url": "/mlserve"}]
    assert served["components"]["securitySchemes"].keys() == {"key", "bearer", "jupyter"}
    for secret in (live_server.token, live_server.key, str(live_server.data_dir)):
        assert secret not in response.text


def test_a_models_document_has_its_columns_its_methods_and_an_example(
    live_server: LiveServer, tmp_path: Path
) -> None:
    inputs = replace(toys.ONE_FEATURE, example={"instances": [[1.5]]})
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    manifest = manifest_of("described", artifact, signature=Signature(inputs=inputs))
    deploy = [
        ("manifest", (None, encode_json(manifest))),
        ("artifact", ("model", artifact.read_bytes())),
    ]
    assert live_server.request("POST", "api/v1/models", files=deploy).status_code == 201

    made = live_server.request("GET", "api/v1/models/described/openapi.json?version=1").json()
    validate(made)
    [(path, item)] = made["paths"].items()
    assert made["info"]["title"] == "described"
    [_, method] = item["post"]["parameters"]
    assert method["schema"] == {"enum": ["predict"], "default": "predict"}
    content = item["post"]["requestBody"]["content"]["application/json"]
    rows = made["components"]["schemas"][content["schema"]["$ref"].rsplit("/", 1)[1]]
    assert Draft202012Validator(rows).is_valid(content["example"])
    assert not Draft202012Validator(rows).is_valid({"instances": [["high"]]})
    # The path leads to the model, whoever reads the document.
    answer = live_server.request("POST", path.removeprefix("/"), json=content["example"])
    assert answer.json()["predictions"] == [1.5]


def test_a_models_document_is_for_those_who_see_the_model(live_server: LiveServer) -> None:
    assert httpx.get(live_server.url + "api/v1/models/x/openapi.json").status_code == 401
    missing = live_server.request("GET", "api/v1/models/nothing/openapi.json")
    assert missing.json()["code"] == "model_not_found"


def test_the_command_line_prints_what_a_standalone_server_answers(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["openapi", "--base-url=/below/", f"--data-dir={tmp_path}"]) == 0
    printed = json.loads(capsys.readouterr().out)
    made = make_document(ROUTES, "/below/mlserve/", StandaloneHandler.security_schemes)
    assert printed == json.loads(json.dumps(made))
