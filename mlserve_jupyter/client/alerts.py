"""The part of the client that asks what is out of its limits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from mlserve_jupyter.api.alerts import (
    AlertLimit,
    AlertState,
    DescribeAlert,
    ListAlertLimits,
    ListAlerts,
    TestedWebhook,
)

_Wire = TypeVar("_Wire")


class AlertCalls(ABC):
    """The methods; each raises as those of ``Client`` do."""

    @abstractmethod
    def _send(self, verb: str, path: str, type_: type[_Wire], **options: Any) -> _Wire: ...

    def alerts(
        self,
        model: str | None = None,
        *,
        state: AlertState | None = None,
        timeout_s: float = 30.0,
    ) -> Iterator[DescribeAlert]:
        """Go through alerts, those that began last first.

        Parameters
        ----------
        model
            Only those of this model.
        state
            None for all that have fired.
        """
        params = {
            name: value
            for name, value in {"model": model, "state": state, "cursor": None}.items()
            if value is not None
        }
        while True:
            page = self._send(
                "GET", "api/v1/alerts", ListAlerts, params=params, timeout_s=timeout_s
            )
            yield from page.items
            if page.next_cursor is None:
                return
            params["cursor"] = page.next_cursor

    def alert_limits(self, model: str) -> list[AlertLimit]:
        """Return what a model may have before there is an alert."""
        return self._send("GET", _limits_path(model), ListAlertLimits).items

    def set_alert_limits(self, model: str, limits: Mapping[str, float | None]) -> list[AlertLimit]:
        """Give a model limits of its own.

        Parameters
        ----------
        limits
            By rule (``p95_ms``, ``error_rate``, ``drift``): 0 for no alert, None for what the
            settings say.
        """
        return self._send("PATCH", _limits_path(model), ListAlertLimits, json=dict(limits)).items

    def test_webhook(self) -> TestedWebhook:
        """Have the server send a test message to its webhook; for administrators."""
        return self._send("POST", "api/v1/alerts/test", TestedWebhook)


def _limits_path(model: str) -> str:
    return f"api/v1/models/{quote(model, safe='~')}/alert-limits"
