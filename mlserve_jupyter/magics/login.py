"""``%mlserve login URL``: signs in to another server, whose tokens stay out of the notebook."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from typing import Any

from mlserve_jupyter.magics.arguments import Argument, Usage
from mlserve_jupyter.magics.display import Display, html_paragraph, html_text

USAGE = Usage(
    "login",
    "Sign in to another server; the password is asked for.",
    (
        Argument("URL", "Of the server, such as https://models.example.org/mlserve/."),
        Argument("--email", "Yours; without it, it is asked for."),
        Argument("--name", "By which `--to` names the server; without it, its host.", value="NAME"),
    ),
)


@dataclass(frozen=True, repr=False)
class SignedInTo(Display):
    """A server that the user has signed in to."""

    name: str
    url: str
    email: str

    def _text(self) -> str:
        return f"Signed in to {self.url} as {self.email}: deploy with `--to {self.name}`."

    def _html(self) -> str:
        return html_paragraph(html_text(self._text()))


def login(url: str, email: str | None = None, *, name: str | None = None) -> SignedInTo:
    """Sign in to another server than the notebook's own.

    The password is asked for, and neither it nor the tokens come into the notebook: these lie in
    a file of Jupyter's data folder that only its owner can read, and are renewed as needed.

    Parameters
    ----------
    url
        Of an MLServe or a Jupyter server.
    email
        None asks for it.
    name
        By which ``to=`` names the server; None for its host's name, or one like it where another
        server or account has that.

    Raises
    ------
    ServerNotFound
        No server answers.
    RequestFailed
        The server refuses.
    """
    from mlserve_jupyter.client.connection import url_of
    from mlserve_jupyter.client.signing_in import sign_in

    url = url_of(url)
    email = email or input("Email: ").strip()
    target = sign_in(url, email, getpass.getpass(f"Password of {email}: "), name)
    return SignedInTo(target.name, target.url, target.email)


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> SignedInTo:
    """Run the magic."""
    return login(**arguments)
