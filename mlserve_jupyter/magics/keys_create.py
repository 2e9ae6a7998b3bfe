"""``%mlserve keys create NAME``: a key with which a program outside calls models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from mlserve_jupyter.api.keys import CreateKey, DescribeNewKey, Scope
from mlserve_jupyter.api.moments import seconds
from mlserve_jupyter.client.http import Client, connect
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage
from mlserve_jupyter.magics.display import (
    Display,
    html_code,
    html_paragraph,
    html_text,
    html_warnings,
    text_facts,
)
from mlserve_jupyter.magics.keys_list import facts_of
from mlserve_jupyter.magics.snippet import key_credential, snippet_of

USAGE = Usage(
    "keys create",
    "Make a key for a program outside; it is shown this once.",
    (
        Argument("NAME", "A name by which you know it."),
        Argument(
            "--scopes",
            "What it may do, with commas; without it, predict.",
            "list",
            choices=get_args(Scope),
            value="SCOPE,…",
        ),
        Argument(
            "--models",
            "The only models that it may be used for, with commas.",
            "list",
            completes="models",
            value="NAME,…",
        ),
        Argument("--expires", "When it ends: 30d, 12h, 90min; without it, never.", value="TIME"),
        Argument("--rate", "Requests a minute; without it, your own limit.", "integer"),
        TARGET,
    ),
)

_ONCE = (
    "This is the only time that the key is shown. Keep it where the program finds it, and clear "
    "this cell's output before others see the notebook."
)


@dataclass(frozen=True, repr=False)
class NewKey(Display):
    """A key that was just made.

    Attributes
    ----------
    key
        The key itself, which nobody can look up again.
    described
        What the server keeps of it.
    curl
        A call with it, from a shell in which ``MLSERVE_KEY`` is set.
    """

    key: str = field(repr=False)
    described: DescribeNewKey
    curl: str

    def _text(self) -> str:
        facts = text_facts(facts_of(self.described), 12)
        export = f"export MLSERVE_KEY={self.key}"
        return "\n".join([self.described.name, *facts, "", _ONCE, "", export, self.curl])

    def _html(self) -> str:
        facts = "".join(
            html_paragraph(html_text(f"{name}: ", dim=True) + html_text(value))
            for name, value in facts_of(self.described)
        )
        return (
            html_paragraph(html_text(self.described.name, bold=True))
            + facts
            + html_warnings([_ONCE])
            + html_code(f"export MLSERVE_KEY={self.key}\n{self.curl}")
        )


def create(
    name: str,
    *,
    scopes: Sequence[Scope] = ("predict",),
    models: Sequence[str] | None = None,
    expires: str | float | None = None,
    rate: int | None = None,
    to: str | None = None,
) -> NewKey:
    """Make a key with which a program outside the notebook calls models.

    Parameters
    ----------
    name
        A name by which you know it.
    scopes
        What it may do: any of ``predict``, ``read``, ``deploy``, ``admin``.
    models
        The only models that it may be used for; None for all.
    expires
        When it ends: a time such as ``"30d"``, ``"12h"`` or ``"90min"``, or seconds; None for
        never.
    rate
        Requests a minute; None for your own limit.
    to
        URL of another server than the notebook's own.

    Returns
    -------
    NewKey
        Shown with the key, which cannot be looked up again, and a call that uses it.

    Raises
    ------
    InvalidUsage
        ``expires`` is no time.
    RequestFailed
        The server refuses: there is a key of that name, or it may not be yours to make.
    ServerNotFound
        No server answers.
    """
    client = connect(to)
    wanted = CreateKey(
        name=name,
        scopes=tuple(scopes),
        models=None if models is None else list(models),
        expires_in_s=None if expires is None else seconds(expires),
        rate_limit=rate,
    )
    made = client.create_key(wanted)
    return NewKey(made.key, made, _curl(client, made))


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> NewKey:
    """Run the magic."""
    return create(**arguments)


def _curl(client: Client, made: DescribeNewKey) -> str:
    """Return a call with the key: of a model that it may be used for, where there is one."""
    if "predict" not in made.scopes:
        path = "api/v1/api-keys" if made.scopes == ["admin"] else "api/v1/models"
        return f'curl -s {client.connection.url}{path} -H "X-MLServe-Key: $MLSERVE_KEY"'
    for model in client.models():
        if model.default_version is not None and model.name in (made.models or [model.name]):
            version = client.version(model.name, model.default_version)
            return snippet_of(version, client.connection, credential=KEY).curl
    name = made.models[0] if made.models else "NAME"
    return (
        f"curl -s {client.connection.url}api/v1/predict/{name} \\\n"
        '  -H "X-MLServe-Key: $MLSERVE_KEY" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        "  -d '{\"instances\": []}'"
    )


KEY = key_credential("the key")
