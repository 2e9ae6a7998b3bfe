"""Keeps what the sample of a new version looked like, for what watches drift."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.api.profile import Profile
from mlserve_jupyter.registry.rows import log_policy_of
from mlserve_jupyter.storage.monitoring_tables import baselines
from mlserve_jupyter.storage.tables import models


def write_baseline(
    connection: Connection, version_id: str, model_id: str, profile: Profile | None
) -> None:
    """Keep the profile of a new version, in the transaction that makes the version.

    Columns that the model's log leaves out are left out here as well.
    """
    if profile is None:
        return
    row = connection.execute(sa.select(models.c.log_policy).where(models.c.id == model_id)).one()
    policy = log_policy_of(row)
    if policy is not None:
        kept = [each for each in profile.features if each.name not in policy.without]
        profile = msgspec.structs.replace(profile, features=kept)
    connection.execute(
        baselines.insert().values(
            version_id=version_id, model_id=model_id, histograms=encode_json(profile).decode()
        )
    )
