"""The audit log: who did what to which thing, when, from where. Rows are added and never changed.

What changes the database writes its event in the same transaction, so that neither is there
without the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone

import msgspec
from sqlalchemy.engine import Connection

from mlserve_jupyter.storage.ids import new_id
from mlserve_jupyter.storage.tables import audit_log


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
    """

    actor: str
    actor_id: str | None
    via: str
    address: str
    request_id: str


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
        Further facts; JSON values only, and never a secret.
    """

    origin: Origin
    action: str
    target: str = ""
    outcome: str = "ok"
    details: dict[str, str | int | float | bool | None | list[str]] = field(default_factory=dict)


def write_event(connection: Connection, event: AuditEvent) -> None:
    """Add an event in the transaction of what it tells of."""
    origin = event.origin
    connection.execute(
        audit_log.insert().values(
            id=new_id(),
            at=datetime.now(timezone.utc),
            actor_id=origin.actor_id,
            actor=origin.actor[:320],
            via=origin.via,
            action=event.action,
            target=event.target[:320],
            outcome=event.outcome,
            address=origin.address,
            request_id=origin.request_id,
            details=msgspec.json.encode(event.details).decode() if event.details else None,
        )
    )
