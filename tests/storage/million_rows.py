"""A PostgreSQL with a year of a busy platform: a million rows where a table can have as many."""

from __future__ import annotations

from datetime import datetime, timezone

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mlserve_jupyter.analytics.rollup_steps import DAY_S, HOUR_S, MINUTE_S, QUARTER_S, WEEK_S
from mlserve_jupyter.storage.engine import writing

NOW = datetime.now(timezone.utc)
NOW_S = int(NOW.timestamp())
N_MODELS = 100
N_VERSIONS = 100
"""Of each model; the last two are active."""

MODEL = f"00000000-0000-0000-0001-{7:012}"
VERSION = f"00000000-0000-0000-0002-{7 * N_VERSIONS + N_VERSIONS:012}"
USER = f"00000000-0000-0000-0000-{7:012}"
RARE_ACTOR, RARE_ACTION = "user-77", "admin.create"

N_PERIODS = {MINUTE_S: 3200, QUARTER_S: 1700, HOUR_S: 4500, DAY_S: 730, WEEK_S: 104}
"""Of each model. Some are so old that they are to go."""


def _id(kind: int, number: str) -> str:
    return f"CAST('00000000-0000-0000-000{kind}-' || lpad(CAST({number} AS text), 12, '0') AS uuid)"


_FIGURES = "10, 0, 3, 10, decode(repeat('0a1b', 20), 'hex'), NULL, NULL, NULL"

_PERIODS = " UNION ALL ".join(
    f"SELECT m, {step_s} AS step_s, p, ({NOW_S} / {step_s} - p) * {step_s} AS start_s "
    f"FROM generate_series(1, {N_MODELS}) m, generate_series(0, {n - 1}) p"
    for step_s, n in N_PERIODS.items()
)

_FILL = [
    f"""INSERT INTO users
        (id, name, email, role, is_active, token_epoch, created_at)
    SELECT {_id(0, "i")}, 'user-' || i, i || '@example.org', 'user', true, 0, :now
    FROM generate_series(1, 200) i""",
    f"""INSERT INTO models (id, owner_id, name, description, created_at, updated_at)
    SELECT {_id(1, "i")}, {_id(0, "i % 20 + 1")}, 'model-' || i, '', :now, :now
    FROM generate_series(1, {N_MODELS}) i""",
    f"""INSERT INTO model_versions
    SELECT {_id(2, f"m * {N_VERSIONS} + v")}, {_id(1, "m")}, v,
           CASE WHEN v > {N_VERSIONS - 2} THEN 'active' ELSE 'archived' END,
           'skops', repeat('a', 64), 1000, 'predict', '["predict"]', '{{}}', '{{}}', '{{}}',
           'python', 'ignore', '{{}}', '', :now, :now
    FROM generate_series(1, {N_MODELS}) m, generate_series(1, {N_VERSIONS}) v""",
    f"""INSERT INTO model_stats
    SELECT {_id(1, "m")}, step_s, start_s, {_FIGURES} FROM ({_PERIODS}) periods""",
    f"""INSERT INTO prediction_stats
    SELECT {_id(1, "m")}, step_s, start_s, {_id(2, f"m * {N_VERSIONS} + {N_VERSIONS} - p % 2")},
           'predict', {_FIGURES}, 12.5 + p % 7, '[]'
    FROM ({_PERIODS}) periods""",
    f"""INSERT INTO caller_stats
    SELECT {_id(1, "m")}, step_s, 'user-' || (p % 20), start_s,
           {_id(2, f"m * {N_VERSIONS} + {N_VERSIONS} - p % 2")}, 'predict', {_FIGURES}
    FROM ({_PERIODS}) periods""",
    f"""INSERT INTO stat_deltas
    SELECT gen_random_uuid(), {_id(1, f"i % {N_MODELS} + 1")},
           {_id(2, f"(i % {N_MODELS} + 1) * {N_VERSIONS} + {N_VERSIONS}")}, 'predict',
           'user-' || i % 20, {NOW_S} / 60 * 60 - i % 20 * 60, {_FIGURES}, 12.5, '[]'
    FROM generate_series(1, 20000) i""",
    f"""INSERT INTO labels
    SELECT {_id(1, f"i % {N_MODELS} + 1")}, 'request-' || i, '[1]', :now - i * interval '7 seconds'
    FROM generate_series(1, 1000000) i""",
    f"""INSERT INTO archives
    SELECT {_id(3, "i")}, date_trunc('day', :now - i * interval '1 day'),
           date_trunc('day', :now - (i - 1) * interval '1 day'), 'archives/' || i, 'archived', :now,
           repeat('a', 64), 1000000, 100000, NULL
    FROM generate_series(90, 3650) i""",
    f"""INSERT INTO alerts
    SELECT gen_random_uuid(),
           CASE WHEN i % 5 = 0 THEN 'key_use' ELSE 'error_rate' END,
           {_id(1, f"i % {N_MODELS} + 1")} || CAST(i AS text), 'title',
           CASE WHEN i % 5 > 0 THEN {_id(1, f"i % {N_MODELS} + 1")} END,
           {_id(0, "i % 200 + 1")},
           CASE WHEN i <= 50 THEN 'firing' ELSE 'ended' END, 0.5, 0.7, 0.1, 3, 0,
           :now - i * interval '5 minutes', :now - i * interval '5 minutes', :now,
           CASE WHEN i > 50 THEN :now - (i - 20) * interval '5 minutes' END,
           CASE WHEN i <= 50 THEN 'firing' ELSE 'ended' END, 0, NULL
    FROM generate_series(1, 100000) i""",
    f"""INSERT INTO audit_log
    SELECT {_id(4, "i")}, :now - i * interval '30 seconds',
           CASE WHEN i % 3 > 0 THEN {_id(0, "i % 70 + 1")} END,
           CASE WHEN i % 100000 = 1 THEN '{RARE_ACTOR}' ELSE 'user-' || i % 70 END, 'key',
           CASE WHEN i % 100000 = 2 THEN '{RARE_ACTION}'
                ELSE (ARRAY['login', 'key.create', 'key.revoke', 'version.deploy'])[i % 4 + 1] END,
           'model clf', CASE WHEN i % 50 = 0 THEN 'forbidden' ELSE 'ok' END, '10.0.0.1',
           'request-' || i, '{{}}'
    FROM generate_series(1, 1000000) i""",
]

TABLES = [
    "users", "models", "model_versions", "model_stats", "prediction_stats", "caller_stats",
    "stat_deltas", "labels", "archives", "alerts", "audit_log",
]  # fmt: skip


_INDEXES = sa.text(
    "SELECT indexname, indexdef FROM pg_indexes "
    "WHERE tablename = ANY(:tables) AND indexname LIKE 'ix%'"
)


def fill(engine: Engine) -> None:
    """Fill a database whose schema is prepared."""
    with writing(engine, timeout_s=900) as connection:
        # Foreign keys are checked row by row, by triggers, which takes most of the time.
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        indexes = connection.execute(_INDEXES, {"tables": TABLES}).all()
        for name, _ in indexes:
            connection.exec_driver_sql(f"DROP INDEX {name}")
        for statement in _FILL:
            connection.execute(sa.text(statement), {"now": NOW} if ":now" in statement else {})
        for _, definition in indexes:  # built at once, they take less time
            connection.exec_driver_sql(definition)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in TABLES:
            connection.execute(sa.text(f"VACUUM ANALYZE {table}"))
