"""The tables of what is watched: rollups, live histograms, labels, archives and alerts."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from mlserve_jupyter.storage.tables import UtcDateTime, json_text, metadata, uuid_text


def _figures() -> list[sa.Column[Any]]:
    """Return what calls are summed up to; the histograms are of ``analytics.latency_histogram``."""
    return [
        sa.Column("n_predictions", sa.BigInteger, nullable=False),
        sa.Column("n_errors", sa.BigInteger, nullable=False),
        sa.Column("n_cached", sa.BigInteger, nullable=False),
        sa.Column("n_rows", sa.BigInteger, nullable=False),
        sa.Column("total_ms", sa.LargeBinary),
        sa.Column("queue_ms", sa.LargeBinary),
        sa.Column("load_ms", sa.LargeBinary),
        sa.Column("predict_ms", sa.LargeBinary),
    ]


def _slowest() -> list[sa.Column[Any]]:
    """Return the time of the slowest call and, as JSON, the ten slowest."""
    return [
        sa.Column("slowest_ms", sa.Double, nullable=False),
        sa.Column("slowest", sa.Text, nullable=False),
    ]


# Periods are whole numbers of seconds since 1970, UTC, so that both databases can count with them.
model_stats = sa.Table(
    "model_stats",
    metadata,
    # The calls of a model within each period of ``step_s`` that begins at ``start_s``.
    sa.Column("model_id", uuid_text, sa.ForeignKey("models.id"), primary_key=True),
    sa.Column("step_s", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("start_s", sa.BigInteger, primary_key=True, autoincrement=False),
    *_figures(),
)
# All models of a range, and what is old enough to go.
sa.Index(None, model_stats.c.step_s, model_stats.c.start_s)

prediction_stats = sa.Table(
    "prediction_stats",
    metadata,
    # The same by version and method.
    sa.Column("model_id", uuid_text, sa.ForeignKey("models.id"), primary_key=True),
    sa.Column("step_s", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("start_s", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column(
        "version_id", uuid_text, sa.ForeignKey("model_versions.id"), primary_key=True, index=True
    ),
    sa.Column("method", sa.String(128), primary_key=True),
    *_figures(),
    *_slowest(),
)
# All models of a range, and what is old enough to go.
sa.Index(None, prediction_stats.c.step_s, prediction_stats.c.start_s)

caller_stats = sa.Table(
    "caller_stats",
    metadata,
    # The same by version, method and caller.
    sa.Column("model_id", uuid_text, sa.ForeignKey("models.id"), primary_key=True),
    sa.Column("step_s", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("principal", sa.String(128), primary_key=True),
    sa.Column("start_s", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column(
        "version_id", uuid_text, sa.ForeignKey("model_versions.id"), primary_key=True, index=True
    ),
    sa.Column("method", sa.String(128), primary_key=True),
    *_figures(),
)
# What is old enough to go, and all callers of a range; with all that is said of callers, since the
# rows themselves are wide.
sa.Index(None, caller_stats.c.step_s, caller_stats.c.start_s)
sa.Index(
    "ix_caller_stats_callers",
    caller_stats.c.model_id,
    caller_stats.c.step_s,
    caller_stats.c.start_s,
    caller_stats.c.principal,
    caller_stats.c.n_predictions,
    caller_stats.c.n_errors,
    caller_stats.c.n_cached,
    caller_stats.c.n_rows,
)

stat_deltas = sa.Table(
    "stat_deltas",
    metadata,
    # What each batch of the log adds to the tables above, until it is folded into them. Without
    # foreign keys: what is left of a version that was deleted is left out.
    sa.Column("id", uuid_text, primary_key=True),
    sa.Column("model_id", uuid_text, nullable=False),
    sa.Column("version_id", uuid_text, nullable=False),
    sa.Column("method", sa.String(128), nullable=False),
    sa.Column("principal", sa.String(128), nullable=False),
    sa.Column("start_s", sa.BigInteger, nullable=False),
    *_figures(),
    *_slowest(),
)
sa.Index(None, stat_deltas.c.model_id, stat_deltas.c.start_s)

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
    # The same of what a version was asked within an hour; within a day, where it is long ago.
    sa.Column("version_id", uuid_text, sa.ForeignKey("model_versions.id"), primary_key=True),
    sa.Column("at", UtcDateTime, primary_key=True),
    sa.Column("hours", sa.Integer, nullable=False),
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
sa.Index(None, labels.c.model_id, labels.c.created_at, labels.c.request_id)

archives = sa.Table(
    "archives",
    metadata,
    # A day's predictions in a file of the artifact store, and where their rows are.
    sa.Column("id", uuid_text, primary_key=True),
    sa.Column("begins_at", UtcDateTime, nullable=False),
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
    # What rules found, since when, and until when; at most one open alert of a rule on a subject.
    sa.Column("id", uuid_text, primary_key=True),
    sa.Column("rule", sa.String(32), nullable=False),
    # A model's or a key's id, or a disk.
    sa.Column("subject", sa.String(512), nullable=False),
    sa.Column("title", sa.String(512), nullable=False),
    sa.Column("model_id", uuid_text, sa.ForeignKey("models.id"), index=True),
    # Who may see it besides administrators: the owner of the model or of the key.
    sa.Column("user_id", uuid_text, sa.ForeignKey("users.id"), index=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("worst", sa.Double, nullable=False),
    sa.Column("limit", sa.Double, nullable=False),
    # Looks in a row that found it over the limit, and clearly under it.
    sa.Column("n_over", sa.Integer, nullable=False),
    sa.Column("n_under", sa.Integer, nullable=False),
    sa.Column("began_at", UtcDateTime, nullable=False),
    sa.Column("fired_at", UtcDateTime),
    sa.Column("seen_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    # The last state that the webhook has taken, and the attempts since.
    sa.Column("told", sa.String(16), nullable=False),
    sa.Column("n_tries", sa.Integer, nullable=False),
    sa.Column("try_at", UtcDateTime),
    sa.CheckConstraint("state IN ('pending', 'firing', 'ended')", name="state"),
)
sa.Index(
    "uq_alerts_open",
    alerts.c.rule,
    alerts.c.subject,
    unique=True,
    sqlite_where=alerts.c.ended_at.is_(None),
    postgresql_where=alerts.c.ended_at.is_(None),
)
sa.Index(None, alerts.c.began_at, alerts.c.id)

alert_limits = sa.Table(
    "alert_limits",
    metadata,
    # Limits of a model that are not those of the settings; 0 turns a rule off.
    sa.Column("model_id", uuid_text, sa.ForeignKey("models.id"), primary_key=True),
    sa.Column("rule", sa.String(32), primary_key=True),
    sa.Column("limit", sa.Double, nullable=False),
)

key_uses = sa.Table(
    "key_uses",
    metadata,
    # Requests with a key within an hour.
    sa.Column("api_key_id", uuid_text, sa.ForeignKey("api_keys.id"), primary_key=True),
    sa.Column("at", UtcDateTime, primary_key=True),
    sa.Column("n_requests", sa.BigInteger, nullable=False),
)
