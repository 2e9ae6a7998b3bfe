"""The same small world in either host: a model with an owner, and callers of every kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from mlserve_jupyter.api.manifest import encode_json
from tests import toys
from tests.live import NO_TLS, LiveServer
from tests.server.manifests import manifest_of
from tests.standalone.hosts import StandaloneServer

PASSWORD = "a long enough passphrase"

Headers = Mapping[str, str]

OPTIONS = ("registration=open", "quota_per_minute=0", "allow_pickle=True")
"""Settings of the host: nobody is refused for calling often."""


@dataclass
class World:
    """A host with its people.

    Attributes
    ----------
    pid
        Of the process that answers.
    folder
        Where all that the host keeps lies.
    model
        Id of the model ``iris``, which belongs to the caller ``user`` and is private.
    callers
        What each sends along, by the names of the table's columns; the columns of the other host
        are missing.
    """

    url: str
    pid: int
    folder: Path
    http: httpx.Client
    model: str = ""
    callers: dict[str, Headers] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def call(self, caller: str, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {**self.callers[caller], **options.pop("headers", {})}
        self.http.cookies.clear()  # what a host has set for one caller is not the next one's
        return self.http.request(method, self.url + path, headers=headers, **options)

    def sign_in(self, name: str) -> Headers:
        """Return the headers of a new session."""
        body = {"email": f"{name}@example.org", "password": PASSWORD}
        self.http.cookies.clear()
        answer = self.http.post(self.url + "api/v1/auth/login", json=body)
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def new_key(self, caller: str, **wanted: Any) -> dict[str, Any]:
        body = {"name": f"key-{time.monotonic_ns()}", **wanted}
        answer = self.call(caller, "POST", "api/v1/api-keys", json=body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made


def embedded_world(server: LiveServer, folder: Path) -> World:
    """Populate a Jupyter server, whose own identities are callers as well."""
    http = httpx.Client(timeout=60, verify=NO_TLS)
    visitor = httpx.Client(verify=NO_TLS)
    visitor.get(server.jupyter_url + "lab?token=" + server.token)
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    xsrf = visitor.cookies["_xsrf"]
    visitor.close()
    own: dict[str, Headers] = {
        "jupyter": {"Authorization": f"token {server.token}"},
        "cookie": {"Cookie": cookie},
        "xsrf": {"Cookie": cookie, "X-XSRFToken": xsrf},
        "kernel": {"X-MLServe-Key": server.key},
    }
    return _populated(
        World(server.url, server.process.pid, server.data_dir, http, callers=own), "kernel", folder
    )


def standalone_world(server: StandaloneServer, folder: Path) -> World:
    """Populate a standalone server, whose operator has a key."""
    http = httpx.Client(timeout=60, verify=NO_TLS)
    own: dict[str, Headers] = {"host": {"X-MLServe-Key": server.key}}
    return _populated(
        World(server.url, server.pids()[0], server.data_dir, http, callers=own), "host", folder
    )


def _populated(world: World, operator: str, folder: Path) -> World:
    for name in ("user", "other", "admin"):
        body = {"email": f"{name}@example.org", "password": PASSWORD, "name": name}
        made = world.http.post(world.url + "api/v1/auth/register", json=body)
        assert made.status_code == 201, made.text
        world.ids[name] = made.json()["id"]
        if name == "admin":
            path = f"api/v1/users/{world.ids[name]}"
            changed = world.call(operator, "PATCH", path, json={"role": "admin"})
            assert changed.status_code == 200, changed.text
        world.callers[name] = world.sign_in(name)
    world.callers["nobody"] = {}
    artifact = Path(toys.write_model(toys.SumModel(), folder).path)
    for name in ("iris", "wine"):
        deployed = world.call("user", "POST", "api/v1/models", files=parts_of(name, artifact))
        assert deployed.status_code == 201, deployed.text
    world.model = world.call("user", "GET", "api/v1/models/iris").json()["id"]
    for scope in ("predict", "read", "deploy"):
        world.callers[f"k-{scope}"] = _key(world.new_key("user", scopes=[scope]))
    world.callers["k-admin"] = _key(world.new_key("admin", scopes=["admin"]))
    limited = world.new_key("user", scopes=["predict", "read", "deploy"], models=["wine"])
    world.callers["k-wine"] = _key(limited)
    revoked = world.new_key("user", scopes=["predict", "read", "deploy"])
    world.call("user", "DELETE", f"api/v1/api-keys/{revoked['id']}")
    expired = world.new_key("user", scopes=["predict", "read", "deploy"], expires_in_s=1)
    left = world.sign_in("user")
    world.http.post(world.url + "api/v1/auth/logout", headers=left)
    world.callers |= {"revoked": _key(revoked), "expired": _key(expired), "left": left}
    time.sleep(1.1)
    return world


def _key(made: dict[str, Any]) -> Headers:
    return {"X-MLServe-Key": made["key"]}


def parts_of(name: str, artifact: Path) -> list[tuple[str, Any]]:
    """Return a deploy's form."""
    return [
        ("manifest", (None, encode_json(manifest_of(name, artifact)))),
        ("artifact", ("model", artifact.read_bytes())),
    ]


@dataclass(frozen=True)
class Example:
    """A request of one row of the table.

    Attributes
    ----------
    path
        The path below the platform's URL; called for every cell, so that what one cell has
        deleted is there again in the next.
    options
        What httpx sends along.
    """

    path: Callable[[World], str]
    options: Mapping[str, Any] = field(default_factory=dict)


def at(path: str, **options: Any) -> Example:
    """Return a request whose path names nothing but the model ``{iris}``."""
    return Example(lambda world: path.replace("{iris}", world.model), options)
