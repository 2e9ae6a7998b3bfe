"""``%mlserve share NAME``: let others call a model, or nobody any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from mlserve_jupyter.api.resources import DescribeModel
from mlserve_jupyter.client.http import connect
from mlserve_jupyter.errors import InvalidUsage
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage
from mlserve_jupyter.magics.display import Display, html_inline_code, html_paragraph, html_text

USAGE = Usage(
    "share",
    "Let others call a model: named users, or all who are signed in.",
    (
        Argument("NAME", "The model's name.", completes="models"),
        Argument("--users", "Names of the users who may call it, and no others.", "list"),
        Argument("--public", "Let all who are signed in call it.", kind="flag"),
        Argument("--private", "Let nobody else call it any more.", kind="flag"),
        TARGET,
    ),
)


@dataclass(frozen=True, repr=False)
class Shared(Display):
    """Who may call a model.

    Attributes
    ----------
    model
        The model as it is now.
    url
        Where others call it; they need a key or a token of their own.
    """

    model: DescribeModel
    url: str

    def _text(self) -> str:
        said = f"{self.model.name} is {visibility_words(self.model)}."
        return (
            said if self.model.visibility == "private" else f"{said} Others call it at {self.url}"
        )

    def _html(self) -> str:
        said = html_text(f"{self.model.name} is {visibility_words(self.model)}.")
        if self.model.visibility != "private":
            said += html_text(" Others call it at ") + html_inline_code(self.url)
        return html_paragraph(said)


def share(
    name: str,
    *,
    users: Sequence[str] | None = None,
    public: bool = False,
    private: bool = False,
    to: str | None = None,
) -> Shared:
    """Let others call a model, or nobody any more; without a choice, say who may.

    Parameters
    ----------
    name
        The model's name.
    users
        Names of the users who may call it, and no others.
    public
        Let all who are signed in call it.
    private
        Let nobody else call it any more.
    to
        URL of another server than the notebook's own.

    Raises
    ------
    InvalidUsage
        More than one of ``users``, ``public`` and ``private``.
    RequestFailed
        There is no such model or user, or the model is another user's.
    ServerNotFound
        No server answers.
    """
    if (users is not None) + public + private > 1:
        raise InvalidUsage("Choose one of --users, --public and --private.")
    if isinstance(users, str):
        raise InvalidUsage(f"users is a list of names, such as [{users!r}].")
    client = connect(to)
    if users is not None:
        model = client.share(name, "shared", users)
    elif public or private:
        model = client.share(name, "public" if public else "private")
    else:
        model = client.model(name)
    routes, _, _ = model.predict_path.rpartition("/")
    url = urljoin(client.connection.url, f"{routes}/{model.owner}~{model.name}")
    return Shared(model, url)


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Shared:
    """Run the magic."""
    return share(**arguments)


def visibility_words(model: DescribeModel) -> str:
    """Say who may call a model."""
    match model.visibility:
        case "private":
            return "private to its owner"
        case "public":
            return "public to all who are signed in"
        case _ if not model.may_change:
            return f"shared by {model.owner}"
        case _:
            return f"shared with {', '.join(model.shared_with) or 'nobody yet'}"
