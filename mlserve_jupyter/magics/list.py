"""``%mlserve list``: the models of the server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from mlserve_jupyter.api.resources import DescribeModel
from mlserve_jupyter.client.http import connect
from mlserve_jupyter.magics.arguments import TARGET, Usage
from mlserve_jupyter.magics.display import Display, ago, html_paragraph, html_table, text_table

USAGE = Usage("list", "List the models of the server.", (TARGET,))

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
    """

    models: tuple[DescribeModel, ...]
    server_url: str

    def __len__(self) -> int:
        """Return their number."""
        return len(self.models)

    def __iter__(self) -> Iterator[DescribeModel]:
        """Go through them."""
        return iter(self.models)

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for model in self.models:
            yield (
                model.name,
                "none active" if model.default_version is None else str(model.default_version),
                str(model.n_versions),
                str(model.n_predictions),
                ago(model.last_called_at),
                urljoin(self.server_url, model.predict_path),
            )

    def _text(self) -> str:
        return text_table(_HEADER, self._rows()) if self.models else _EMPTY

    def _html(self) -> str:
        return html_table(_HEADER, self._rows()) if self.models else html_paragraph(_EMPTY)


def list(*, to: str | None = None) -> Models:  # noqa: A001
    """List the models of the server.

    Parameters
    ----------
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
    models = sorted(client.models(), key=lambda model: model.name)
    return Models(tuple(models), client.connection.url)


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Models:
    """Run the magic."""
    return list(**arguments)
