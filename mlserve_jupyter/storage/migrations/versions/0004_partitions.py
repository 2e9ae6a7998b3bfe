"""The prediction log keyed by time, without foreign keys; on PostgreSQL by month, searchable."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
_utc = sa.DateTime(timezone=True)

_MONTHS_AHEAD = 3

_COLUMNS = (
    "id, model_id, version_id, created_at, request_id, principal, method, status, cached, n_rows, "
    "queue_ms, load_ms, predict_ms, total_ms, inputs, outputs, truncated, error, process_id, "
    "sequence"
)

_INDEXES_OF_PAGES = {
    "ix_predictions_model_id_created_at_id": "model_id",
    "ix_predictions_version_id_created_at_id": "version_id",
}


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.rename_table("predictions", "predictions_before")
    if op.get_bind().dialect.name == "sqlite":
        _create(sa.PrimaryKeyConstraint("created_at", "id", name="pk_predictions"))
        op.execute(
            f"INSERT INTO predictions ({_COLUMNS}) SELECT {_COLUMNS} FROM predictions_before"
        )
        op.drop_table("predictions_before")
        _create_indexes()
        return
    for index in ("pk_predictions", *_INDEXES_OF_PAGES):
        op.execute(f"ALTER INDEX {index} RENAME TO {index}_before")
    _create(
        sa.PrimaryKeyConstraint("created_at", "id", name="pk_predictions"),
        postgresql_partition_by="RANGE (created_at)",
    )
    _create_indexes()
    # Finds the calls whose inputs contain something: inputs @> '…'.
    op.create_index(
        "ix_predictions_inputs",
        "predictions",
        ["inputs"],
        postgresql_using="gin",
        postgresql_ops={"inputs": "jsonb_path_ops"},
    )
    op.execute("CREATE TABLE predictions_default PARTITION OF predictions DEFAULT")
    op.execute(_PARTITION_BY_MONTH)


def downgrade() -> None:
    """Bring the schema back to the revision before."""
    op.rename_table("predictions", "predictions_after")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("ALTER INDEX pk_predictions RENAME TO pk_predictions_after")
    for index in _INDEXES_OF_PAGES:
        op.drop_index(index)
    _create(
        sa.PrimaryKeyConstraint("id", name="pk_predictions"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_predictions_model_id_models"),
        sa.ForeignKeyConstraint(
            ["version_id"], ["model_versions.id"], name="fk_predictions_version_id_model_versions"
        ),
    )
    op.execute(
        f"INSERT INTO predictions ({_COLUMNS}) SELECT {_COLUMNS} FROM predictions_after "
        "WHERE version_id IN (SELECT id FROM model_versions)"
    )
    op.drop_table("predictions_after")
    _create_indexes_of_pages()


def _create(*constraints: sa.Constraint, **options: Any) -> None:
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
        *constraints,
        **options,
    )


def _create_indexes() -> None:
    _create_indexes_of_pages()
    op.create_index(
        "ix_predictions_failed",
        "predictions",
        ["model_id", "created_at", "id"],
        sqlite_where=sa.text("status != 'ok'"),
        postgresql_where=sa.text("status != 'ok'"),
    )
    op.create_index("ix_predictions_model_id_request_id", "predictions", ["model_id", "request_id"])


def _create_indexes_of_pages() -> None:
    for index, of in _INDEXES_OF_PAGES.items():
        op.create_index(index, "predictions", [of, "created_at", "id"])


# What there is becomes one partition, without copying; it goes when the last of its days is
# archived. Each month to come has one of its own. Rows of a clock that is ahead go where they
# belong.
_PARTITION_BY_MONTH = f"""
DO $$
DECLARE
    first timestamp := (SELECT date_trunc('month', min(created_at) AT TIME ZONE 'UTC')
                        FROM predictions_before);
    this timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    next timestamp := this + interval '1 month';
    month timestamp := CASE WHEN first < next THEN next ELSE this END;
BEGIN
    WHILE month <= this + interval '{_MONTHS_AHEAD} months' LOOP
        EXECUTE format(
            'CREATE TABLE %I PARTITION OF predictions FOR VALUES FROM (%L) TO (%L)',
            to_char(month, '"predictions_y"YYYY"m"MM'),
            month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
        month := month + interval '1 month';
    END LOOP;
    WITH ahead AS (
        DELETE FROM predictions_before WHERE created_at >= next AT TIME ZONE 'UTC' RETURNING *
    )
    INSERT INTO predictions ({_COLUMNS}) SELECT {_COLUMNS} FROM ahead;
    IF first < next THEN
        ALTER TABLE predictions_before
            DROP CONSTRAINT pk_predictions_before,
            DROP CONSTRAINT fk_predictions_model_id_models,
            DROP CONSTRAINT fk_predictions_version_id_model_versions;
        EXECUTE format(
            'ALTER TABLE predictions ATTACH PARTITION predictions_before '
            'FOR VALUES FROM (%L) TO (%L)',
            first AT TIME ZONE 'UTC', next AT TIME ZONE 'UTC');
    ELSE
        DROP TABLE predictions_before;
    END IF;
END $$
"""
