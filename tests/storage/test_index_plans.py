"""Each index is taken, unforced, by a statement of the program, at a million rows.

Those of the prediction log are in ``test_prediction_indexes``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from mlserve_jupyter.accounts.audit_pages import EventFilter, list_events
from mlserve_jupyter.analytics.alert_rows import (
    has_open,
    list_alerts,
    read_last_end,
)
from mlserve_jupyter.analytics.labels import (
    forget_labels_without_call,
    read_labels,
)
from mlserve_jupyter.analytics.rollup_reading import (
    Selection,
    read_callers,
    read_slowest,
    read_tallies,
)
from mlserve_jupyter.analytics.rollup_steps import DAY_S, cover
from mlserve_jupyter.analytics.rollups import expire, fold
from mlserve_jupyter.errors import Conflict
from mlserve_jupyter.registry.queries import check_inactive
from mlserve_jupyter.storage.engine import open_engine, reading, writing
from mlserve_jupyter.storage.schema import prepare_schema
from mlserve_jupyter.storage.tables import models, users
from tests.storage import million_rows
from tests.storage.databases import opened, settings_in
from tests.storage.million_rows import MODEL, NOW, NOW_S, RARE_ACTION, RARE_ACTOR, USER, VERSION
from tests.storage.postgres_process import PostgresProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SPAN = cover(NOW_S - 90 * DAY_S, NOW_S, NOW_S)
OF_MODEL = Selection(SPAN, (MODEL,))
OF_VERSION = Selection(SPAN, (MODEL,), version_ids=(VERSION,))
OF_CALLER = Selection(SPAN, (MODEL,), principal="user-7")
OF_ALL = Selection(SPAN, None)

Run = Callable[[Engine], object]


@pytest.fixture(scope="module")
def engine(postgres: PostgresProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    url = postgres.new_database()
    engine = open_engine(settings_in(tmp_path_factory.mktemp("plans"), database_url=url))
    prepare_schema(engine)
    million_rows.fill(engine)
    yield engine
    engine.dispose()
    postgres.drop_database(url)


@pytest.fixture
def sqlite_engine(tmp_path: Path) -> Iterator[Engine]:
    """SQLite plans by what there is of tables and indexes, not of rows."""
    with opened(settings_in(tmp_path)) as engine:
        with writing(engine) as connection:
            connection.execute(
                users.insert().values(
                    id=USER, name="ann", role="user", is_active=True, token_epoch=0, created_at=NOW
                )
            )
            connection.execute(
                models.insert().values(
                    id=MODEL, owner_id=USER, name="clf", description="",
                    created_at=NOW, updated_at=NOW,
                )
            )  # fmt: skip
        yield engine


def read(call: Callable[..., object], *arguments: object, **options: object) -> Run:
    """Return what calls a function of a connection, and reads what it gives."""

    def run(engine: Engine) -> None:
        with reading(engine) as connection:
            found = call(connection, *arguments, **options)
            if isinstance(found, Iterator):
                next(found, None)

    return run


def ask(statement: str, **parameters: object) -> Run:
    """Return what the database asks itself: a foreign key, when what it points to goes."""
    return read(lambda connection: connection.execute(sa.text(statement), parameters))


def of_alerts(**changes: object) -> Run:
    wanted = {"user_id": None, "model_ids": None, "state": None, "limit": 100, "cursor": None}
    return read(list_alerts, **{**wanted, **changes})


def of_events(**wanted: Any) -> Run:  # the fields of a filter, of several types
    return lambda engine: list_events(engine, EventFilter(**wanted), 100, None)


def delete_model(connection: Connection) -> None:
    with contextlib.suppress(Conflict):
        check_inactive(connection, MODEL)


def of_foreign_key(table: str, column: str, value: str) -> Run:
    return ask(
        f"SELECT 1 FROM ONLY {table} x WHERE CAST(:value AS uuid) = {column} FOR KEY SHARE OF x",
        value=value,
    )


RUNS: dict[str, Run] = {
    "pk_model_stats": read(read_tallies, OF_MODEL, ("start_s",)),
    "ix_model_stats_step_s_start_s": read(read_tallies, OF_ALL, ("model_id",)),
    "pk_prediction_stats": read(read_tallies, OF_VERSION, ("version_id", "method")),
    "ix_prediction_stats_step_s_start_s": read(read_slowest, OF_ALL),
    "ix_prediction_stats_version_id": of_foreign_key("prediction_stats", "version_id", VERSION),
    "pk_caller_stats": read(read_tallies, OF_CALLER, ("start_s",)),
    "ix_caller_stats_callers": read(read_callers, OF_MODEL),
    "ix_caller_stats_step_s_start_s": expire,
    "ix_caller_stats_version_id": of_foreign_key("caller_stats", "version_id", VERSION),
    "pk_stat_deltas": lambda engine: fold(engine, once()),
    "ix_stat_deltas_model_id_start_s": read(read_tallies, OF_MODEL, ("start_s",)),
    "pk_labels": lambda engine: forget_labels_without_call(engine, once()),
    "ix_labels_model_id_created_at_request_id": read(
        read_labels, MODEL, NOW - timedelta(days=30), 1000
    ),
    "uq_alerts_open": read(has_open, ["error_rate"]),
    "ix_alerts_began_at_id": of_alerts(),
    "ix_alerts_model_id": read(read_last_end, MODEL),
    "ix_alerts_user_id": of_alerts(user_id=USER),
    "ix_audit_log_at_id": of_events(outcome="forbidden"),
    "ix_audit_log_actor_at_id": of_events(actor=RARE_ACTOR),
    "ix_audit_log_action_at_id": of_events(action=RARE_ACTION),
    "ix_model_versions_active": read(delete_model),
}


def test_no_index_is_without_a_statement_here(engine: Engine) -> None:
    with reading(engine) as connection:
        inspector = sa.inspect(connection)
        names = {
            str(index["name"])
            for table in million_rows.TABLES
            for index in inspector.get_indexes(table)
            if "duplicates_constraint" not in index
        }
    assert names <= set(RUNS)


@pytest.mark.parametrize("index", RUNS)
def test_the_planner_takes_it_for_what_the_program_asks(engine: Engine, index: str) -> None:
    with explaining(engine) as plans:
        RUNS[index](engine)
    taken = {name for plan in plans for name in indexes_of(plan)}
    assert index in taken, json.dumps(plans, indent=1)


def test_all_actions_of_a_thing_are_read_by_it_whatever_the_collation(engine: Engine) -> None:
    with explaining(engine) as plans:
        of_events(action=RARE_ACTION.split(".")[0])(engine)
    assert "ix_audit_log_action_at_id" in indexes_of(plans[0]), json.dumps(plans, indent=1)


ON_SQLITE = [name for name in RUNS if not name.startswith("pk_") and "_version_id" not in name]
"""A primary key has another name there, and foreign keys are not asked for as here."""


@pytest.mark.parametrize("index", ON_SQLITE)
def test_sqlite_takes_it_as_well(sqlite_engine: Engine, index: str) -> None:
    with explaining(sqlite_engine) as plans:
        RUNS[index](sqlite_engine)
    assert any(f" {index} " in f"{plan} " for plan in plans), "\n".join(plans)


def once() -> Callable[[], bool]:
    answers = iter([True])
    return lambda: next(answers, False)


@contextmanager
def explaining(engine: Engine) -> Iterator[list[Any]]:
    """Give the plans of what the engine runs in the block, made on a connection of their own."""
    asking = sa.create_engine(engine.url)
    plans: list[Any] = []
    seen: set[str] = set()

    def explain(
        connection: Connection, cursor: Any, statement: str, parameters: Any, *rest: Any
    ) -> None:
        if statement in seen or not statement.startswith(("SELECT", "DELETE", "UPDATE")):
            return
        seen.add(statement)
        with asking.connect() as other:
            if engine.dialect.name == "sqlite":
                found = other.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                plans.extend(str(row[-1]) for row in found)
            else:
                found = other.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
                plans.extend(plan["Plan"] for plan in found.scalar_one())

    sa.event.listen(engine, "before_cursor_execute", explain)
    try:
        yield plans
    finally:
        sa.event.remove(engine, "before_cursor_execute", explain)
        asking.dispose()


def indexes_of(plan: Any) -> set[str]:
    """Return the indexes that a plan, a tree of JSON objects, reads."""
    below = (indexes_of(part) for part in plan.get("Plans", ()))
    return {plan["Index Name"]} if "Index Name" in plan else set().union(*below)
