"""``%mlserve warm NAME``: keep a model in memory, whether it is called or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlserve_jupyter.api.resources import DescribeModel
from mlserve_jupyter.client.http import connect
from mlserve_jupyter.errors import InvalidUsage
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage
from mlserve_jupyter.magics.display import Display, html_paragraph, html_text

USAGE = Usage(
    "warm",
    "Keep a model in memory, called or not, so that no caller waits until it is loaded.",
    (
        Argument("NAME", "The model's name.", completes="models"),
        Argument("--on", "Keep it in memory.", kind="flag"),
        Argument("--off", "Keep it only as long as it is called.", kind="flag"),
        TARGET,
    ),
)


@dataclass(frozen=True, repr=False)
class Warmth(Display):
    """Whether a model is kept in memory.

    Attributes
    ----------
    model
        The model as it is now.
    """

    model: DescribeModel

    def _text(self) -> str:
        kept = (
            "kept in memory, called or not" if self.model.keep_warm else "kept while it is called"
        )
        return f"{self.model.name} is {kept}."

    def _html(self) -> str:
        return html_paragraph(html_text(self._text()))


def warm(name: str, *, on: bool = False, off: bool = False, to: str | None = None) -> Warmth:
    """Keep a model in memory, called or not; without a choice, say whether it is.

    Parameters
    ----------
    name
        The model's name.
    on
        Keep it in memory: it is loaded when the server starts, and again when its worker has ended.
    off
        Keep it only as long as it is called.
    to
        URL of another server than the notebook's own.

    Raises
    ------
    InvalidUsage
        Both ``on`` and ``off``.
    RequestFailed
        There is no such model, or it is another user's.
    ServerNotFound
        No server answers.
    """
    if on and off:
        raise InvalidUsage("Choose one of --on and --off.")
    client = connect(to)
    return Warmth(client.set_keep_warm(name, on) if on or off else client.model(name))


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Warmth:
    """Run the magic."""
    return warm(**arguments)
