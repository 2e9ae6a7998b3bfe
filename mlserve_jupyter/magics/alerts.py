"""``%mlserve alerts [NAME]``: what is out of its limits, and the limits of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from mlserve_jupyter.api.alerts import AlertLimit, AlertState, DescribeAlert
from mlserve_jupyter.client.http import connect
from mlserve_jupyter.errors import InvalidRequest, InvalidUsage
from mlserve_jupyter.magics.arguments import TARGET, Argument, Usage
from mlserve_jupyter.magics.display import Display, ago, html_paragraph, html_table, text_table

USAGE = Usage(
    "alerts",
    "List what is or was out of its limits, or change the limits of a model.",
    (
        Argument("[NAME]", "Only the alerts of this model, and its limits.", completes="models"),
        Argument(
            "--state",
            "Only those in this state; without it, all that have fired.",
            choices=("firing", "ended", "pending"),
        ),
        Argument(
            "--limits",
            "New limits of the model: p95_ms, error_rate (0.05 or 5%), drift; 0 for no alert, "
            "'default' for what the server's settings say.",
            kind="list",
            value="RULE=N,…",
        ),
        Argument("--limit", "How many alerts; 50 without it.", kind="integer"),
        TARGET,
    ),
)

_HEADER = ("state", "what", "since", "fired", "ended")
_LIMITS_HEADER = ("rule", "limit", "from")
_EMPTY = "There is no alert."


@dataclass(frozen=True, repr=False)
class Alerts(Display):
    """Alerts, those that began last first.

    Attributes
    ----------
    alerts
        Those that were asked for.
    limits
        Of the model, where one was named.
    """

    alerts: tuple[DescribeAlert, ...]
    limits: tuple[AlertLimit, ...] = ()

    def __len__(self) -> int:
        """Return their number."""
        return len(self.alerts)

    def __iter__(self) -> Iterator[DescribeAlert]:
        """Go through them."""
        return iter(self.alerts)

    def _rows(self) -> Iterator[tuple[str, ...]]:
        for alert in self.alerts:
            yield (
                alert.state,
                alert.text,
                ago(alert.began_at),
                ago(alert.fired_at) if alert.fired_at else "",
                ago(alert.ended_at) if alert.ended_at else "",
            )

    def _limit_rows(self) -> Iterator[tuple[str, ...]]:
        for limit in self.limits:
            shown = f"{limit.limit:g}" if limit.limit else "no alert"
            if limit.limit and limit.rule == "error_rate":
                shown = f"{limit.limit:.4g} ({limit.limit * 100:.4g} %)"
            yield limit.rule, shown, "the model" if limit.is_own else "the settings"

    def _text(self) -> str:
        parts = [text_table(_HEADER, self._rows()) if self.alerts else _EMPTY]
        if self.limits:
            parts.append(text_table(_LIMITS_HEADER, self._limit_rows()))
        return "\n\n".join(parts)

    def _html(self) -> str:
        shown = html_table(_HEADER, self._rows()) if self.alerts else html_paragraph(_EMPTY)
        if self.limits:
            shown += html_table(_LIMITS_HEADER, self._limit_rows())
        return shown


def alerts(
    name: str | None = None,
    *,
    state: AlertState | None = None,
    limits: Mapping[str, float | None] | None = None,
    limit: int = 50,
    to: str | None = None,
) -> Alerts:
    """List what is or was out of its limits, or change the limits of a model.

    Parameters
    ----------
    name
        Only the alerts of this model, and its limits.
    state
        Only those that are ``firing``, ``ended`` or ``pending``; None for all that have fired.
    limits
        New limits of the model, by rule (``p95_ms``, ``error_rate``, ``drift``): 0 for no alert,
        None for what the server's settings say. Those not named stay.
    limit
        How many alerts at most.
    to
        URL of another server than the notebook's own.

    Returns
    -------
    Alerts
        Can be iterated over; a notebook shows it as a table.

    Raises
    ------
    RequestFailed
        There is no such model or rule.
    ServerNotFound
        No server answers.
    """
    if limit < 1:
        raise InvalidRequest(f"limit must be 1 or more, not {limit}.")
    if limits is not None and name is None:
        raise InvalidUsage("Limits are those of a model: name it, as in `%mlserve alerts NAME`.")
    client = connect(to)
    of_model: tuple[AlertLimit, ...] = ()
    if name is not None:
        if limits is None:
            of_model = tuple(client.alert_limits(name))
        else:
            of_model = tuple(client.set_alert_limits(name, limits))
    return Alerts(tuple(islice(client.alerts(name, state=state), limit)), of_model)


def run_line(arguments: dict[str, Any], namespace: dict[str, Any]) -> Alerts:
    """Run the magic."""
    words: list[str] | None = arguments.pop("limits", None)
    if words is not None:
        arguments["limits"] = dict(map(_limit, words))
    return alerts(**arguments)


def _limit(word: str) -> tuple[str, float | None]:
    rule, _, text = (part.strip() for part in word.partition("="))
    if text == "default":
        return rule, None
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        raise InvalidUsage(
            f"{word[:80]!r} is no limit: write a rule and a number, such as p95_ms=200."
        ) from None
    is_share = rule == "error_rate"
    if text.endswith("%"):
        if not is_share:
            raise InvalidUsage(f"{word[:80]!r} is no limit: only error_rate is a share.")
        number /= 100
    if is_share and number > 1:
        raise InvalidUsage(
            f"{word[:80]!r} is no limit: an error rate is a share of at most 1. Write 0.05 or 5%."
        )
    return rule, number
