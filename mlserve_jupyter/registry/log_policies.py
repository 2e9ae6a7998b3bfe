"""What the prediction log keeps of a model's calls, as its owner wants it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, UnsetType
from sqlalchemy.engine import Connection

from mlserve_jupyter.api.log_policy import LogChanges, LogPolicy, check_columns
from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.api.signature import Signature
from mlserve_jupyter.registry.baselines import forget_columns
from mlserve_jupyter.storage.tables import model_versions, models


def change_log_policy(
    connection: Connection, model_id: str, changes: LogChanges | UnsetType, now: datetime
) -> dict[str, Any]:
    """Change a model's policy, in a transaction of the caller's.

    Returns
    -------
    dict
        The policy that holds now, for the audit log (JSON values, hence ``Any``); empty where
        nothing was to be changed.

    Raises
    ------
    InvalidRequest
        It leaves out a column that the model does not have.
    """
    if changes is UNSET:
        return {}
    of_model = model_versions.c.model_id == model_id
    rows = connection.execute(
        sa.select(model_versions.c.signature, model_versions.c.extra_columns).where(
            of_model, model_versions.c.status != "archived"
        )
    )
    check_columns(
        changes,
        (
            (msgspec.json.decode(row.signature, type=Signature).inputs, row.extra_columns)
            for row in rows
        ),
    )
    facts: dict[str, Any] = msgspec.to_builtins(keep(connection, model_id, changes, now))
    return facts


def keep(connection: Connection, model_id: str, changes: LogChanges, now: datetime) -> LogPolicy:
    """Write changes of a model's policy, whose columns were checked; return what holds then."""
    text = connection.execute(
        sa.select(models.c.log_policy).where(models.c.id == model_id)
    ).scalar_one()
    before = LogPolicy() if text is None else msgspec.json.decode(text, type=LogPolicy)
    policy = changes.applied_to(before)
    connection.execute(
        models.update()
        .where(models.c.id == model_id)
        .values(log_policy=encode_json(policy).decode())
    )
    # So that every process reads its versions anew, which carry the policy.
    connection.execute(
        model_versions.update().where(model_versions.c.model_id == model_id).values(updated_at=now)
    )
    forget_columns(connection, model_id, policy)
    return policy
