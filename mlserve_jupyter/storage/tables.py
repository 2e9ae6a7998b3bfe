"""The tables, as SQLAlchemy Core knows them. Migrations make them; this file is what they make.

JSON columns carry JSON text in both directions (see ``engine``), so that the room that owns the
type is the one that encodes and decodes it, once.
"""

from __future__ import annotations

from datetime import datetime, timezone

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A time zone aware datetime, kept and given in UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive datetime; SQLite would keep it as if it were UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a datetime without a time zone cannot be stored: {value!r}")
        return value.astimezone(timezone.utc)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Mark what SQLite gives back as the UTC that it is."""
        if value is None:
            return None
        if value.tzinfo is None:
            return value.replace(tzinfo=timezone.utc)
        return value.astimezone(timezone.utc)


uuid_text = sa.Uuid(as_uuid=False)

json_text = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True), "postgresql"
)

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", uuid_text, primary_key=True),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    # The notebook's owner comes by Jupyter's identity and has neither of the next two.
    sa.Column("email", sa.String(320), unique=True),
    sa.Column("hashed_password", sa.String(72)),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False),
    # All tokens of an older epoch are dead.
    sa.Column("token_epoch", sa.Integer, nullable=False),
    # Requests a minute; None for what the settings say, 0 for no limit.
    sa.Column("rate_limit", sa.Integer),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.CheckConstraint("role IN ('user', 'admin')", name="role"),
)

accounts_state = sa.Table(
    "accounts_state",
    metadata,
    # The one row has id 1. Whatever takes somebody's access away, or changes it, raises the epoch.
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.CheckConstraint("id = 1", name="one_row"),
)

refresh_tokens = sa.Table(
    "refresh_tokens",
    metadata,
    sa.Column("id", uuid_text, primary_key=True),
    sa.Column("user_id", uuid_text, sa.ForeignKey("users.id"), nullable=False, index=True),
    # All tokens that descend from one login; access tokens name it, and die with it.
    sa.Column("family_id", uuid_text, nullable=False, index=True),
    sa.Column("sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("successor_id", uuid_text),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False, index=True),
    sa.Column("revoked_at", UtcDateTime),
)

invitations = sa.Table(
    "invitations",
    metadata,
    sa.Column("id", uuid_text, primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("email", sa.String(320)),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("created_by", uuid_text, sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Column("used_by", uuid_text, sa.ForeignKey("users.id"), index=True),
    sa.Column("used_at", UtcDateTime),
    sa.CheckConstraint("role IN ('user', 'admin')", name="role"),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", uuid_text, primary_key=True),
    sa.Column("user_id", uuid_text, sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("name", sa.String(64), nullable=False),
    # The public part of the key, by which it is found, and the digest of the whole.
    sa.Column("key_id", sa.String(32), nullable=False, unique=True),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("scopes", json_text, nullable=False),
    # Ids of the models that it may call; None for all that its user may.
    sa.Column("model_ids", json_text),
    # Requests a minute; None for what its user has, 0 for no limit.
    sa.Column("rate_limit", sa.Integer),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime),
    sa.Column("last_used_at", UtcDateTime),
    sa.Column("revoked_at", UtcDateTime),
)

artifact_approvals = sa.Table(
    "artifact_approvals",
    metadata,
    # Artifacts that can run code and that an administrator has approved.
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("approved_by", uuid_text, sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

audit_log = sa.Table(
    "audit_log",
    metadata,
    # Append-only: triggers of the database refuse UPDATE and DELETE.
    sa.Column("id", uuid_text, primary_key=True),
    sa.Column("at", UtcDateTime, nullable=False),
    # No foreign key: who was refused may be nobody that the platform knows.
    sa.Column("actor_id", uuid_text),
    sa.Column("actor", sa.String(320), nullable=False),
    sa.Column("via", sa.String(16), nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("target", sa.String(320), nullable=False),
    sa.Column("outcome", sa.String(64), nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("details", json_text),
)
sa.Index(None, audit_log.c.at, audit_log.c.id)
sa.Index(None, audit_log.c.actor, audit_log.c.at, audit_log.c.id)
sa.Index(
    None,
    audit_log.c.action,
    audit_log.c.at,
    audit_log.c.id,
    # For LIKE, whatever the database's collation is.
    postgresql_ops={"action": "varchar_pattern_ops"},
)

models = sa.Table(
    "models",
    metadata,
    sa.Column("id", uuid_text, primary_key=True),
    sa.Column("owner_id", uuid_text, sa.ForeignKey("users.id"), nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("visibility", sa.String(16), nullable=False, server_default="private"),
    # What the prediction log keeps of its calls; None for all.
    sa.Column("log_policy", json_text),
    # Whether it is loaded ahead of its calls, also if nobody has called it lately.
    sa.Column("keep_warm", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    # Also the index of the foreign key.
    sa.UniqueConstraint("owner_id", "name"),
    sa.CheckConstraint("visibility IN ('private', 'shared', 'public')", name="visibility"),
)

model_shares = sa.Table(
    "model_shares",
    metadata,
    # With whom a model of visibility ``shared`` is shared.
    sa.Column("model_id", uuid_text, sa.ForeignKey("models.id"), primary_key=True),
    sa.Column("user_id", uuid_text, sa.ForeignKey("users.id"), primary_key=True, index=True),
)

model_versions = sa.Table(
    "model_versions",
    metadata,
    sa.Column("id", uuid_text, primary_key=True),
    sa.Column("model_id", uuid_text, sa.ForeignKey("models.id"), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("format", sa.String(32), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("method", sa.String(128), nullable=False),
    sa.Column("methods", json_text, nullable=False),
    sa.Column("signature", json_text, nullable=False),
    sa.Column("environment", json_text, nullable=False),
    sa.Column("provenance", json_text, nullable=False),
    sa.Column("runtime", sa.String(16), nullable=False),
    sa.Column("extra_columns", sa.String(16), nullable=False),
    sa.Column("verification", json_text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("updated_at", UtcDateTime, nullable=False),
    # Also the index of the foreign key.
    sa.UniqueConstraint("model_id", "version"),
    sa.CheckConstraint("status IN ('active', 'deprecated', 'archived')", name="status"),
)
sa.Index(
    "ix_model_versions_active",
    model_versions.c.model_id,
    model_versions.c.version,
    sqlite_where=model_versions.c.status == "active",
    postgresql_where=model_versions.c.status == "active",
)

registry_state = sa.Table(
    "registry_state",
    metadata,
    # The one row has id 1. Whoever changes the registry locks it first and raises the epoch.
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.CheckConstraint("id = 1", name="one_row"),
)

predictions = sa.Table(
    "predictions",
    metadata,
    # Partitioned by month on PostgreSQL, see ``partitions``. Without foreign keys, which would take
    # as long as all the rest of a row: those of ``prediction_counts`` are checked once a batch.
    sa.Column("id", uuid_text, nullable=False),
    sa.Column("model_id", uuid_text, nullable=False),
    sa.Column("version_id", uuid_text, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("principal", sa.String(128), nullable=False),
    sa.Column("method", sa.String(128), nullable=False),
    sa.Column("status", sa.String(64), nullable=False),
    sa.Column("cached", sa.Boolean, nullable=False),
    sa.Column("n_rows", sa.Integer, nullable=False),
    sa.Column("queue_ms", sa.Double, nullable=False),
    sa.Column("load_ms", sa.Double, nullable=False),
    sa.Column("predict_ms", sa.Double, nullable=False),
    sa.Column("total_ms", sa.Double, nullable=False),
    sa.Column("inputs", json_text),
    sa.Column("outputs", json_text),
    sa.Column("truncated", sa.Boolean, nullable=False),
    sa.Column("error", sa.Text),
    # Which process logged it, and as its how-manieth call.
    sa.Column("process_id", uuid_text, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    # The calls of a time, whatever their model; a partitioned table's key must begin with the time.
    sa.PrimaryKeyConstraint("created_at", "id"),
)
# Pages of a model's and of a version's log, newest first.
sa.Index(None, predictions.c.model_id, predictions.c.created_at, predictions.c.id)
sa.Index(None, predictions.c.version_id, predictions.c.created_at, predictions.c.id)
# The few calls of a model that failed.
sa.Index(
    "ix_predictions_failed",
    predictions.c.model_id,
    predictions.c.created_at,
    predictions.c.id,
    sqlite_where=predictions.c.status != "ok",
    postgresql_where=predictions.c.status != "ok",
)
# The call that a label is of.
sa.Index(None, predictions.c.model_id, predictions.c.request_id)
# PostgreSQL has one more, which searches inputs: ``migrations.versions.0004_partitions``.

prediction_counts = sa.Table(
    "prediction_counts",
    metadata,
    # Kept in the transaction that writes the log, since counting a million rows is not quick.
    sa.Column("version_id", uuid_text, sa.ForeignKey("model_versions.id"), primary_key=True),
    sa.Column("model_id", uuid_text, sa.ForeignKey("models.id"), nullable=False, index=True),
    sa.Column("n_predictions", sa.BigInteger, nullable=False),
    sa.Column("last_called_at", UtcDateTime, nullable=False),
)

prediction_log_processes = sa.Table(
    "prediction_log_processes",
    metadata,
    # What each process has written, kept in the transaction that writes it.
    sa.Column("id", uuid_text, primary_key=True),
    sa.Column("rows_written", sa.BigInteger, nullable=False),
    sa.Column("written_through", sa.BigInteger, nullable=False),
)

prediction_log_losses = sa.Table(
    "prediction_log_losses",
    metadata,
    sa.Column("id", uuid_text, primary_key=True),
    sa.Column("process_id", uuid_text, nullable=False),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("n_rows", sa.BigInteger, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.UniqueConstraint("process_id", "reason"),
)
