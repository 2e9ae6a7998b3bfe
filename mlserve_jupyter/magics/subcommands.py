"""The subcommands of ``%mlserve``: the one place that lists them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from mlserve_jupyter.errors import InvalidUsage
from mlserve_jupyter.magics.arguments import Usage, nearest

Run = Callable[[dict[str, Any], dict[str, Any]], Any]
"""Runs a subcommand: parsed arguments and the notebook's variables in, something to show out."""


@dataclass(frozen=True)
class Subcommand:
    """A subcommand, whose module is imported when it is first used.

    Each module has ``USAGE``, ``run_line`` and a public function of the subcommand's name.
    """

    name: str

    @property
    def usage(self) -> Usage:
        """What it takes."""
        usage: Usage = self._module.USAGE
        return usage

    @property
    def run_line(self) -> Run:
        """What runs it from a line."""
        run: Run = self._module.run_line
        return run

    @property
    def function(self) -> Callable[..., Any]:
        """The Python function of the same name."""
        function: Callable[..., Any] = getattr(self._module, self.name)
        return function

    @property
    def _module(self) -> Any:
        return import_module(f"mlserve_jupyter.magics.{self.name}")


SUBCOMMANDS = {
    name: Subcommand(name)
    for name in ("deploy", "list", "show", "predict", "logs", "snippet", "archive")
}


_MEANT = {
    **dict.fromkeys(("delete", "remove", "rm", "undeploy", "stop", "retire"), "archive NAME"),
    **dict.fromkeys(("unarchive", "restore", "undo"), "archive NAME --version N --undo"),
}
"""What takes the place of names that others use."""


def subcommand(name: str) -> Subcommand:
    """Return a subcommand by its name.

    Raises
    ------
    InvalidUsage
        There is none; the message proposes the nearest.
    """
    if name in _MEANT:
        raise InvalidUsage(f"%mlserve has no subcommand {name!r}: use `%mlserve {_MEANT[name]}`.")
    if name not in SUBCOMMANDS:
        raise InvalidUsage(
            f"%mlserve has no subcommand {name!r}{nearest(name, list(SUBCOMMANDS))}. There are "
            f"{', '.join(SUBCOMMANDS)}."
        )
    return SUBCOMMANDS[name]


def overview() -> str:
    """Return the help of ``%mlserve`` itself: every subcommand with a sentence."""
    width = max(map(len, SUBCOMMANDS))
    lines = ["%mlserve SUBCOMMAND …  serves the models of this notebook as REST endpoints", ""]
    lines += [f"  {name:{width}}  {each.usage.summary}" for name, each in SUBCOMMANDS.items()]
    return "\n".join([*lines, "", "%mlserve SUBCOMMAND --help says more."])
