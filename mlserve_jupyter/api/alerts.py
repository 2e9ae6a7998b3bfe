"""Wire types of the alerts: what is out of its limits, since when, and what the limits are."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

ModelRule = Literal["p95_ms", "error_rate", "drift"]
Rule = Literal["p95_ms", "error_rate", "drift", "disk_used", "key_use"]
AlertState = Literal["pending", "firing", "ended"]

Limit = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
ShareLimit = Annotated[
    float, msgspec.Meta(ge=0, le=1, description="A share: 0.05 is 5 % of the calls.")
]


class DescribeAlert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert, from the first look that found something to the last.

    Attributes
    ----------
    rule
        What is watched; the setting ``alert_<rule>`` is its limit.
    title
        What it is about: a model as ``owner~name``, a key, or a disk.
    state
        ``pending`` after one look that found it over its limit, ``firing`` after a second one in a
        row, ``ended`` once it was clearly below.
    value, worst, limit
        As of the last look, the highest of all, and what was not to be exceeded when it began to
        fire; of a pending one, as of the last look.
    text
        The alert in a sentence.
    began_at, fired_at, ended_at
        Of the first look, of the one that confirmed it, and of the last.
    is_told
        Whether the webhook has taken the state as it is; False also where there is no webhook.
    """

    id: str
    rule: Rule
    title: str
    state: AlertState
    value: float
    worst: float
    limit: float
    text: str
    began_at: datetime
    fired_at: datetime | None
    ended_at: datetime | None
    is_told: bool


class ListAlerts(msgspec.Struct, frozen=True, kw_only=True):
    """A page of alerts, those that began last first."""

    items: list[DescribeAlert]
    next_cursor: str | None = None


class AlertLimit(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule allows a model.

    Attributes
    ----------
    limit
        0 where the rule is off.
    is_own
        Whether it is the model's own; else the settings say so.
    """

    rule: ModelRule
    limit: float
    is_own: bool


class ListAlertLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a model."""

    items: list[AlertLimit]


class UpdateAlertLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """New limits of a model: a number, 0 for no alert, or null for what the settings say."""

    p95_ms: Limit | None | msgspec.UnsetType = msgspec.UNSET
    error_rate: ShareLimit | None | msgspec.UnsetType = msgspec.UNSET
    drift: Limit | None | msgspec.UnsetType = msgspec.UNSET


class TestedWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a message to the webhook.

    Attributes
    ----------
    problem
        Why it was not taken; None where it was.
    """

    is_taken: bool
    problem: str | None = None


class AlertMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What the webhook is sent: an alert that has begun to fire, or has ended.

    Attributes
    ----------
    text
        All of it in a sentence; chat programs show this member.
    server
        Name of the machine that sends it.
    is_test
        Whether an administrator has asked for a message.
    """

    text: str
    id: str
    rule: str
    title: str
    state: AlertState
    value: float
    worst: float
    limit: float
    began_at: datetime
    fired_at: datetime | None
    ended_at: datetime | None
    server: str
    is_test: bool = False
