"""What alerts say of drift: the largest shift that a test confirms, of each model."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.analytics.alert_states import Reading
from mlserve_jupyter.analytics.alert_watches import Look, watched_models
from mlserve_jupyter.analytics.drift import WatchedVersion, read_drift
from mlserve_jupyter.api.drift import Drift
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading
from mlserve_jupyter.storage.monitoring_tables import live_histograms
from mlserve_jupyter.storage.tables import model_versions

WINDOW = timedelta(days=1)
"""The calls that are held against the sample."""


def drift_look(engine: Engine) -> Look:
    """Return what looks at the drift of the newest active version of each model."""

    def look(now: datetime, settings: Settings) -> list[Reading]:
        found: list[Reading] = []
        with reading(engine) as connection:
            versions = _called_versions(connection, now - WINDOW)
            for model in watched_models(connection, versions):
                if not model.limit("drift", settings):
                    continue
                version_id, number = versions[model.id]
                version = WatchedVersion(version_id, model.title, number, ())
                drift = read_drift(connection, version, now - WINDOW, now)
                each = model.reading("drift", largest_shift(drift), settings)
                found += [] if each is None else [each]
        return found

    return look


def largest_shift(drift: Drift) -> float | None:
    """Return the largest population stability index that a test confirms.

    Returns
    -------
    float or None
        0 where no test finds a shift; None where nothing can be said.
    """
    if drift.level in ("too_few", "no_baseline"):
        return None
    confirmed = ("moderate", "significant")
    watched = (*drift.features, *drift.outputs)
    return max((each.psi for each in watched if each.level in confirmed), default=0.0)


def _called_versions(connection: Connection, since: datetime) -> dict[str, tuple[str, int]]:
    """Return the newest active version of each model that was called, by the model's id."""
    query = (
        sa.select(model_versions.c.model_id, model_versions.c.id, model_versions.c.version)
        .where(
            model_versions.c.status == "active",
            sa.exists().where(
                live_histograms.c.version_id == model_versions.c.id,
                live_histograms.c.at >= since,
            ),
        )
        .order_by(model_versions.c.version)
    )
    return {model_id: (id, version) for model_id, id, version in connection.execute(query)}
