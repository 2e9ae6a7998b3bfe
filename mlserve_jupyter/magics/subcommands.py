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

    Each module has ``USAGE``, ``run_line`` and a public function of the subcommand's name; of the
    name's second word, where it has two.
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
        function: Callable[..., Any] = getattr(self._module, self.name.split()[-1])
        return function

    @property
    def _module(self) -> Any:
        return import_module(f"mlserve_jupyter.magics.{self.name.replace(' ', '_')}")


SUBCOMMANDS = {
    name: Subcommand(name)
    for name in (
        "deploy", "list", "show", "predict", "logs", "logging", "snippet", "share", "archive",
        "warm", "stats", "compare", "dashboard", "drift", "label", "quality",
        "alerts", "keys create", "keys list", "keys revoke", "login", "targets",
    )
}  # fmt: skip

GROUPS = {
    group: tuple(name.split()[1] for name in SUBCOMMANDS if name.startswith(f"{group} "))
    for group in ("keys",)
}
"""Second words by the first, of those that have two."""


_MEANT = {
    **dict.fromkeys(("delete", "remove", "rm", "undeploy", "stop", "retire"), "archive NAME"),
    **dict.fromkeys(("unarchive", "restore", "undo"), "archive NAME --version N --undo"),
    **dict.fromkeys(("publish", "grant", "visibility"), "share NAME"),
    **dict.fromkeys(("keep-warm", "pin", "preload", "load"), "warm NAME --on"),
    **dict.fromkeys(("key", "token", "api-key"), "keys create NAME"),
    **dict.fromkeys(("metrics", "analytics", "usage"), "stats [NAME]"),
    **dict.fromkeys(("monitor", "watch", "board"), "dashboard [NAME]"),
    **dict.fromkeys(("signin", "sign-in", "connect"), "login URL"),
    **dict.fromkeys(("logout", "signout", "sign-out"), "targets --forget NAME"),
}
"""What takes the place of names that others use."""


def read_line(line: str) -> tuple[str, str]:
    """Return the name of the subcommand that a line begins with, and the rest."""
    name, _, rest = line.strip().partition(" ")
    if name not in GROUPS:
        return name, rest
    second, _, rest = rest.strip().partition(" ")
    return f"{name} {second}".strip(), rest


def subcommand(name: str) -> Subcommand:
    """Return a subcommand by its name.

    Raises
    ------
    InvalidUsage
        There is none; the message proposes the nearest.
    """
    if name in _MEANT:
        raise InvalidUsage(f"%mlserve has no subcommand {name!r}: use `%mlserve {_MEANT[name]}`.")
    group, _, second = name.partition(" ")
    if group in GROUPS and second not in GROUPS[group]:
        shown = nearest(second, GROUPS[group])
        raise InvalidUsage(f"%mlserve {group} goes on with {', '.join(GROUPS[group])}{shown}.")
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
