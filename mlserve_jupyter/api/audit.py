"""Wire types of the audit log."""

from __future__ import annotations

from datetime import datetime

import msgspec


class DescribeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the audit log.

    Attributes
    ----------
    actor
        Name of whoever acted; empty for a caller whom nothing proved to be anybody.
    actor_id
        Of the user, where the credential names one.
    via
        How the actor was known: ``jupyter``, ``kernel``, ``host``, ``key``, ``token``, or ``none``.
    action
        Thing and verb, such as ``version.deploy``; ``request`` for a request that was refused.
    target
        What was acted on.
    outcome
        ``ok``, or the code of the error with which it was refused.
    details
        Further facts as JSON; ``times`` says how many equal refusals a row stands for.
    """

    id: str
    at: datetime
    actor: str
    actor_id: str | None
    via: str
    action: str
    target: str
    outcome: str
    address: str
    request_id: str
    details: msgspec.Raw


class ListEvents(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the audit log, newest first."""

    items: list[DescribeEvent]
    next_cursor: str | None = None
