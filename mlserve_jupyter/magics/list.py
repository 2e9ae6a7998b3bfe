"""``%mlserve list``: the models of the server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from mlserve_jupyter.api.alerts import DescribeAlert
from mlserve_jupyter.api.resources import DescribeModel, ListScope
from mlserve_jupyter.client.http import connect
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage
from mlserve_jupyter.magics.display import (
    Display,
    ago,
    html_paragraph,
    html_table,
    html_warnings,
    text_table,
)
from mlserve_jupyter.magics.firing import firing_line, read_firing

USAGE = Usage(
    "list",
    "List the models of the server.",
    (
        Argument(
            "--scope",
            "Your own models, those that others share with you, the public ones, or all.",
            choices=("own", "shared", "public", "all"),
        ),
        TARGET,
    ),
)

_HEADER = ("model", "version", "versions", "calls", "last call", "URL")
_EMPTY = "No model is deployed yet: deploy one with `%mlserve deploy clf`."


@dataclass(frozen=True, repr=False)
class Models(Display):
    """The models of a server.

    Attributes
    ----------
    models
        By name.
    server_url
        Where they are.
    scope
        Whose they are: names alone are those of one's own.
    alerts
        Those that fire, of one's own models and keys; an administrator's are everybody's.
    """

    models: tuple[DescribeModel, ...]
    server_url: str
    scope: ListScope = "own"
    alerts: tuple[DescribeAlert, ...] = ()

    def __len__(self) -> int:
        """Return their number."""
        return len(self.models)

    def __iter__(self) -> Iterator[DescribeModel]:
        """Go through them."""
        return iter(self.models)

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for model in self.models:
            yield (
                model.name if self.scope == "own" else f"{model.owner}~{model.name}",
                "none active" if model.default_version is None else str(model.default_version),
                str(model.n_versions),
                str(model.n_predictions),
                ago(model.last_called_at),
                urljoin(self.server_url, model.predict_path),
            )

    def _text(self) -> str:
        shown = text_table(_HEADER, self._rows()) if self.models else self._empty
        return f"{shown}\n\n{firing_line(self.alerts)}" if self.alerts else shown

    def _html(self) -> str:
        shown = html_table(_HEADER, self._rows()) if self.models else html_paragraph(self._empty)
        return shown + html_warnings([firing_line(self.alerts)] if self.alerts else [])

    @property
    def _empty(self) -> str:
        return _EMPTY if self.scope in ("own", "all") else f"No model is {self.scope} here."


def list(scope: ListScope = "own", *, to: str | None = None) -> Models:  # noqa: A001
    """List the models of the server.

    Parameters
    ----------
    scope
        ``own`` models, those that others have ``shared`` with you, the ``public`` ones, or ``all``.
    to
        URL of another server than the notebook's own.

    Returns
    -------
    Models
        Can be iterated over; a notebook shows it as a table.

    Raises
    ------
    ServerNotFound
        No server answers.
    """
    client = connect(to)
    models = sorted(client.models(scope), key=lambda model: (model.name, model.owner))
    return Models(tuple(models), client.connection.url, scope, read_firing(client))


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Models:
    """Run the magic."""
    return list(**arguments)
