"""The tables of what is watched: rollups, live histograms, labels, archives and alerts."""

from __future__ import annotations

import sqlalchemy as sa

from mlserve_jupyter.storage.tables import UtcDateTime, json_text, metadata, uuid_text

prediction_stats = sa.Table(
    "prediction_stats",
    metadata,
    # The calls of a version within a minute, an hour or a day, by method and caller.
    sa.Column("grain", sa.String(8), primary_key=True),
    sa.Column("at", UtcDateTime, primary_key=True),
    sa.Column(
        "version_id", uuid_text, sa.ForeignKey("model_versions.id"), primary_key=True, index=True
    ),
    sa.Column("method", sa.String(128), primary_key=True),
    sa.Column("principal", sa.String(128), primary_key=True),
    sa.Column("model_id", uuid_text, sa.ForeignKey("models.id"), nullable=False),
    sa.Column("n_predictions", sa.BigInteger, nullable=False),
    sa.Column("n_errors", sa.BigInteger, nullable=False),
    sa.Column("n_cached", sa.BigInteger, nullable=False),
    sa.Column("n_rows", sa.BigInteger, nullable=False),
    # Mergeable histograms of the stages' times.
    sa.Column("histograms", json_text, nullable=False),
)
sa.Index(None, prediction_stats.c.model_id, prediction_stats.c.grain, prediction_stats.c.at)

baselines = sa.Table(
    "baselines",
    metadata,
    # Histograms of the sample that a version was deployed with, by feature and for the output.
    sa.Column("version_id", uuid_text, sa.ForeignKey("model_versions.id"), primary_key=True),
    sa.Column("model_id", uuid_text, sa.ForeignKey("models.id"), nullable=False, index=True),
    sa.Column("histograms", json_text, nullable=False),
)

live_histograms = sa.Table(
    "live_histograms",
    metadata,
    # The same of what a version was asked within an hour.
    sa.Column("version_id", uuid_text, sa.ForeignKey("model_versions.id"), primary_key=True),
    sa.Column("at", UtcDateTime, primary_key=True),
    sa.Column("model_id", uuid_text, sa.ForeignKey("models.id"), nullable=False, index=True),
    sa.Column("n_rows", sa.BigInteger, nullable=False),
    sa.Column("histograms", json_text, nullable=False),
)

labels = sa.Table(
    "labels",
    metadata,
    # What turned out to be true of a call, one value a row of the call.
    sa.Column("model_id", uuid_text, sa.ForeignKey("models.id"), primary_key=True),
    sa.Column("request_id", sa.String(64), primary_key=True),
    sa.Column("labels", json_text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

archives = sa.Table(
    "archives",
    metadata,
    # A day's predictions in a file of the artifact store, and where their rows are.
    sa.Column("id", uuid_text, primary_key=True),
    sa.Column("begins_at", UtcDateTime, nullable=False, index=True),
    sa.Column("ends_at", UtcDateTime, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    # Known once the file was read back.
    sa.Column("sha256", sa.String(64)),
    sa.Column("size_bytes", sa.BigInteger),
    sa.Column("n_rows", sa.BigInteger),
    # Restored rows stay as long.
    sa.Column("kept_until", UtcDateTime),
    sa.CheckConstraint(
        "state IN ('writing', 'verified', 'archived', 'restoring', 'restored')", name="state"
    ),
)

alerts = sa.Table(
    "alerts",
    metadata,
    # What rules found, since when, and until when.
    sa.Column("id", uuid_text, primary_key=True),
    sa.Column("rule", sa.String(128), nullable=False),
    sa.Column("model_id", uuid_text, sa.ForeignKey("models.id"), index=True),
    sa.Column("began_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("details", json_text, nullable=False),
)
