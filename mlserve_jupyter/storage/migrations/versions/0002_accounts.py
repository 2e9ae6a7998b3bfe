"""Accounts: refresh tokens, invitations, keys, visibility, approvals and the audit log."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_utc = sa.DateTime(timezone=True)

_NEW_TABLES = (
    "audit_log",
    "artifact_approvals",
    "api_keys",
    "invitations",
    "refresh_tokens",
    "accounts_state",
    "model_shares",
)

_APPEND_ONLY_SQLITE = """
CREATE TRIGGER audit_log_no_{event} BEFORE {event} ON audit_log
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
"""

_APPEND_ONLY_FUNCTION = """
CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$
"""

_APPEND_ONLY_POSTGRESQL = """
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only()
"""


def upgrade() -> None:
    """Bring the schema to this revision."""
    with op.batch_alter_table("users") as users:
        users.add_column(sa.Column("rate_limit", sa.Integer()))
    with op.batch_alter_table("models") as models:
        models.add_column(
            sa.Column("visibility", sa.String(16), nullable=False, server_default="private")
        )
        models.create_check_constraint(
            op.f("ck_models_visibility"), "visibility IN ('private', 'shared', 'public')"
        )
    op.create_table(
        "model_shares",
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("model_id", "user_id", name="pk_model_shares"),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name="fk_model_shares_model_id_models"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_model_shares_user_id_users"),
    )
    op.create_index("ix_model_shares_user_id", "model_shares", ["user_id"])
    op.create_table(
        "accounts_state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_accounts_state"),
        sa.CheckConstraint("id = 1", name=op.f("ck_accounts_state_one_row")),
    )
    op.execute("INSERT INTO accounts_state (id, epoch) VALUES (1, 0)")
    op.create_table(
        "refresh_tokens",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("family_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("successor_id", sa.Uuid()),
        sa.Column("created_at", _utc, nullable=False),
        sa.Column("expires_at", _utc, nullable=False),
        sa.Column("revoked_at", _utc),
        sa.PrimaryKeyConstraint("id", name="pk_refresh_tokens"),
        sa.UniqueConstraint("sha256", name="uq_refresh_tokens_sha256"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_refresh_tokens_user_id_users"),
    )
    op.create_index("ix_refresh_tokens_user_id", "refresh_tokens", ["user_id"])
    op.create_index("ix_refresh_tokens_family_id", "refresh_tokens", ["family_id"])
    op.create_index("ix_refresh_tokens_expires_at", "refresh_tokens", ["expires_at"])
    op.create_table(
        "invitations",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("email", sa.String(320)),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", _utc, nullable=False),
        sa.Column("expires_at", _utc, nullable=False),
        sa.Column("used_by", sa.Uuid()),
        sa.Column("used_at", _utc),
        sa.PrimaryKeyConstraint("id", name="pk_invitations"),
        sa.UniqueConstraint("sha256", name="uq_invitations_sha256"),
        sa.ForeignKeyConstraint(
            ["created_by"], ["users.id"], name="fk_invitations_created_by_users"
        ),
        sa.ForeignKeyConstraint(["used_by"], ["users.id"], name="fk_invitations_used_by_users"),
        sa.CheckConstraint("role IN ('user', 'admin')", name=op.f("ck_invitations_role")),
    )
    op.create_index("ix_invitations_created_by", "invitations", ["created_by"])
    op.create_index("ix_invitations_used_by", "invitations", ["used_by"])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(32), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("scopes", _json, nullable=False),
        sa.Column("model_ids", _json),
        sa.Column("rate_limit", sa.Integer()),
        sa.Column("created_at", _utc, nullable=False),
        sa.Column("expires_at", _utc),
        sa.Column("last_used_at", _utc),
        sa.Column("revoked_at", _utc),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("key_id", name="uq_api_keys_key_id"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_api_keys_user_id_users"),
    )
    op.create_index("ix_api_keys_user_id", "api_keys", ["user_id"])
    op.create_table(
        "artifact_approvals",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("approved_by", sa.Uuid(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", _utc, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_artifact_approvals"),
        sa.ForeignKeyConstraint(
            ["approved_by"], ["users.id"], name="fk_artifact_approvals_approved_by_users"
        ),
    )
    op.create_index("ix_artifact_approvals_approved_by", "artifact_approvals", ["approved_by"])
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", _utc, nullable=False),
        sa.Column("actor_id", sa.Uuid()),
        sa.Column("actor", sa.String(320), nullable=False),
        sa.Column("via", sa.String(16), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("target", sa.String(320), nullable=False),
        sa.Column("outcome", sa.String(64), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("details", _json),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
    )
    op.create_index("ix_audit_log_at_id", "audit_log", ["at", "id"])
    op.create_index("ix_audit_log_actor_id_at", "audit_log", ["actor_id", "at"])
    op.create_index("ix_audit_log_action_at", "audit_log", ["action", "at"])
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(_APPEND_ONLY_SQLITE.format(event=event))
    else:
        op.execute(_APPEND_ONLY_FUNCTION)
        op.execute(_APPEND_ONLY_POSTGRESQL)


def downgrade() -> None:
    """Bring the schema back to the revision before."""
    for table in _NEW_TABLES:
        op.drop_table(table)
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION audit_log_is_append_only()")
    with op.batch_alter_table("models") as models:
        models.drop_constraint(op.f("ck_models_visibility"), type_="check")
        models.drop_column("visibility")
    with op.batch_alter_table("users") as users:
        users.drop_column("rate_limit")
