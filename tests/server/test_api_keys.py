"""API keys over HTTP, against a real Jupyter server: made, used, limited and revoked."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import toys
from tests.live import LiveServer
from tests.server.conftest import Post
from tests.server.manifests import manifest_of

BODY = {"instances": [[1.0]]}


@pytest.fixture
def name() -> str:
    return f"key-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def models(live_server: LiveServer, post_deploy: Post, tmp_path: Path) -> tuple[str, str]:
    """Two models of the owner's."""
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    names = (f"one-{uuid.uuid4().hex[:8]}", f"two-{uuid.uuid4().hex[:8]}")
    for each in names:
        assert post_deploy(manifest_of(each, artifact), artifact).status_code == 201
    return names


def create(server: LiveServer, **wanted: Any) -> dict[str, Any]:
    response = server.request("POST", "api/v1/api-keys", json=wanted)
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


def with_key(server: LiveServer, key: str, method: str, path: str, **options: Any) -> int:
    return answer_with_key(server, key, method, path, **options).status_code


def answer_with_key(
    server: LiveServer, key: str, method: str, path: str, **options: Any
) -> httpx.Response:
    headers = {"X-MLServe-Key": key}
    return httpx.request(method, server.url + path, headers=headers, timeout=60, **options)


def test_a_key_is_shown_once_and_listed_without_itself(live_server: LiveServer, name: str) -> None:
    created = create(live_server, name=name, expires_in_s=3600, rate_limit=100)
    assert created["key"].startswith(created["prefix"] + "_")
    assert created["scopes"] == ["predict"]
    response = live_server.request("GET", "api/v1/api-keys?limit=500")
    assert created["key"] not in response.text
    [listed] = [item for item in response.json()["items"] if item["name"] == name]
    assert listed == {field: value for field, value in created.items() if field != "key"}


def test_a_key_predicts_until_it_is_revoked(
    live_server: LiveServer, name: str, models: tuple[str, str]
) -> None:
    created = create(live_server, name=name)
    path = f"api/v1/predict/{models[0]}"
    for header in (
        {"X-MLServe-Key": created["key"]},
        {"Authorization": f"Bearer {created['key']}"},
    ):
        answer = httpx.post(live_server.url + path, json=BODY, headers=header)
        assert answer.json()["predictions"] == [1.0]
    revoked = live_server.request("DELETE", f"api/v1/api-keys/{created['id']}")
    assert revoked.status_code == 204
    assert with_key(live_server, created["key"], "POST", path, json=BODY) == 401
    assert live_server.request("DELETE", f"api/v1/api-keys/{created['id']}").status_code == 404


SCOPES = {
    "predict": {"predict"},
    "read": {"read"},
    "deploy": {"deploy"},
    "admin": {"account", "admin"},
}


@pytest.mark.parametrize("scope", SCOPES)
def test_row_14_a_key_opens_what_its_scope_says_and_nothing_else(
    live_server: LiveServer, name: str, models: tuple[str, str], scope: str
) -> None:
    key = create(live_server, name=name, scopes=[scope])["key"]
    calls = {
        "predict": ("POST", f"api/v1/predict/{models[0]}", {"json": BODY}),
        "read": ("GET", f"api/v1/models/{models[0]}", {}),
        "deploy": ("PATCH", f"api/v1/models/{models[0]}", {"json": {"description": "x"}}),
        "account": ("GET", "api/v1/api-keys", {}),
    }
    for need, (method, path, options) in calls.items():
        answer = answer_with_key(live_server, key, method, path, **options)
        if need in SCOPES[scope]:
            assert answer.status_code == 200, answer.text
        else:
            assert answer.status_code == 403, (need, answer.text)
            assert answer.json()["code"] == "permission_denied"


def test_row_14_a_key_of_one_model_finds_no_other(
    live_server: LiveServer, name: str, models: tuple[str, str]
) -> None:
    own, other = models
    limited = create(live_server, name=name, scopes=["predict", "read", "deploy"], models=[own])
    key = limited["key"]
    assert limited["models"] == [own]
    other_id = live_server.request("GET", f"api/v1/models/{other}").json()["id"]
    assert with_key(live_server, key, "POST", f"api/v1/predict/{own}", json=BODY) == 200
    for reference in (other, other_id, f"owner~{other}"):
        for method, path, options in (
            ("POST", f"api/v1/predict/{reference}", {"json": BODY}),
            ("GET", f"api/v1/models/{reference}", {}),
            ("PATCH", f"api/v1/models/{reference}", {"json": {"description": "x"}}),
            ("DELETE", f"api/v1/models/{reference}", {}),
            ("GET", f"api/v1/models/{reference}/versions", {}),
            ("GET", f"api/v1/models/{reference}/versions/1", {}),
            ("GET", f"api/v1/models/{reference}/versions/1/artifact", {}),
            ("GET", f"api/v1/analytics/models/{reference}/predictions", {}),
        ):
            answer = answer_with_key(live_server, key, method, path, **options)
            assert answer.status_code == 404, (method, path, answer.text)
            assert other not in answer.text.replace(reference, "")
    page = answer_with_key(live_server, key, "GET", "api/v1/models?limit=500").json()
    assert [model["name"] for model in page["items"]] == [own]


def test_row_14_a_key_of_one_model_deploys_no_other(
    live_server: LiveServer, name: str, models: tuple[str, str], tmp_path: Path
) -> None:
    from mlserve_jupyter.api.manifest import encode_json

    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    own, other = models
    key = create(live_server, name=name, scopes=["deploy"], models=[own])["key"]
    for model, status in ((own, 201), (other, 403), (f"new-{own}", 403)):
        files = [
            ("manifest", (None, encode_json(manifest_of(model, artifact)))),
            ("artifact", ("model", artifact.read_bytes())),
        ]
        assert with_key(live_server, key, "POST", "api/v1/models", files=files) == status


def test_row_14_what_only_looks_like_a_key_is_refused(live_server: LiveServer, name: str) -> None:
    from mlserve_jupyter.accounts.keys import make_key

    created = create(live_server, name=name, scopes=["read"])
    key = created["key"]
    body, _, checksum = key.rpartition("_")
    wrong = "0" if checksum[-1] != "0" else "1"
    forged = make_key()[0].split("_")
    for text in (
        f"{body}_{checksum[:-1]}{wrong}",
        created["prefix"],
        created["prefix"] + "_",
        body,
        key.upper(),
        key + " x",
        key[:-1],
        make_key()[0],
        "_".join([*forged[:1], key.split("_")[1], *forged[2:]]),
    ):
        assert with_key(live_server, text, "GET", "api/v1/models") == 401, text
    assert with_key(live_server, key, "GET", "api/v1/models") == 200


def test_row_14_a_key_with_a_right_checksum_and_anothers_prefix_is_refused(
    live_server: LiveServer, name: str
) -> None:
    import zlib

    created = create(live_server, name=name, scopes=["read"])
    body = f"{created['prefix']}_{'0' * 48}"
    forged = f"{body}_{zlib.crc32(body.encode()):08x}"
    assert with_key(live_server, forged, "GET", "api/v1/models") == 401


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"name": "A b"}, 400),
        ({"scopes": []}, 400),
        ({"scopes": ["all"]}, 400),
        ({"models": []}, 400),
        ({"models": ["nothing-of-that-name"]}, 404),
        ({"expires_in_s": 0}, 400),
        ({"rate_limit": -1}, 400),
        ({"user_id": "x"}, 400),
        ({"role": "admin"}, 400),
    ],
    ids=str,
)
def test_a_key_that_cannot_be_is_refused(
    live_server: LiveServer, name: str, change: dict[str, Any], status: int
) -> None:
    response = live_server.request("POST", "api/v1/api-keys", json={"name": name, **change})
    assert response.status_code == status, response.text


def test_a_name_is_that_of_one_key_at_a_time(live_server: LiveServer, name: str) -> None:
    first = create(live_server, name=name)
    again = live_server.request("POST", "api/v1/api-keys", json={"name": name})
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    live_server.request("DELETE", f"api/v1/api-keys/{first['id']}")
    assert create(live_server, name=name)["id"] != first["id"]


def test_a_key_makes_no_key_that_may_more_than_itself(live_server: LiveServer, name: str) -> None:
    admin = create(live_server, name=name, scopes=["admin", "read"])["key"]
    for scopes, status in ((["read"], 201), (["predict"], 403), (["read", "deploy"], 403)):
        wanted = {"name": f"{name}-{'-'.join(scopes)}", "scopes": scopes}
        assert with_key(live_server, admin, "POST", "api/v1/api-keys", json=wanted) == status
    limited = {"name": f"{name}-limited", "scopes": ["admin"], "models": ["x"]}
    assert with_key(live_server, admin, "POST", "api/v1/api-keys", json=limited) == 400


@pytest.mark.parametrize("id", ["x", "00000000-0000-0000-0000-000000000000", "..%2f"])
def test_a_key_that_is_not_there_cannot_be_revoked(live_server: LiveServer, id: str) -> None:
    assert live_server.request("DELETE", f"api/v1/api-keys/{id}").status_code == 404
