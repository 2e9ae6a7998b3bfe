"""Who sees and changes whose models, over HTTP in both hosts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlserve_jupyter.api.resources import DescribeVersion, ListModels
from mlserve_jupyter.server.documentation import documentation_of
from mlserve_jupyter.server.policy import policy_of
from mlserve_jupyter.server.routes import ROUTES
from tests import toys
from tests.accounts.people import Person
from tests.accounts.platforms import RunningPlatform, deploy, deploy_approved

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
BODY = {"instances": [[1.0]]}


@pytest.fixture
def ann(platform: RunningPlatform) -> Person:
    return platform.person("ann")


@pytest.fixture
def ben(platform: RunningPlatform) -> Person:
    return platform.person("ben")


def model_of(
    platform: RunningPlatform, owner: Person, name: str, folder: Path, model: Any = None
) -> str:
    """Deploy a model, and return its id."""
    artifact = Path(toys.write_model(model or toys.SumModel(), folder).path)
    deploy_approved(platform, owner, name, artifact)
    return str(owner.request("GET", f"api/v1/models/{name}").json()["id"])


def share(owner: Person, name: str, **changes: Any) -> None:
    answer = owner.request("PATCH", f"api/v1/models/{name}", json=changes)
    assert answer.status_code == 200, answer.text


def names(person: Person, scope: str) -> list[str]:
    answer = person.request("GET", f"api/v1/models?scope={scope}&limit=500")
    models = msgspec.json.decode(answer.content, type=ListModels).items
    return [f"{model.owner}~{model.name}" for model in models]


def test_row_15_other_users_ids_are_404_on_every_route_and_method(
    platform: RunningPlatform, ann: Person, ben: Person, tmp_path: Path
) -> None:
    model_id = model_of(platform, ben, "secret", tmp_path)
    key_id = ben.request("GET", "api/v1/api-keys").json()["items"][0]["id"]
    n_tried = 0
    for pattern, resource in ROUTES:
        if "(" not in pattern:
            continue
        for method in METHODS:
            policy = policy_of(getattr(resource, method.lower(), None))
            if policy is None or policy.is_public:
                continue
            # A label names the model in its body, and the path any request.
            is_label = pattern.endswith("/label")
            for ref in (model_id, "ben~secret", key_id):
                path = re.sub(r"\([^)]*\)", key_id if is_label else ref, pattern, count=1)
                path = re.sub(r"\([^)]*\)", "1", path).removeprefix("mlserve/").replace("\\", "")
                body = {"model": ref, "labels": [1]} if is_label else {}
                answer = ann.request(method, path, json=body)
                expected = 403 if policy.scope == "admin" else 404
                assert answer.status_code == expected, (method, path, answer.text)
                assert "secret" not in answer.text.replace(ref, "")
                n_tried += 1
    assert n_tried > 30
    assert ben.request("GET", "api/v1/models/secret").status_code == 200
    assert ben.request("GET", "api/v1/api-keys").json()["items"]


def test_row_15_what_is_hidden_is_refused_in_the_words_of_what_never_was(
    platform: RunningPlatform, ann: Person, ben: Person, tmp_path: Path
) -> None:
    model_of(platform, ben, "hidden", tmp_path)
    bodies = []
    for ref in ("ben~hidden", "ben~nothing"):
        answer = ann.request("POST", f"api/v1/predict/{ref}", json=BODY)
        body = answer.json() | {"request_id": ""}
        bodies.append((answer.status_code, str(body).replace(ref, "")))
    assert bodies[0] == bodies[1]


def test_row_15_no_body_takes_a_role_or_an_owner_beside_what_it_declares(
    ann: Person,
) -> None:
    n_checked = 0
    for _, resource in ROUTES:
        for method in METHODS:
            documented = documentation_of(getattr(resource, method.lower(), None))
            body = documented.body.get("application/json") if documented else None
            if isinstance(body, type) and issubclass(body, msgspec.Struct):
                if method == "POST" and "predict" in resource.__module__:
                    continue  # rows of a model, whose columns may be called anything
                assert body.__struct_config__.forbid_unknown_fields, body
                assert "owner_id" not in body.__struct_fields__, body
                n_checked += 1
    assert n_checked >= 5
    for fields in ({"role": "admin"}, {"owner_id": ann.id}):
        refused = ann.request("POST", "api/v1/api-keys", json={"name": "x", **fields})
        assert refused.status_code == 400, refused.text


def test_a_shared_model_is_called_by_those_with_whom_it_is_shared(
    platform: RunningPlatform, ann: Person, ben: Person, tmp_path: Path
) -> None:
    model_of(platform, ben, "common", tmp_path)
    share(ben, "common", visibility="shared", shared_with=["ann"])
    answer = ann.request("POST", "api/v1/predict/ben~common", json=BODY)
    assert answer.json()["predictions"] == [1.0]
    assert "ben~common" in names(ann, "shared")
    assert "ben~common" in names(ann, "all")
    assert "ben~common" not in names(ann, "own")
    shown = ann.request("GET", "api/v1/models/ben~common").json()
    assert (shown["visibility"], shown["shared_with"], shown["may_change"]) == ("shared", [], False)
    assert shown["predict_path"].endswith("api/v1/predict/ben~common")
    carl = platform.person("carl")
    assert carl.request("POST", "api/v1/predict/ben~common", json=BODY).status_code == 404
    share(ben, "common", visibility="private")
    assert ann.request("POST", "api/v1/predict/ben~common", json=BODY).status_code == 404


def test_a_public_model_is_called_by_all_and_changed_by_its_owner_and_administrators(
    platform: RunningPlatform, ann: Person, ben: Person, tmp_path: Path
) -> None:
    model_of(platform, ben, "open", tmp_path)
    share(ben, "open", visibility="public")
    assert ann.request("POST", "api/v1/predict/ben~open", json=BODY).status_code == 200
    for method, path, body in (
        ("PATCH", "models/ben~open", {"description": "mine"}),
        ("DELETE", "models/ben~open", None),
        ("PATCH", "models/ben~open/versions/1", {"status": "archived"}),
        ("GET", "models/ben~open/versions/1/artifact", None),
        ("GET", "analytics/models/ben~open/predictions", None),
    ):
        refused = ann.request(method, f"api/v1/{path}", json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied"), path
    administrator = platform.person("root", "admin")
    changes = {"description": "seen"}
    assert administrator.request("PATCH", "api/v1/models/ben~open", json=changes).is_success
    assert (
        administrator.request("GET", "api/v1/analytics/models/ben~open/predictions")
        .json()["items"][0]["principal"]
        .startswith("ann")
    )


def test_an_administrators_key_without_the_scope_is_no_administrators(
    platform: RunningPlatform, ben: Person, tmp_path: Path
) -> None:
    model_of(platform, ben, "closed", tmp_path)
    for scopes, status in ((("predict", "read"), 404), (("admin", "read"), 200)):
        administrator = platform.person("root", "admin", scopes)
        answer = administrator.request("GET", "api/v1/models/ben~closed")
        assert answer.status_code == status


def test_what_a_model_raises_is_shown_to_its_owner_alone(
    platform: RunningPlatform, ann: Person, ben: Person, tmp_path: Path
) -> None:
    model_of(platform, ben, "raising", tmp_path, toys.ErrorModel())
    share(ben, "raising", visibility="public")
    body = {"instances": [[0.0]]}
    own = ben.request("POST", "api/v1/predict/raising", json=body)
    others = ann.request("POST", "api/v1/predict/ben~raising", json=body)
    assert own.status_code == others.status_code == 422
    assert "what it said" in own.text
    assert "what it said" not in others.text


def test_others_read_no_paths_of_the_owners_machine(
    platform: RunningPlatform, ann: Person, ben: Person, tmp_path: Path
) -> None:
    model_of(platform, ben, "described", tmp_path)
    share(ben, "described", visibility="public")
    answer = ann.request("GET", "api/v1/models/ben~described/versions/1")
    version = msgspec.json.decode(answer.content, type=DescribeVersion)
    assert version.environment.interpreter == ""
    assert version.provenance.notebook is None


def test_a_key_for_one_model_opens_no_other_and_deploys_no_new_one(
    platform: RunningPlatform, ben: Person, tmp_path: Path
) -> None:
    one = model_of(platform, ben, "one", tmp_path)
    model_of(platform, ben, "two", tmp_path)
    limited = platform.person("ben", model_ids=[one])
    assert limited.request("POST", "api/v1/predict/one", json=BODY).status_code == 200
    assert limited.request("POST", "api/v1/predict/two", json=BODY).status_code == 404
    assert names(limited, "all") == ["ben~one"]
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    assert deploy(limited, "three", artifact).status_code == 403


def test_a_model_cannot_be_shared_with_who_is_not_there(
    platform: RunningPlatform, ben: Person, tmp_path: Path
) -> None:
    model_of(platform, ben, "wanted", tmp_path)
    changes = {"visibility": "shared", "shared_with": ["nobody"]}
    refused = ben.request("PATCH", "api/v1/models/wanted", json=changes)
    assert (refused.status_code, refused.json()["details"]) == (400, {"unknown": ["nobody"]})


def test_sharing_deploys_and_status_changes_are_in_the_audit_log(
    platform: RunningPlatform, ben: Person, tmp_path: Path
) -> None:
    model_of(platform, ben, "watched", tmp_path)
    share(ben, "watched", visibility="public")
    ben.request("PATCH", "api/v1/models/watched/versions/1", json={"status": "archived"})
    ben.request("DELETE", "api/v1/models/watched")
    told = [
        (event["action"], event["target"])
        for event in platform.events(actor="ben", limit="500")
        if "watched" in event["target"]
    ]
    assert told == [
        ("model.delete", "model ben~watched"),
        ("version.status", "version ben~watched 1"),
        ("model.share", "model ben~watched"),
        ("version.deploy", "version ben~watched 1"),
    ]
