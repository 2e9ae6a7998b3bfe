"""Whom Jupyter's identities stand for, and what they are on the platform."""

from __future__ import annotations

from typing import Any

import pytest
from jupyter_server.auth.identity import IdentityProvider, PasswordIdentityProvider, User

from mlserve_jupyter.server.extension import MLServeApp
from mlserve_jupyter.server.owner import kernel_role, owner_name, role_of


class NamingProvider(IdentityProvider):
    """One that knows names, as JupyterHub's does."""


class HubUser(User):
    """A user as JupyterHub's provider gives it, with what the Hub says."""

    def __init__(self, username: str, **hub_user: Any) -> None:
        super().__init__(username)
        self.hub_user = {"name": username, **hub_user}


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUPYTERHUB_USER", raising=False)


def test_without_names_whoever_gets_in_is_the_owner_who_administers_the_platform() -> None:
    for provider in (IdentityProvider(), PasswordIdentityProvider()):
        assert owner_name(provider, "a4f0b1", "owner") == "owner"
        assert role_of(provider, User("a4f0b1")) == kernel_role(provider) == "admin"
    assert MLServeApp().owner == "owner"


def test_where_jupyter_knows_names_visitors_are_users() -> None:
    provider = NamingProvider()
    assert owner_name(provider, "ann", "owner") == "ann"
    assert role_of(provider, User("ann")) == kernel_role(provider) == "user"


@pytest.mark.parametrize(("said", "role"), [(True, "admin"), (False, "user"), ("yes", "user")])
def test_an_administrator_of_jupyterhub_is_one_here(said: object, role: str) -> None:
    assert role_of(NamingProvider(), HubUser("ann", admin=said)) == role
    assert role_of(NamingProvider(), HubUser("ann")) == "user"


@pytest.mark.parametrize("username", ["ann", "Ann Bee@example.org"])
def test_under_jupyterhub_kernels_and_jupyterlab_are_one_user(
    monkeypatch: pytest.MonkeyPatch, username: str
) -> None:
    monkeypatch.setenv("JUPYTERHUB_USER", username)
    kernels = MLServeApp().owner
    assert kernels == owner_name(NamingProvider(), username, kernels)
    # JupyterHub's older way, where its users come without names: still no administrators.
    assert role_of(IdentityProvider(), User("x")) == kernel_role(IdentityProvider()) == "user"


def test_two_names_never_become_one_user() -> None:
    names = ["ann", "Ann", "ann ", "ann@a", "ann@b", "änn", "@", "-ann"]
    assert len({owner_name(NamingProvider(), name, "owner") for name in names}) == len(names)
