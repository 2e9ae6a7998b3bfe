"""Signs in to a server, and shows the tokens with each request from then on."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Generator

import httpx

from mlserve_jupyter.api.accounts import DescribeTokens
from mlserve_jupyter.client.connection import Connection, url_of
from mlserve_jupyter.client.http import Client
from mlserve_jupyter.client.targets import Target, Targets
from mlserve_jupyter.errors import RequestFailed


def sign_in(url: str, email: str, password: str, name: str | None = None) -> Target:
    """Sign in to a server, and keep the tokens.

    Parameters
    ----------
    url
        Of an MLServe or a Jupyter server.
    name
        By which the server is called; None for its host's name, or one like it where another server
        or account has that.

    Raises
    ------
    ServerNotFound, DeadlineExceeded
        It does not answer.
    RequestFailed
        It refuses.
    """
    connection = Connection(url_of(url), "")
    client = Client(connection)
    try:
        tokens = client.login(email, password)
    finally:
        client.close()
    targets = Targets()
    name = name or targets.free_name(connection.url, email)
    target = _with_tokens(name, connection.url, email, tokens)
    targets.keep(target)
    return target


def sign_out(name: str) -> None:
    """End the tokens of a server, and forget them.

    Raises
    ------
    ServerNotFound, DeadlineExceeded
        There is no such server, or it does not answer; the tokens are forgotten.
    """
    targets = Targets()
    found = targets.find(name)
    if found is None:
        raise targets.unknown(name)
    client = Client(Connection(found.url, "", target=found.name))
    try:
        with contextlib.suppress(RequestFailed):  # they had ended before
            client.logout()
    finally:
        targets.forget(found.name)
        client.close()


class SignedIn(httpx.Auth):
    """Shows an access token that is good, which may have to be fetched first.

    Parameters
    ----------
    name
        Of the server among the targets.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._targets = Targets()

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the token on a request; httpx calls this."""
        target = self._targets.renewed(self._name, _exchange)
        request.headers["Authorization"] = f"Bearer {target.access_token}"
        yield request


def _exchange(target: Target) -> Target:
    client = Client(Connection(target.url, ""))
    try:
        tokens = client.refresh(target.refresh_token)
    except RequestFailed as error:
        raise RequestFailed(
            f"Your session of the server {target.name!r} has ended: sign in again with `%mlserve "
            f"login {target.url} --name {shlex.quote(target.name)}`.",
            status=error.status,
            server_code=error.server_code,
            request_id=error.request_id,
        ) from error
    finally:
        client.close()
    return _with_tokens(target.name, target.url, target.email, tokens)


def _with_tokens(name: str, url: str, email: str, tokens: DescribeTokens) -> Target:
    return Target(
        name=name,
        url=url,
        email=email,
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        expires_at_s=time.time() + tokens.expires_in,
    )
