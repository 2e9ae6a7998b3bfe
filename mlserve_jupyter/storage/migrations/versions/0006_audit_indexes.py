"""Indexes of the audit log that its filters take, and none that nothing takes."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.drop_index("ix_audit_log_actor_id_at", table_name="audit_log")
    op.create_index("ix_audit_log_actor_at_id", "audit_log", ["actor", "at", "id"])
    op.drop_index("ix_audit_log_action_at", table_name="audit_log")
    op.create_index(
        "ix_audit_log_action_at_id",
        "audit_log",
        ["action", "at", "id"],
        # So that LIKE 'user.%' can be read from it, whatever the database's collation is.
        postgresql_ops={"action": "varchar_pattern_ops"},
    )
    op.drop_index("ix_archives_begins_at", table_name="archives")


def downgrade() -> None:
    """Bring the schema back to the revision before."""
    op.create_index("ix_archives_begins_at", "archives", ["begins_at"])
    op.drop_index("ix_audit_log_action_at_id", table_name="audit_log")
    op.create_index("ix_audit_log_action_at", "audit_log", ["action", "at"])
    op.drop_index("ix_audit_log_actor_at_id", table_name="audit_log")
    op.create_index("ix_audit_log_actor_id_at", "audit_log", ["actor_id", "at"])
