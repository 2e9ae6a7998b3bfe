"""People with passwords, put into the database of a running server, and what they do there."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy.engine import Engine

from mlserve_jupyter.accounts.passwords import hash_password
from mlserve_jupyter.accounts.people import add_person
from mlserve_jupyter.storage.engine import open_engine, writing
from mlserve_jupyter.storage.users import Role
from tests.live import NO_TLS, LiveServer
from tests.standalone.hosts import StandaloneServer

Server = LiveServer | StandaloneServer

PASSWORD = "correct horse battery"


@functools.cache
def hashed_password() -> str:
    return hash_password(PASSWORD)


def data_dir(server: Server) -> Path:
    return server.data_dir / "mlserve" if isinstance(server, LiveServer) else server.data_dir


@contextmanager
def database(server: Server) -> Iterator[Engine]:
    assert server.request("GET", "api/v1/models").status_code == 200, "it is there now"
    engine = open_engine(server.settings)
    try:
        yield engine
    finally:
        engine.dispose()


@dataclass
class Account:
    """Somebody with a password, signed in or not."""

    server: Server = field(repr=False)
    id: str
    name: str
    email: str
    tokens: dict[str, Any] = field(default_factory=dict, repr=False)

    def login(self, password: str = PASSWORD, **options: Any) -> httpx.Response:
        body = {"email": self.email, "password": password}
        return call(self.server, "POST", "api/v1/auth/login", json=body, **options)

    def signed_in(self, password: str = PASSWORD) -> Account:
        response = self.login(password)
        assert response.status_code == 200, response.text
        return Account(self.server, self.id, self.name, self.email, response.json())

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {
            "Authorization": f"Bearer {self.tokens['access_token']}",
            **options.pop("headers", {}),
        }
        return call(self.server, method, path, headers=headers, **options)

    def is_signed_in(self) -> bool:
        response = self.request("GET", "api/v1/auth/me")
        assert response.status_code in (200, 401), response.text
        return response.status_code == 200

    def refresh(self) -> httpx.Response:
        body = {"refresh_token": self.tokens["refresh_token"]}
        return call(self.server, "POST", "api/v1/auth/refresh", json=body)


def call(server: Server, method: str, path: str, **options: Any) -> httpx.Response:
    """Call a route without any credential but those in ``options``."""
    options = {"timeout": 120, "verify": NO_TLS, **options}
    return httpx.request(method, server.url + path, **options)


def make_account(server: Server, role: Role = "user") -> Account:
    """Return a new person, who has the password and is not signed in."""
    name = f"ann-{uuid.uuid4().hex[:12]}"
    email = f"{name}@example.org"
    with database(server) as engine, writing(engine) as connection:
        person = add_person(
            connection, email=email, name=name, hashed_password=hashed_password(), role=role
        )
    return Account(server, person.id, name, email)
