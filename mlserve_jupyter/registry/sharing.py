"""Who else may call a model: its visibility, and the users with whom it is shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.engine import Connection

from mlserve_jupyter.api.resources import UpdateModel
from mlserve_jupyter.errors import InvalidRequest
from mlserve_jupyter.storage.tables import model_shares, models, users


def read_shares(connection: Connection) -> dict[str, dict[str, str]]:
    """Return by model the names of the users with whom it is shared, by their id."""
    shares: dict[str, dict[str, str]] = {}
    rows = connection.execute(
        sa.select(model_shares.c.model_id, users.c.id, users.c.name).join_from(model_shares, users)
    )
    for row in rows:
        shares.setdefault(row.model_id, {})[row.id] = row.name
    return shares


def change_sharing(
    connection: Connection, model_id: str, changes: UpdateModel
) -> dict[str, str | list[str]]:
    """Change who may call a model, in a transaction of the caller's.

    Returns
    -------
    dict
        What was changed, for the audit log; empty for nothing.

    Raises
    ------
    InvalidRequest
        Names of users without a visibility of ``shared``, or of users who are not there.
    """
    if changes.visibility is UNSET and changes.shared_with is UNSET:
        return {}
    facts: dict[str, str | list[str]] = {}
    visibility = connection.execute(
        sa.select(models.c.visibility).where(models.c.id == model_id)
    ).scalar_one()
    if changes.visibility is not UNSET and changes.visibility != visibility:
        facts = {"visibility": changes.visibility, "visibility_before": visibility}
        visibility = changes.visibility
        connection.execute(
            models.update().where(models.c.id == model_id).values(visibility=visibility)
        )
    if changes.shared_with is not UNSET and changes.shared_with and visibility != "shared":
        raise InvalidRequest(
            "shared_with goes with the visibility 'shared': set both in one request.",
            visibility=visibility,
        )
    if changes.shared_with is not UNSET or visibility != "shared":
        names = [] if changes.shared_with is UNSET else sorted(set(changes.shared_with))
        wanted = _active_users(connection, names)
        connection.execute(model_shares.delete().where(model_shares.c.model_id == model_id))
        if wanted:
            rows = [{"model_id": model_id, "user_id": id} for id in wanted.values()]
            connection.execute(model_shares.insert(), rows)
        facts["shared_with"] = names
    return facts


def _active_users(connection: Connection, names: Sequence[str]) -> Mapping[str, str]:
    """Return the ids of users by name.

    Raises
    ------
    InvalidRequest
        Naming those who are not there; of a disabled one the same is said as of no one.
    """
    rows = connection.execute(
        sa.select(users.c.name, users.c.id).where(users.c.name.in_(names), users.c.is_active)
    )
    found = {row.name: row.id for row in rows}
    unknown = [name for name in names if name not in found]
    if unknown:
        shown = ", ".join(repr(name[:64]) for name in unknown[:5])
        raise InvalidRequest(
            f"A model cannot be shared with {shown}: there is no such user here. Names are as in "
            "'owner~model'.",
            unknown=[name[:64] for name in unknown],
        )
    return found
