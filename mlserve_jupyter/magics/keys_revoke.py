"""``%mlserve keys revoke KEY``: have a key refused from now on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlserve_jupyter.api.keys import DescribeKey
from mlserve_jupyter.client.http import connect
from mlserve_jupyter.errors import InvalidUsage
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage, nearest
from mlserve_jupyter.magics.confirming import confirmed
from mlserve_jupyter.magics.display import Display, html_paragraph, html_text

USAGE = Usage(
    "keys revoke",
    "Have a key refused from now on; there is no way back.",
    (
        Argument("KEY", "Its name, its id, or how it begins.", completes="keys"),
        Argument("--yes", "Do not ask first.", kind="flag"),
        TARGET,
    ),
)


@dataclass(frozen=True, repr=False)
class Revoked(Display):
    """A key that was revoked, or was not since the owner said no."""

    key: DescribeKey
    was_revoked: bool

    def _text(self) -> str:
        if not self.was_revoked:
            return f"The key {self.key.name} was not revoked."
        return f"Revoked the key {self.key.name} ({self.key.prefix}_…)."

    def _html(self) -> str:
        return html_paragraph(html_text(self._text()))


def revoke(key: str, *, yes: bool = False, to: str | None = None) -> Revoked:
    """Have a key refused from now on; there is no way back.

    Parameters
    ----------
    key
        Its name, its id, or how it begins (``mls_…``), or the key itself.
    yes
        Do not ask first.
    to
        URL of another server than the notebook's own.

    Raises
    ------
    InvalidUsage
        You have no such key; or nobody can be asked here, and ``yes`` was not given.
    ServerNotFound
        No server answers.
    """
    client = connect(to)
    known = client.keys()
    found = next((each for each in known if _is_meant(each, key)), None)
    if found is None:
        # The word may be a key itself, and is not repeated.
        names = nearest(key, [each.name for each in known])
        raise InvalidUsage(f"You have no such key{names}: `%mlserve keys list` shows them.")
    question = f"Revoke the key {found.name}? Programs that use it will be refused."
    if not yes and not confirmed(question, f"revoke the key {found.name}"):
        return Revoked(found, was_revoked=False)
    client.revoke_key(found.id)
    return Revoked(found, was_revoked=True)


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Revoked:
    """Run the magic."""
    return revoke(**arguments)


def _is_meant(key: DescribeKey, word: str) -> bool:
    begins = word.startswith("mls_") and f"{word}_".startswith(f"{key.prefix}_")
    return word in (key.name, key.id) or begins
