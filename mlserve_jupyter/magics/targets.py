"""``%mlserve targets``: the servers that the user has signed in to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlserve_jupyter.client.targets import Target, Targets
from mlserve_jupyter.magics.arguments import Argument, Usage
from mlserve_jupyter.magics.display import Display, html_paragraph, html_table, text_table

USAGE = Usage(
    "targets",
    "List the servers that you have signed in to.",
    (Argument("--forget", "Sign out of this one.", value="NAME"),),
)

_HEADER = ("name", "URL", "email")
_EMPTY = "You have signed in to no other server: use `%mlserve login URL`."


@dataclass(frozen=True, repr=False)
class SignedInServers(Display):
    """The servers that the user has signed in to, by name."""

    targets: tuple[Target, ...]

    def __len__(self) -> int:
        """Return their number."""
        return len(self.targets)

    def __iter__(self) -> Iterator[Target]:
        """Go through them."""
        return iter(self.targets)

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for target in self.targets:
            yield target.name, target.url, target.email

    def _text(self) -> str:
        return text_table(_HEADER, self._rows()) if self.targets else _EMPTY

    def _html(self) -> str:
        return html_table(_HEADER, self._rows()) if self.targets else html_paragraph(_EMPTY)


def targets(*, forget: str | None = None) -> SignedInServers:
    """List the servers that the user has signed in to.

    Parameters
    ----------
    forget
        Name of one to sign out of first.

    Raises
    ------
    ServerNotFound
        There is none to sign out of, or it does not answer.
    """
    if forget is not None:
        from mlserve_jupyter.client.signing_in import sign_out

        sign_out(forget)
    return SignedInServers(tuple(Targets().all()))


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> SignedInServers:
    """Run the magic."""
    return targets(**arguments)
