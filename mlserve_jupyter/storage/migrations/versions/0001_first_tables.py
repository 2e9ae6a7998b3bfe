"""First tables: users, models, versions, the registry's epoch and the prediction log."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_utc = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("email", sa.String(320)),
        sa.Column("hashed_password", sa.String(72)),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("token_epoch", sa.Integer(), nullable=False),
        sa.Column("created_at", _utc, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("name", name="uq_users_name"),
        sa.UniqueConstraint("email", name="uq_users_email"),
        sa.CheckConstraint("role IN ('user', 'admin')", name=op.f("ck_users_role")),
    )
    op.create_table(
        "models",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", _utc, nullable=False),
        sa.Column("updated_at", _utc, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint("owner_id", "name", name="uq_models_owner_id_name"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="fk_models_owner_id_users"),
    )
    op.create_table(
        "model_versions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("format", sa.String(32), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.String(128), nullable=False),
        sa.Column("methods", _json, nullable=False),
        sa.Column("signature", _json, nullable=False),
        sa.Column("environment", _json, nullable=False),
        sa.Column("provenance", _json, nullable=False),
        sa.Column("runtime", sa.String(16), nullable=False),
        sa.Column("extra_columns", sa.String(16), nullable=False),
        sa.Column("verification", _json, nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", _utc, nullable=False),
        sa.Column("updated_at", _utc, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_model_versions"),
        sa.UniqueConstraint("model_id", "version", name="uq_model_versions_model_id_version"),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name="fk_model_versions_model_id_models"
        ),
        sa.CheckConstraint(
            "status IN ('active', 'deprecated', 'archived')", name=op.f("ck_model_versions_status")
        ),
    )
    op.create_index(
        "ix_model_versions_active",
        "model_versions",
        ["model_id", "version"],
        sqlite_where=sa.text("status = 'active'"),
        postgresql_where=sa.text("status = 'active'"),
    )
    op.create_table(
        "registry_state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_registry_state"),
        sa.CheckConstraint("id = 1", name=op.f("ck_registry_state_one_row")),
    )
    op.execute("INSERT INTO registry_state (id, epoch) VALUES (1, 0)")
    op.create_table(
        "predictions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", _utc, nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("principal", sa.String(128), nullable=False),
        sa.Column("method", sa.String(128), nullable=False),
        sa.Column("status", sa.String(64), nullable=False),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.Column("n_rows", sa.Integer(), nullable=False),
        sa.Column("queue_ms", sa.Double(), nullable=False),
        sa.Column("load_ms", sa.Double(), nullable=False),
        sa.Column("predict_ms", sa.Double(), nullable=False),
        sa.Column("total_ms", sa.Double(), nullable=False),
        sa.Column("inputs", _json),
        sa.Column("outputs", _json),
        sa.Column("truncated", sa.Boolean(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("process_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_predictions"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_predictions_model_id_models"),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_versions.id"], name="fk_predictions_version_id_model_versions"
        ),
    )
    op.create_index(
        "ix_predictions_model_id_created_at_id", "predictions", ["model_id", "created_at", "id"]
    )
    op.create_index(
        "ix_predictions_version_id_created_at_id", "predictions", ["version_id", "created_at", "id"]
    )
    op.create_table(
        "prediction_counts",
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("n_predictions", sa.BigInteger(), nullable=False),
        sa.Column("last_called_at", _utc, nullable=False),
        sa.PrimaryKeyConstraint("version_id", name="pk_prediction_counts"),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["model_versions.id"],
            name="fk_prediction_counts_version_id_model_versions",
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name="fk_prediction_counts_model_id_models"
        ),
    )
    op.create_index("ix_prediction_counts_model_id", "prediction_counts", ["model_id"])
    op.create_table(
        "prediction_log_processes",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("rows_written", sa.BigInteger(), nullable=False),
        sa.Column("written_through", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_prediction_log_processes"),
    )
    op.create_table(
        "prediction_log_losses",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("process_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("n_rows", sa.BigInteger(), nullable=False),
        sa.Column("at", _utc, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_prediction_log_losses"),
        sa.UniqueConstraint(
            "process_id", "reason", name="uq_prediction_log_losses_process_id_reason"
        ),
    )


def downgrade() -> None:
    """Bring the schema back to the revision before."""
    for table in (
        "prediction_log_losses",
        "prediction_log_processes",
        "prediction_counts",
        "predictions",
        "registry_state",
        "model_versions",
        "models",
        "users",
    ):
        op.drop_table(table)
