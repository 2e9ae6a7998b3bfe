"""Models that are kept in memory, whether they were called lately or not."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.add_column(
        "models", sa.Column("keep_warm", sa.Boolean(), nullable=False, server_default=sa.false())
    )


def downgrade() -> None:
    """Bring the schema back to the revision before."""
    # Not in a batch, which on SQLite copies the table and loses its check constraint.
    op.drop_column("models", "keep_warm")
