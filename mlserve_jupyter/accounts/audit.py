"""The audit log: who did what to which thing, when, from where. Rows are added and never changed.

What changes the database writes its event in the same transaction, so that neither is there
without the other. Refusals, which change nothing, go through ``audit_buffer``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import msgspec

from mlserve_jupyter.storage.ids import new_id

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

Facts = dict[str, str | int | float | bool | None | list[str]]
"""Further facts of an event: JSON values only, and never a secret."""


@dataclass(frozen=True)
class Origin:
    """Where an event comes from.

    Attributes
    ----------
    actor
        Name or address of whoever acts; what a refused caller gave as such.
    actor_id
        Of the user, if it is one.
    via
        ``Principal.via``; ``none`` for a caller without a credential.
    address
        Of the client.
    credential_id
        ``Principal.credential_id``: which key, or which family of tokens.
    """

    actor: str
    actor_id: str | None
    via: str
    address: str
    request_id: str
    credential_id: str = ""

    def write(self, connection: Connection, action: str, target: str, facts: Facts) -> None:
        """Add an event from here in the transaction of what it tells of."""
        write_event(connection, AuditEvent(self, action, target, details=facts))


SERVER = Origin("the server", None, "none", "", "")
"""Of what nobody asked for."""


@dataclass(frozen=True)
class AuditEvent:
    """One event.

    Attributes
    ----------
    action
        Thing and verb, such as ``key.create``, ``login``, ``version.status``.
    target
        What was acted on, such as ``model clf``.
    outcome
        ``ok``, or the code of the error with which it was refused.
    details
        Further facts.
    """

    origin: Origin
    action: str
    target: str = ""
    outcome: str = "ok"
    details: Facts = field(default_factory=dict)


def write_event(connection: Connection, event: AuditEvent, at: datetime | None = None) -> None:
    """Add an event in the transaction of what it tells of.

    Parameters
    ----------
    at
        When it was; None for now.
    """
    from mlserve_jupyter.storage.tables import audit_log

    origin = event.origin
    details = {
        name: _storable(fact) if isinstance(fact, str) else fact
        for name, fact in event.details.items()
    }
    if origin.credential_id:
        details["credential"] = origin.credential_id
    connection.execute(
        audit_log.insert().values(
            id=new_id(),
            at=at or datetime.now(timezone.utc),
            actor_id=origin.actor_id,
            actor=_storable(origin.actor, 320),
            via=origin.via,
            action=event.action,
            target=_storable(event.target, 320),
            outcome=event.outcome,
            address=_storable(origin.address, 64),
            request_id=origin.request_id,
            details=msgspec.json.encode(details).decode() if details else None,
        )
    )


def _storable(text: str, max_chars: int | None = None) -> str:
    """Return text without what no database takes: lone surrogates and NUL."""
    return text[:max_chars].encode("utf-8", "replace").decode().replace("\0", "?")
