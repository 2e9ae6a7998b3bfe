"""Users, approvals and the audit log, as administrators see and change them, in both hosts."""

from __future__ import annotations

import csv
import io
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.accounts.administration import change_user, list_users
from mlserve_jupyter.accounts.audit import Origin
from mlserve_jupyter.accounts.epoch import read_epoch
from mlserve_jupyter.api.users import UpdateUser
from mlserve_jupyter.errors import Conflict
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.tables import audit_log, users
from tests import toys
from tests.accounts.people import add_person
from tests.accounts.platforms import RunningPlatform, deploy, deploy_approved
from tests.server.manifests import manifest_of

BODY = {"instances": [[1.0]]}
ORIGIN = Origin("root", None, "key", "192.0.2.1", "r-1")


def within_s(limit_s: float, condition: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.05)
    return True


def test_users_are_listed_with_what_their_models_are_used_for(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    dora = platform.person("dora")
    deploy_approved(platform, dora, "used", Path(toys.write_model(toys.SumModel(), tmp_path).path))
    dora.request("POST", "api/v1/predict/used", json=BODY)
    root = platform.person("root", "admin")

    def described() -> Any:
        [found] = root.request("GET", "api/v1/users?name=dora").json()["items"]
        return found

    assert within_s(20, lambda: described()["n_calls"] == 1)
    found = described()
    assert (found["n_models"], found["role"], found["is_active"]) == (1, "user", True)
    assert found["last_called_at"] is not None
    assert "password" not in json.dumps(found)
    admins = root.request("GET", "api/v1/users?role=admin").json()["items"]
    assert "root" in [user["name"] for user in admins]
    assert {user["role"] for user in admins} == {"admin"}


def test_users_page_by_name(platform: RunningPlatform) -> None:
    for name in ("page-a", "page-b", "page-c"):
        platform.person(name)
    root = platform.person("root", "admin")
    seen, cursor = [], ""
    while cursor is not None:
        query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = root.request("GET", "api/v1/users", params=query).json()
        seen += [user["name"] for user in page["items"]]
        cursor = page["next_cursor"]
    assert seen == sorted(seen)
    assert {"page-a", "page-b", "page-c"} <= set(seen)


def test_users_are_for_administrators(platform: RunningPlatform) -> None:
    eve = platform.person("eve")
    for method, path in (
        ("GET", "api/v1/users"),
        ("PATCH", f"api/v1/users/{eve.id}"),
        ("GET", "api/v1/audit"),
        ("GET", "api/v1/artifact-approvals"),
        ("PUT", f"api/v1/artifact-approvals/{'0' * 64}"),
    ):
        refused = eve.request(method, path, json={})
        assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied"), path


def test_a_disabled_user_is_refused_at_once_and_let_in_again(platform: RunningPlatform) -> None:
    fay, root = platform.person("fay"), platform.person("root", "admin")
    assert fay.request("GET", "api/v1/models").status_code == 200
    path = f"api/v1/users/{fay.id}"
    assert root.request("PATCH", path, json={"is_active": False}).json()["is_active"] is False
    assert fay.request("GET", "api/v1/models").status_code == 401
    assert root.request("PATCH", path, json={"is_active": True}).status_code == 200
    assert fay.request("GET", "api/v1/models").status_code == 200


def test_a_role_is_given_and_taken(platform: RunningPlatform) -> None:
    gus, root = platform.person("gus"), platform.person("root", "admin")
    path = f"api/v1/users/{gus.id}"
    assert gus.request("GET", "api/v1/users").status_code == 403
    assert root.request("PATCH", path, json={"role": "admin"}).status_code == 200
    assert gus.request("GET", "api/v1/users").status_code == 200
    assert root.request("PATCH", path, json={"role": "user"}).status_code == 200
    assert gus.request("GET", "api/v1/users").status_code == 403
    changes = platform.events(action="user", actor="root")
    assert [event["details"]["role"] for event in changes[:2]] == ["user", "admin"]


@pytest.mark.parametrize(
    "body", [{"role": "root"}, {"rate_limit": -1}, {"name": "x"}, {"is_active": 1}, [], "x"]
)
def test_changes_that_cannot_be_are_refused(platform: RunningPlatform, body: Any) -> None:
    root = platform.person("root", "admin")
    refused = root.request("PATCH", f"api/v1/users/{root.id}", json=body)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_body")


@pytest.mark.parametrize("user", ["nobody", "0", "00000000-0000-7000-8000-000000000000"])
def test_a_user_who_is_not_there_is_404(platform: RunningPlatform, user: str) -> None:
    root = platform.person("root", "admin")
    assert root.request("PATCH", f"api/v1/users/{user}", json={}).status_code == 404


def test_a_user_is_changed_by_name_and_an_id_goes_before_a_name(engine: Engine) -> None:
    add_person(engine, "", "root", "admin")
    ann = add_person(engine, "", "ann")
    double = add_person(engine, "", ann.id)
    assert change_user(engine, "ann", UpdateUser(rate_limit=5), ORIGIN).id == ann.id
    assert change_user(engine, ann.id, UpdateUser(rate_limit=6), ORIGIN).id == ann.id
    assert change_user(engine, double.id, UpdateUser(rate_limit=7), ORIGIN).id == double.id


@pytest.mark.parametrize("changes", [UpdateUser(role="user"), UpdateUser(is_active=False)])
def test_the_last_active_administrator_stays_one(engine: Engine, changes: UpdateUser) -> None:
    root = add_person(engine, "", "root", "admin")
    add_person(engine, "", "former", "admin", is_active=False)
    with pytest.raises(Conflict, match="last active administrator"):
        change_user(engine, root.id, changes, ORIGIN)
    [found] = list_users(engine, 10, None, name="root").items
    assert (found.role, found.is_active) == ("admin", True)


def test_of_two_administrators_who_end_each_other_at_once_one_stays(engine: Engine) -> None:
    people = [add_person(engine, "", name, "admin") for name in ("one", "two")]
    start = threading.Barrier(2)
    outcomes: list[str] = []

    def demote(user_id: str) -> None:
        start.wait()
        try:
            change_user(engine, user_id, UpdateUser(role="user"), ORIGIN)
            outcomes.append("demoted")
        except Conflict:
            outcomes.append("refused")

    threads = [threading.Thread(target=demote, args=(person.id,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["demoted", "refused"]


def test_what_takes_access_away_ends_tokens_and_raises_the_epoch_in_one_transaction(
    engine: Engine,
) -> None:
    add_person(engine, "", "root", "admin")
    user = add_person(engine, "", "hal", "admin")

    def state() -> tuple[int, int, int]:
        with reading(engine) as connection:
            token_epoch = connection.execute(
                sa.select(users.c.token_epoch).where(users.c.id == user.id)
            ).scalar_one()
            n_events = connection.execute(
                sa.select(sa.func.count()).select_from(audit_log)
            ).scalar_one()
            return token_epoch, read_epoch(connection), n_events

    tokens, epoch, n_events = state()
    change_user(engine, user.id, UpdateUser(rate_limit=5), ORIGIN)
    assert state() == (tokens, epoch + 1, n_events + 1)
    change_user(engine, user.id, UpdateUser(role="user"), ORIGIN)
    assert state() == (tokens + 1, epoch + 2, n_events + 2)
    change_user(engine, user.id, UpdateUser(role="user", rate_limit=5), ORIGIN)
    assert state() == (tokens + 1, epoch + 2, n_events + 2), "nothing was changed"
    change_user(engine, user.id, UpdateUser(is_active=False), ORIGIN)
    assert state() == (tokens + 2, epoch + 3, n_events + 3)


# The embedded host takes artifacts that can run code, so there is nothing to approve.
@pytest.mark.parametrize("platform", ["standalone"], indirect=True)
def test_an_approval_lets_one_artifact_in_and_taking_it_back_stops_it(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    ida, root = platform.person("ida"), platform.person("root", "admin")
    artifact = Path(toys.write_model(toys.BallastModel(16), tmp_path).path)
    sha256 = manifest_of("x", artifact).sha256
    refused = deploy(ida, "gated", artifact)
    assert refused.status_code == 403
    assert refused.json()["details"]["sha256"] == sha256
    assert sha256 in refused.json()["message"]
    path = f"api/v1/artifact-approvals/{sha256}"
    approved = root.request("PUT", path, json={"note": "read by me"})
    assert approved.json()["approved_by"] == "root"
    assert root.request("PUT", path, json={"note": "again"}).json()["note"] == "read by me"
    assert deploy(ida, "gated", artifact).status_code == 201
    other = Path(toys.write_model(toys.BallastModel(16), tmp_path).path)
    assert deploy(ida, "other", other).status_code == 403
    predict = lambda: ida.request("POST", "api/v1/predict/gated", json=BODY)  # noqa: E731
    assert predict().json()["predictions"] == [1.0]
    assert root.request("GET", path).json()["versions"] == ["ida~gated 1"]
    assert sha256 in [
        item["sha256"]
        for item in root.request("GET", "api/v1/artifact-approvals?limit=500").json()["items"]
    ]
    assert root.request("DELETE", path).status_code == 204
    stopped = predict()
    assert (stopped.status_code, stopped.json()["details"]["sha256"]) == (403, sha256)
    assert root.request("DELETE", path).status_code == 404
    assert root.request("GET", path).status_code == 404
    actions = [event["action"] for event in platform.events(action="artifact", actor="root")]
    assert actions[:2] == ["artifact.disapprove", "artifact.approve"]


def test_what_is_no_sha256_is_not_approved(platform: RunningPlatform) -> None:
    root = platform.person("root", "admin")
    for text in ("x", "0" * 63, "g" * 64, "0" * 65):
        assert root.request("PUT", f"api/v1/artifact-approvals/{text}").status_code == 400


def test_refused_credentials_and_denied_requests_are_in_the_audit_log(
    platform: RunningPlatform,
) -> None:
    jane = platform.person("jane")
    bad = jane.key[:-9] + "0" + jane.key[-8:]
    headers = {"X-Request-Id": "the-bad-one"}
    answer = jane.request("GET", "api/v1/models", headers={**headers, "X-MLServe-Key": bad})
    assert answer.status_code == 401
    jane.request("GET", "api/v1/users", headers={"X-Request-Id": "the-denied-one"})
    httpx.get(jane.url + "api/v1/models", headers={"X-Request-Id": "without-any"})
    events = {event["request_id"]: event for event in platform.events(action="request", limit="99")}
    assert events["the-bad-one"]["outcome"] == "unauthenticated"
    assert events["the-denied-one"]["actor"] == "jane"
    assert events["the-denied-one"]["outcome"] == "permission_denied"
    assert events["the-denied-one"]["target"] == "GET /mlserve/api/v1/users"
    assert "without-any" not in events, "a request without any credential is no event"
    assert bad not in json.dumps(list(events.values()))
    assert jane.key not in json.dumps(list(events.values()))


def test_the_audit_log_is_filtered_and_pages_newest_first(platform: RunningPlatform) -> None:
    kim, root = platform.person("kim"), platform.person("root", "admin")
    for limit in (1, 2, 3):
        root.request("PATCH", f"api/v1/users/{kim.id}", json={"rate_limit": limit})
    events = platform.events(action="user.change", actor="root")
    ours = [event for event in events if event["target"] == "user kim"]
    assert [event["details"]["rate_limit"] for event in ours] == [3, 2, 1]
    since = ours[1]["at"]
    newer = [event["id"] for event in platform.events(action="user", since=since)]
    assert ours[0]["id"] in newer
    assert ours[1]["id"] in newer
    assert ours[2]["id"] not in newer
    assert platform.events(until=since, action="user", outcome="ok")[0]["id"] == ours[2]["id"]
    first = root.request("GET", "api/v1/audit?limit=1&action=user").json()
    second = root.request(
        "GET", f"api/v1/audit?limit=1&action=user&cursor={first['next_cursor']}"
    ).json()
    assert [first["items"][0]["id"], second["items"][0]["id"]] == newer[:2]


@pytest.mark.parametrize(
    "query",
    ["since=yesterday", "since=2026-01-01T25:00:00", "format=xml", "cursor=x", "limit=0"]
    + ["since=0001-01-01T00:00:00%2B14:00", "until=9999-12-31T23:59:59-14:00"],
)
def test_arguments_that_cannot_be_are_refused(platform: RunningPlatform, query: str) -> None:
    root = platform.person("root", "admin")
    refused = root.request("GET", f"api/v1/audit?{query}")
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")


def test_row_24_an_export_holds_no_formula_and_no_line_that_a_caller_made(
    platform: RunningPlatform,
) -> None:
    eve, root = platform.person("eve"), platform.person("root", "admin")
    path = "api/v1/artifact-approvals/%3D1+1%0D%0A2026-01-01,forged%E2%80%A8x"
    assert eve.request("PUT", path, json={}).status_code == 403
    for formula in ("=HYPERLINK(1)", "@SUM(1)", "+1", "-1", "\t=1"):
        sha256 = f"{abs(hash(formula)):x}".rjust(64, "0")[-64:]
        root.request("PUT", f"api/v1/artifact-approvals/{sha256}", json={"note": formula})
    exported = root.request("GET", "api/v1/audit?format=csv")
    assert exported.headers["Content-Type"].startswith("text/csv")
    assert "attachment" in exported.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(exported.text, newline="")))
    n_events = root.request("GET", "api/v1/audit?format=jsonl").text.count("\n")
    assert len(rows) >= n_events - 2
    for row in rows:
        for cell in row.values():
            assert cell.isprintable() or not cell, cell
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert all(line.startswith('"') for line in exported.text.split("\r\n") if line)


def test_row_24_each_line_of_a_jsonl_export_is_one_event(platform: RunningPlatform) -> None:
    eve, root = platform.person("eve"), platform.person("root", "admin")
    eve.request("PUT", "api/v1/artifact-approvals/a%0D%0A%7B%7D%E2%80%A8", json={})
    exported = root.request("GET", "api/v1/audit?format=jsonl&action=request")
    lines = exported.text.splitlines()
    assert any("%0D%0A" in line or "\\r\\n" in line for line in lines)
    for line in lines:
        assert json.loads(line)["action"] == "request"


def test_an_export_goes_over_all_pages(engine: Engine) -> None:
    from mlserve_jupyter.accounts.audit_pages import EventFilter, list_events

    with writing(engine) as connection:
        for number in range(25):
            ORIGIN.write(connection, "test", f"thing {number}", {})
    seen: list[str] = []
    page = list_events(engine, EventFilter(action="test"), 10, None)
    while True:
        seen += [event.target for event in page.items]
        if page.next_cursor is None:
            break
        page = list_events(engine, EventFilter(action="test"), 10, page.next_cursor)
    assert seen == [f"thing {number}" for number in reversed(range(25))]
