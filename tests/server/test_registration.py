"""Registration and invitations over HTTP; the modes are the service's business in both hosts."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlserve_jupyter.storage.engine import writing
from mlserve_jupyter.storage.tables import invitations
from tests.accounts.signing_in import PASSWORD, Account, call, database, make_account
from tests.live import LiveServer
from tests.standalone.conftest import standalone
from tests.standalone.hosts import StandaloneServer, start_standalone

__all__ = ["standalone"]


@pytest.fixture
def admin(standalone: StandaloneServer) -> Account:
    return make_account(standalone, "admin").signed_in()


def new_email() -> str:
    return f"{uuid.uuid4().hex[:16]}@example.org"


def register(server: Any, **body: Any) -> httpx.Response:
    body = {"email": new_email(), "password": PASSWORD, **body}
    return call(server, "POST", "api/v1/auth/register", json=body)


def invite(admin: Account, **wanted: Any) -> dict[str, Any]:
    response = admin.request("POST", "api/v1/invitations", json=wanted)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def test_nobody_registers_with_a_jupyter_server_as_it_is(live_server: LiveServer) -> None:
    response = register(live_server)
    assert (response.status_code, response.json()["code"]) == (403, "permission_denied")


def test_a_standalone_server_takes_in_whoever_is_invited_once(
    standalone: StandaloneServer, admin: Account
) -> None:
    assert register(standalone).status_code == 403
    assert register(standalone, invitation="mli_0000").status_code == 403
    invitation = invite(admin)
    made = register(standalone, invitation=invitation["code"], name=f"bob-{uuid.uuid4().hex[:8]}")
    assert made.status_code == 201, made.text
    assert made.json()["role"] == "user"
    assert "password" not in made.text
    assert register(standalone, invitation=invitation["code"]).status_code == 403
    listed = admin.request("GET", "api/v1/invitations?limit=1").json()
    [item] = listed["items"]
    assert item["used_by"] == made.json()["name"]
    assert "code" not in item
    path = f"api/v1/invitations/{invitation['id']}"
    assert admin.request("DELETE", path).status_code == 409


def test_an_invitation_may_be_for_one_email_and_for_an_administrator(
    standalone: StandaloneServer, admin: Account
) -> None:
    email = new_email()
    code = invite(admin, email=email.upper(), role="admin")["code"]
    assert register(standalone, invitation=code).status_code == 403
    made = register(standalone, invitation=code, email=f" {email.title()} ")
    assert made.status_code == 201, made.text
    assert (made.json()["email"], made.json()["role"]) == (email, "admin")


def test_an_invitation_ends_when_it_is_taken_back_or_out_of_date(
    standalone: StandaloneServer, admin: Account
) -> None:
    taken_back, expired = invite(admin), invite(admin)
    path = f"api/v1/invitations/{taken_back['id']}"
    assert admin.request("DELETE", path).status_code == 204
    assert admin.request("DELETE", path).status_code == 404
    assert admin.request("DELETE", "api/v1/invitations/nonsense").status_code == 404
    with database(standalone) as engine, writing(engine) as connection:
        connection.execute(
            invitations.update()
            .where(invitations.c.id == expired["id"])
            .values(expires_at=datetime.now(timezone.utc) - timedelta(seconds=1))
        )
    for invitation in (taken_back, expired):
        assert register(standalone, invitation=invitation["code"]).status_code == 403


def test_invitations_are_the_business_of_administrators(standalone: StandaloneServer) -> None:
    ann = make_account(standalone).signed_in()
    assert ann.request("POST", "api/v1/invitations", json={}).status_code == 403
    assert ann.request("GET", "api/v1/invitations").status_code == 403
    assert ann.request("DELETE", "api/v1/invitations/1").status_code == 403


@pytest.mark.slow
def test_an_open_server_takes_in_anybody_until_an_address_has_had_enough(tmp_path: Path) -> None:
    with start_standalone(tmp_path, "--registration=open") as server:
        first = {"email": "Ann@example.org"}
        assert register(server, **first).json()["name"] == "ann"
        assert register(server, **first).status_code == 409
        assert register(server, name="ann").status_code == 409
        assert register(server, name="owner").status_code == 409
        assert register(server, name="Bob~Lee").status_code == 400
        assert register(server, email="nobody").json()["code"] == "email_rejected"
        statuses = [register(server, password="short").status_code for _ in range(20)]
        assert set(statuses) == {422, 429}
