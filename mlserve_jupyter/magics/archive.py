"""``%mlserve archive NAME``: take a version, or the whole model, out of service, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlserve_jupyter.client.http import connect
from mlserve_jupyter.errors import VersionNotFound
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage
from mlserve_jupyter.magics.confirming import confirmed
from mlserve_jupyter.magics.display import Display, html_paragraph, html_text

USAGE = Usage(
    "archive",
    "Take a version, or the whole model, out of service; --undo puts it back.",
    (
        Argument("NAME", "The model's name.", completes="models"),
        Argument(
            "--version",
            "Only this version; without it all of them.",
            "integer",
            completes="versions",
        ),
        Argument("--yes", "Do not ask first.", kind="flag"),
        Argument("--undo", "Make what is archived active again.", kind="flag"),
        TARGET,
    ),
)


@dataclass(frozen=True, repr=False)
class Archived(Display):
    """What was taken out of service, or put back.

    Attributes
    ----------
    name
        The model.
    versions
        The versions that changed; empty where the owner said no, or nothing was to change.
    answers
        The version that answers now, or None.
    undone
        Whether they are active again.
    """

    name: str
    versions: tuple[int, ...]
    answers: int | None
    undone: bool = False

    def _text(self) -> str:
        if not self.versions:
            return (
                f"No version of {self.name} was archived that could be active again."
                if self.undone
                else f"Nothing of {self.name} was archived."
            )
        what = f"{_numbered(self.versions)} of {self.name}"
        now = "no version answers" if self.answers is None else f"version {self.answers} answers"
        if self.undone:
            verb = "is" if len(self.versions) == 1 else "are"
            return f"{what[0].upper()}{what[1:]} {verb} active again; {now} now."
        only = f" --version {self.versions[0]}" if len(self.versions) == 1 else ""
        undo = f"`%mlserve archive {self.name}{only} --undo` puts "
        undo += "it back" if len(self.versions) == 1 else "them back"
        return f"Archived {what}; {now} now. {undo}."

    def _html(self) -> str:
        return html_paragraph(html_text(self._text()))


def archive(
    name: str,
    *,
    version: int | None = None,
    yes: bool = False,
    undo: bool = False,
    to: str | None = None,
) -> Archived:
    """Take a version, or the whole model, out of service, or put it back.

    Parameters
    ----------
    name
        The model's name.
    version
        Only this version; None archives all of them.
    yes
        Do not ask first.
    undo
        Make what is archived active again, instead.
    to
        URL of another server than the notebook's own.

    Raises
    ------
    InvalidUsage
        Nobody can be asked here, and ``yes`` was not given.
    RequestFailed
        There is no such model.
    VersionNotFound
        There is no such version.
    ServerNotFound
        No server answers.
    """
    client = connect(to)
    known = client.versions(name)
    if version is not None and version not in {each.version for each in known}:
        numbers = _numbered(tuple(sorted(each.version for each in known)))
        raise VersionNotFound(f"{name} has no version {version}: it has {numbers}.")
    wanted = [
        each.version
        for each in known
        if (each.status == "archived") == undo and version in (None, each.version)
    ]
    if wanted and not undo and not yes and not _confirmed(name, wanted):
        wanted = []
    for number in wanted:
        client.set_status(name, number, "active" if undo else "archived")
    answers = client.model(name).default_version
    return Archived(name, tuple(sorted(wanted)), answers, undone=undo)


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Archived:
    """Run the magic."""
    return archive(**arguments)


def _numbered(versions: tuple[int, ...]) -> str:
    numbers = ", ".join(str(version) for version in versions)
    return f"version {numbers}" if len(versions) == 1 else f"versions {numbers}"


def _confirmed(name: str, versions: list[int]) -> bool:
    what = f"version {versions[0]}" if len(versions) == 1 else f"all {len(versions)} versions"
    question = f"Archive {what} of {name}? Calls to it will fail."
    return confirmed(question, f"archive {what} of {name}")
