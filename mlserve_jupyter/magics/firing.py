"""The line about firing alerts that ``%mlserve`` and ``%mlserve list`` have besides the rest."""

from __future__ import annotations

from collections.abc import Sequence

from mlserve_jupyter.api.alerts import DescribeAlert
from mlserve_jupyter.client.http import Client, connect
from mlserve_jupyter.errors import MLServeError
from mlserve_jupyter.plain_text import plain

_TIMEOUT_S = 2.0


def print_firing() -> None:
    """Say what fires, where there is a server to ask."""
    try:
        alerts = read_firing(connect())
    except MLServeError:
        return
    if alerts:
        print(f"\n{plain(firing_line(alerts))}")


def read_firing(client: Client) -> tuple[DescribeAlert, ...]:
    """Return the alerts that fire; none where the server does not say soon.

    What they go with must be shown without them, too: a server of an earlier release has no alerts.
    """
    try:
        return tuple(client.alerts(state="firing", timeout_s=_TIMEOUT_S))
    except MLServeError:
        return ()


def firing_line(alerts: Sequence[DescribeAlert]) -> str:
    """Say in a line what fires."""
    if len(alerts) == 1:
        return f"Alert: {alerts[0].text}"
    return (
        f"{len(alerts)} alerts, which `%mlserve alerts --state firing` lists; the newest: "
        f"{alerts[0].text}"
    )
