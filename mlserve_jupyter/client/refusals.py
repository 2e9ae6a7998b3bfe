"""Turns a server's refusal into an error that says what to do about it in a notebook."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import msgspec

from mlserve_jupyter.api.resources import ErrorBody
from mlserve_jupyter.client.connection import Connection
from mlserve_jupyter.errors import RequestFailed

if TYPE_CHECKING:
    import httpx

_TAKEN = frozenset({"self", "message", "status", "server_code", "request_id"})
_SIGNING_IN = ("/api/v1/auth/login", "/api/v1/auth/refresh")
"""What is judged there is in the body."""


def refusal(response: httpx.Response, connection: Connection) -> RequestFailed:
    """Turn an answer that is not a success into an error."""
    status = response.status_code
    try:
        body = msgspec.json.decode(response.content, type=ErrorBody)
    except msgspec.MsgspecError:
        return RequestFailed(_explain(status, connection.url), status=status, server_code="unknown")
    advice = _undo(body)
    if body.code == "unauthenticated" and not response.request.url.path.endswith(_SIGNING_IN):
        advice = f" {credential_words(connection)}"
    return RequestFailed(
        body.message + advice,
        status=status,
        server_code=body.code,
        request_id=body.request_id,
        **{name: value for name, value in body.details.items() if name not in _TAKEN},
    )


def credential_words(connection: Connection) -> str:
    """Say which credential this kernel has sent, and how to get a better one."""
    url = connection.url
    if connection.target:
        name = shlex.quote(connection.target)
        return (
            f"This kernel sent your session of the server {connection.target!r}: sign in again "
            f"with `%mlserve login {url} --name {name}`."
        )
    if connection.path:
        return (
            f"This kernel sent the key of {connection.path}, which is valid while that server "
            "runs: run the line again if it was just restarted."
        )
    if not connection.key:
        return (
            f"This kernel sent nothing: sign in with `%mlserve login {url}`, or set MLSERVE_KEY to "
            "an API key of that server."
        )
    source = connection.key_source
    kind = "API key" if connection.key.startswith("mls_") else "token"
    sent = f"This kernel sent the {kind} of {source}" if source else f"This kernel sent the {kind}"
    return f"{sent}: set MLSERVE_KEY to one that is valid, or sign in with `%mlserve login {url}`."


def _undo(body: ErrorBody) -> str:
    """Name the way back for a version that is archived."""
    model, version = body.details.get("model"), body.details.get("version")
    if body.code != "version_not_found" or "archived" not in body.message or not model:
        return ""
    only = "" if version is None else f" --version {version}"
    return f" In a notebook, `%mlserve archive {model}{only} --undo` makes it active again."


def _explain(status: int, url: str) -> str:
    """Say what an answer means that did not come from the platform itself."""
    if status == 404:
        return (
            f"The server at {url} does not have mlserve_jupyter: install it in the server's "
            "environment and restart the server."
        )
    if status in (302, 401, 403):
        return (
            f"The server at {url} did not accept the credential: set MLSERVE_KEY to an API key or "
            "to the token of the Jupyter server."
        )
    return f"The server at {url} answered with the status {status}, and no word on why."
