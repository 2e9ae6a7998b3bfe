"""Keeps what the sample of a new version looked like, for what watches drift."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mlserve_jupyter.api.log_policy import LogPolicy
from mlserve_jupyter.api.manifest import encode_json
from mlserve_jupyter.api.profile import Profile
from mlserve_jupyter.registry.rows import log_policy_of
from mlserve_jupyter.storage.monitoring_tables import baselines, live_histograms
from mlserve_jupyter.storage.tables import models

_LiveCounts = dict[str, dict[str, list[int]]]


def write_baseline(
    connection: Connection, version_id: str, model_id: str, profile: Profile | None
) -> None:
    """Keep the profile of a new version, in the transaction that makes the version.

    Columns of which the model's log keeps nothing are left out here as well.
    """
    if profile is None:
        return
    row = connection.execute(sa.select(models.c.log_policy).where(models.c.id == model_id)).one()
    policy = log_policy_of(row)
    if policy is not None:
        profile = _left(profile, policy)
    connection.execute(
        baselines.insert().values(
            version_id=version_id, model_id=model_id, histograms=encode_json(profile).decode()
        )
    )


def forget_columns(connection: Connection, model_id: str, policy: LogPolicy) -> None:
    """Take what a model's policy leaves out from what was counted of all its versions.

    In the transaction that changes the policy, whose lock on the model's row keeps others from
    adding to it.
    """
    if policy.keeps_all:
        return
    for row in connection.execute(
        sa.select(baselines.c.version_id, baselines.c.histograms).where(
            baselines.c.model_id == model_id
        )
    ).all():
        profile = msgspec.json.decode(row.histograms, type=Profile)
        left = _left(profile, policy)
        if left != profile:
            connection.execute(
                baselines.update()
                .where(baselines.c.version_id == row.version_id)
                .values(histograms=encode_json(left).decode())
            )
    for hour in connection.execute(
        sa.select(
            live_histograms.c.version_id, live_histograms.c.at, live_histograms.c.histograms
        ).where(live_histograms.c.model_id == model_id)
    ).all():
        counts = msgspec.json.decode(hour.histograms, type=_LiveCounts)
        features = counts.get("features", {})
        kept = {name: of for name, of in features.items() if policy.keeps_column(name)}
        if len(kept) < len(features):
            connection.execute(
                live_histograms.update()
                .where(
                    live_histograms.c.version_id == hour.version_id,
                    live_histograms.c.at == hour.at,
                )
                .values(histograms=encode_json({**counts, "features": kept}).decode())
            )


def _left(profile: Profile, policy: LogPolicy) -> Profile:
    kept = [each for each in profile.features if policy.keeps_column(each.name)]
    return msgspec.structs.replace(profile, features=kept)
