"""``%mlserve logging NAME``: what the prediction log keeps of a model's calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlserve_jupyter.api.resources import DescribeModel
from mlserve_jupyter.client.http import connect
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage
from mlserve_jupyter.magics.display import Display, html_paragraph, html_text
from mlserve_jupyter.magics.policy_words import LOG, LOG_WITHOUT, changes_of, policy_words

USAGE = Usage(
    "logging",
    "Say what the prediction log keeps of a model's calls, or see it.",
    (
        Argument("NAME", "The model's name.", completes="models"),
        LOG,
        LOG_WITHOUT,
        TARGET,
    ),
)


@dataclass(frozen=True, repr=False)
class Logging(Display):
    """What is logged of a model's calls.

    Attributes
    ----------
    model
        The model as it is now.
    """

    model: DescribeModel

    def _text(self) -> str:
        return f"The log of {self.model.name} keeps {policy_words(self.model.logging)}."

    def _html(self) -> str:
        return html_paragraph(html_text(self._text()))


def logging(
    name: str,
    *,
    log: str | float | None = None,
    log_without: Sequence[str] | None = None,
    to: str | None = None,
) -> Logging:
    """Say what the prediction log keeps of a model's calls from now on; without a choice, see it.

    What is not said stays as it is.

    Parameters
    ----------
    name
        The model's name.
    log
        ``all``, ``none``, or a share of the calls such as ``10%`` or 0.1; ``no-inputs``, or
        ``inputs`` again. All calls are counted, whatever is logged.
    log_without
        All the input columns that are left out from now on, such as personal data; ``[]`` for none.
    to
        URL of another server than the notebook's own.

    Raises
    ------
    InvalidUsage
        ``log`` is nothing that can be logged.
    RequestFailed
        There is no such model or column, or the model is another user's.
    ServerNotFound
        No server answers.
    """
    changes = changes_of(log, log_without)
    client = connect(to)
    return Logging(client.model(name) if changes is None else client.set_logging(name, changes))


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Logging:
    """Run the magic."""
    return logging(**arguments)
