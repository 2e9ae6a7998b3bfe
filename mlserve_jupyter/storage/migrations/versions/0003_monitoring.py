"""Monitoring: rollups, live histograms, labels, archives, alerts, and what the log may keep."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_utc = sa.DateTime(timezone=True)

_NEW_TABLES = (
    "key_uses",
    "alert_limits",
    "alerts",
    "archives",
    "labels",
    "live_histograms",
    "baselines",
    "stat_deltas",
    "caller_stats",
    "prediction_stats",
    "model_stats",
)


def upgrade() -> None:
    """Bring the schema to this revision."""
    with op.batch_alter_table("models") as models:
        models.add_column(sa.Column("log_policy", _json))
    op.create_table(
        "model_stats",
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("step_s", sa.Integer(), nullable=False),
        sa.Column("start_s", sa.BigInteger(), nullable=False),
        *_figures(),
        sa.PrimaryKeyConstraint("model_id", "step_s", "start_s", name="pk_model_stats"),
        _of_model("model_stats"),
    )
    op.create_index("ix_model_stats_step_s_start_s", "model_stats", ["step_s", "start_s"])
    op.create_table(
        "prediction_stats",
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("step_s", sa.Integer(), nullable=False),
        sa.Column("start_s", sa.BigInteger(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("method", sa.String(128), nullable=False),
        *_figures(),
        *_slowest(),
        sa.PrimaryKeyConstraint(
            "model_id", "step_s", "start_s", "version_id", "method", name="pk_prediction_stats"
        ),
        _of_version("prediction_stats"),
        _of_model("prediction_stats"),
    )
    op.create_index("ix_prediction_stats_version_id", "prediction_stats", ["version_id"])
    op.create_index("ix_prediction_stats_step_s_start_s", "prediction_stats", ["step_s", "start_s"])
    op.create_table(
        "caller_stats",
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("step_s", sa.Integer(), nullable=False),
        sa.Column("principal", sa.String(128), nullable=False),
        sa.Column("start_s", sa.BigInteger(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("method", sa.String(128), nullable=False),
        *_figures(),
        sa.PrimaryKeyConstraint(
            "model_id",
            "step_s",
            "principal",
            "start_s",
            "version_id",
            "method",
            name="pk_caller_stats",
        ),
        _of_version("caller_stats"),
        _of_model("caller_stats"),
    )
    op.create_index("ix_caller_stats_version_id", "caller_stats", ["version_id"])
    op.create_index("ix_caller_stats_step_s_start_s", "caller_stats", ["step_s", "start_s"])
    op.create_index(
        "ix_caller_stats_callers",
        "caller_stats",
        [
            "model_id",
            "step_s",
            "start_s",
            "principal",
            "n_predictions",
            "n_errors",
            "n_cached",
            "n_rows",
        ],
    )
    op.create_table(
        "stat_deltas",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("method", sa.String(128), nullable=False),
        sa.Column("principal", sa.String(128), nullable=False),
        sa.Column("start_s", sa.BigInteger(), nullable=False),
        *_figures(),
        *_slowest(),
        sa.PrimaryKeyConstraint("id", name="pk_stat_deltas"),
    )
    op.create_index("ix_stat_deltas_model_id_start_s", "stat_deltas", ["model_id", "start_s"])
    if op.get_bind().dialect.name == "postgresql":
        _keep_histograms_in_their_rows()
    op.create_table(
        "baselines",
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("histograms", _json, nullable=False),
        sa.PrimaryKeyConstraint("version_id", name="pk_baselines"),
        _of_version("baselines"),
        _of_model("baselines"),
    )
    op.create_index("ix_baselines_model_id", "baselines", ["model_id"])
    op.create_table(
        "live_histograms",
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("at", _utc, nullable=False),
        sa.Column("hours", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("n_rows", sa.BigInteger(), nullable=False),
        sa.Column("histograms", _json, nullable=False),
        sa.PrimaryKeyConstraint("version_id", "at", name="pk_live_histograms"),
        _of_version("live_histograms"),
        _of_model("live_histograms"),
    )
    op.create_index("ix_live_histograms_model_id", "live_histograms", ["model_id"])
    op.create_table(
        "labels",
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("labels", _json, nullable=False),
        sa.Column("created_at", _utc, nullable=False),
        sa.PrimaryKeyConstraint("model_id", "request_id", name="pk_labels"),
        _of_model("labels"),
    )
    op.create_index(
        "ix_labels_model_id_created_at_request_id",
        "labels",
        ["model_id", "created_at", "request_id"],
    )
    op.create_table(
        "archives",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("begins_at", _utc, nullable=False),
        sa.Column("ends_at", _utc, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", _utc, nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("size_bytes", sa.BigInteger()),
        sa.Column("n_rows", sa.BigInteger()),
        sa.Column("kept_until", _utc),
        sa.PrimaryKeyConstraint("id", name="pk_archives"),
        sa.CheckConstraint(
            "state IN ('writing', 'verified', 'archived', 'restoring', 'restored')",
            name=op.f("ck_archives_state"),
        ),
    )
    op.create_index("ix_archives_begins_at", "archives", ["begins_at"])
    op.create_table(
        "alerts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("rule", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(512), nullable=False),
        sa.Column("title", sa.String(512), nullable=False),
        sa.Column("model_id", sa.Uuid()),
        sa.Column("user_id", sa.Uuid()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("worst", sa.Double(), nullable=False),
        sa.Column("limit", sa.Double(), nullable=False),
        sa.Column("n_over", sa.Integer(), nullable=False),
        sa.Column("n_under", sa.Integer(), nullable=False),
        sa.Column("began_at", _utc, nullable=False),
        sa.Column("fired_at", _utc),
        sa.Column("seen_at", _utc, nullable=False),
        sa.Column("ended_at", _utc),
        sa.Column("told", sa.String(16), nullable=False),
        sa.Column("n_tries", sa.Integer(), nullable=False),
        sa.Column("try_at", _utc),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
        _of_model("alerts"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_alerts_user_id_users"),
        sa.CheckConstraint("state IN ('pending', 'firing', 'ended')", name=op.f("ck_alerts_state")),
    )
    op.create_index("ix_alerts_model_id", "alerts", ["model_id"])
    op.create_index("ix_alerts_user_id", "alerts", ["user_id"])
    op.create_index("ix_alerts_began_at_id", "alerts", ["began_at", "id"])
    op.create_index(
        "uq_alerts_open",
        "alerts",
        ["rule", "subject"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "alert_limits",
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("rule", sa.String(32), nullable=False),
        sa.Column("limit", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("model_id", "rule", name="pk_alert_limits"),
        _of_model("alert_limits"),
    )
    op.create_table(
        "key_uses",
        sa.Column("api_key_id", sa.Uuid(), nullable=False),
        sa.Column("at", _utc, nullable=False),
        sa.Column("n_requests", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("api_key_id", "at", name="pk_key_uses"),
        sa.ForeignKeyConstraint(
            ["api_key_id"], ["api_keys.id"], name="fk_key_uses_api_key_id_api_keys"
        ),
    )


def downgrade() -> None:
    """Bring the schema back to the revision before."""
    for table in _NEW_TABLES:
        op.drop_table(table)
    with op.batch_alter_table("models") as models:
        models.drop_column("log_policy")


def _figures() -> list[sa.Column[Any]]:
    return [
        sa.Column("n_predictions", sa.BigInteger(), nullable=False),
        sa.Column("n_errors", sa.BigInteger(), nullable=False),
        sa.Column("n_cached", sa.BigInteger(), nullable=False),
        sa.Column("n_rows", sa.BigInteger(), nullable=False),
        sa.Column("total_ms", sa.LargeBinary()),
        sa.Column("queue_ms", sa.LargeBinary()),
        sa.Column("load_ms", sa.LargeBinary()),
        sa.Column("predict_ms", sa.LargeBinary()),
    ]


def _slowest() -> list[sa.Column[Any]]:
    return [
        sa.Column("slowest_ms", sa.Double(), nullable=False),
        sa.Column("slowest", sa.Text(), nullable=False),
    ]


def _keep_histograms_in_their_rows() -> None:
    """Have a report read its rows and no more: what is moved out of a row costs a look-up each."""
    for table in ("model_stats", "prediction_stats", "caller_stats", "stat_deltas"):
        op.execute(f"ALTER TABLE {table} SET (toast_tuple_target = 8160)")
        for column in ("total_ms", "queue_ms", "load_ms", "predict_ms"):
            op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE MAIN")


def _of_model(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=f"fk_{table}_model_id_models")


def _of_version(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["version_id"], ["model_versions.id"], name=f"fk_{table}_version_id_model_versions"
    )
