"""What the prediction log keeps of a model's calls, as its owner wants it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, UnsetType
from sqlalchemy.engine import Connection

from mlserve_jupyter.api.log_policy import LogPolicy, check_columns
from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.api.signature import Signature
from mlserve_jupyter.storage.tables import model_versions, models


def change_log_policy(
    connection: Connection, model_id: str, policy: LogPolicy | UnsetType, now: datetime
) -> dict[str, Any]:
    """Change a model's policy, in a transaction of the caller's.

    Returns
    -------
    dict
        What was changed, for the audit log (JSON values, hence ``Any``); empty for nothing.

    Raises
    ------
    InvalidRequest
        It leaves out a column that the model does not have.
    """
    if policy is UNSET:
        return {}
    of_model = model_versions.c.model_id == model_id
    rows = connection.execute(
        sa.select(model_versions.c.signature, model_versions.c.extra_columns).where(
            of_model, model_versions.c.status != "archived"
        )
    )
    check_columns(
        policy,
        (
            (msgspec.json.decode(row.signature, type=Signature).inputs, row.extra_columns)
            for row in rows
        ),
    )
    connection.execute(
        models.update().where(models.c.id == model_id).values(log_policy=encoded(policy))
    )
    # So that every process reads its versions anew, which carry the policy.
    connection.execute(model_versions.update().where(of_model).values(updated_at=now))
    facts: dict[str, Any] = msgspec.to_builtins(policy)
    return facts


def encoded(policy: LogPolicy) -> str:
    """Return a policy as its column keeps it."""
    return encode_json(policy).decode()
