from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Engine
from sqlalchemy.schema import CreateIndex, CreateTable

from mlserve_jupyter.accounts.audit import AuditEvent, Origin, write_event
from mlserve_jupyter.api.resources import UpdateModel
from mlserve_jupyter.errors import SchemaUnknown
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import open_engine, reading, writing
from mlserve_jupyter.storage.schema import (
    HEAD_REVISION,
    MIGRATIONS,
    advice_of,
    prepare_schema,
    revision_of,
)
from mlserve_jupyter.storage.tables import metadata
from tests.registry.deploys import Deploys
from tests.storage.databases import processes, settings_in


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(settings_in(tmp_path))
    yield engine
    engine.dispose()


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def test_the_head_constant_is_the_newest_script() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [HEAD_REVISION]


def test_the_migrations_make_what_the_tables_say(engine: Engine) -> None:
    prepare_schema(engine)
    with reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        made = {
            name: checks
            for name in metadata.tables
            if (checks := _check_names(sa.inspect(connection).get_check_constraints(name)))
        }
    assert made == {
        "alerts": {"ck_alerts_state"},
        "archives": {"ck_archives_state"},
        "users": {"ck_users_role"},
        "models": {"ck_models_visibility"},
        "accounts_state": {"ck_accounts_state_one_row"},
        "invitations": {"ck_invitations_role"},
        "model_versions": {"ck_model_versions_status"},
        "registry_state": {"ck_registry_state_one_row"},
    }


def _check_names(constraints: list[Any]) -> set[str]:
    return {constraint["name"] for constraint in constraints}


def test_every_foreign_key_is_the_beginning_of_an_index(engine: Engine) -> None:
    prepare_schema(engine)
    with reading(engine) as connection:
        inspector = sa.inspect(connection)
        for table in metadata.sorted_tables:
            beginnings = {index["column_names"][0] for index in inspector.get_indexes(table.name)}
            beginnings |= {
                unique["column_names"][0] for unique in inspector.get_unique_constraints(table.name)
            }
            beginnings.add(inspector.get_pk_constraint(table.name)["constrained_columns"][0])
            for key in inspector.get_foreign_keys(table.name):
                assert key["constrained_columns"][0] in beginnings, (table.name, key)


def test_the_schema_goes_down_to_nothing_and_up_again(engine: Engine) -> None:
    config = alembic_config()
    for _ in range(2):
        prepare_schema(engine)
        with writing(engine) as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, "base")
        with reading(engine) as connection:
            assert sa.inspect(connection).get_table_names() == ["alembic_version"]


def test_a_model_stays_as_it_is_while_the_schema_goes_down_by_one_and_up_again(
    engine: Engine, tmp_path: Path
) -> None:
    prepare_schema(engine)
    deploys = Deploys(engine, tmp_path / "models")
    served = deploys("kept")
    deploys.registry.update_model(served.model_id, UpdateModel(keep_warm=True, visibility="public"))
    with writing(engine) as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0004")
    prepare_schema(engine)
    kept = deploys.registry.snapshot().by_id(served.model_id)
    assert (kept.name, kept.visibility, kept.keep_warm) == ("kept", "public", False)
    assert kept.default == served
    with reading(engine) as connection:
        inspector = sa.inspect(connection)
        assert len(inspector.get_check_constraints("models")) == 1
        assert len(inspector.get_foreign_keys("models")) == 1


def test_a_known_schema_is_not_touched_and_alembic_is_not_imported(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    _prepare(settings)
    code = f"""
import sys
from pathlib import Path
from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import open_engine
from mlserve_jupyter.storage.schema import prepare_schema
engine = open_engine(Settings(data_dir=Path({str(settings.data_dir)!r})))
prepare_schema(engine)
engine.dispose()
print("alembic" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"


def test_processes_that_start_at_once_make_one_schema(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    for round in range(3):
        fresh = Settings(data_dir=settings.data_dir / str(round))
        started = processes.Barrier(4)
        children = [
            processes.Process(target=_prepare_together, args=(fresh, started)) for _ in range(4)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
        assert [child.exitcode for child in children] == [0] * 4


def _prepare_together(settings: Settings, started: Any) -> None:
    started.wait(30)
    _prepare(settings)


def _prepare(settings: Settings) -> None:
    engine = open_engine(settings)
    prepare_schema(engine)
    engine.dispose()


def test_a_schema_of_a_newer_release_is_refused_with_the_command_to_run(engine: Engine) -> None:
    prepare_schema(engine)
    with writing(engine) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(
        SchemaUnknown, match=r"mlserve\.db.*'9999'.*pip install --upgrade"
    ) as caught:
        prepare_schema(engine)
    assert caught.value.details["revision"] == "9999"
    with reading(engine) as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == "9999"


def test_a_schema_at_several_revisions_is_refused_and_left_as_it_is(engine: Engine) -> None:
    prepare_schema(engine)
    with writing(engine) as connection:
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('0001')"))
    several = f"several revisions ('0001', '{HEAD_REVISION}')"
    with pytest.raises(SchemaUnknown, match=re.escape(several)):
        prepare_schema(engine)
    assert revision_of(engine) == f"0001, {HEAD_REVISION}"
    assert several in str(advice_of(engine))
    with writing(engine) as connection:
        connection.execute(sa.text("DELETE FROM alembic_version WHERE version_num = '0001'"))
    prepare_schema(engine)
    assert advice_of(engine) is None


def test_a_database_of_another_program_is_refused_and_left_as_it_is(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(sa.text("CREATE TABLE users (login TEXT)"))
    with pytest.raises(SchemaUnknown, match=r"table 'users' that another program made"):
        prepare_schema(engine)
    with reading(engine) as connection:
        assert sa.inspect(connection).get_table_names() == ["users"]


def test_a_migration_that_fails_leaves_nothing_half_made(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr("alembic.op.create_index", fail)
    with pytest.raises(RuntimeError, match="no"):
        prepare_schema(engine)
    with reading(engine) as connection:
        assert sa.inspect(connection).get_table_names() == []
    monkeypatch.undo()
    prepare_schema(engine)


def test_foreign_keys_are_enforced_again_after_a_migration(engine: Engine) -> None:
    prepare_schema(engine)
    with reading(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_postgres_gets_jsonb_native_uuids_and_a_partial_index() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    versions = metadata.tables["model_versions"]
    made = str(CreateTable(versions).compile(dialect=dialect))
    assert "signature JSONB NOT NULL" in made
    assert "id UUID NOT NULL" in made
    assert "created_at TIMESTAMP WITH TIME ZONE NOT NULL" in made
    active = next(index for index in versions.indexes if index.name == "ix_model_versions_active")
    assert str(CreateIndex(active).compile(dialect=dialect)).endswith("WHERE status = 'active'")


def test_the_audit_log_can_only_be_added_to(engine: Engine) -> None:
    prepare_schema(engine)
    origin = Origin(actor="ann", actor_id=None, via="none", address="127.0.0.1", request_id="r")
    with writing(engine) as connection:
        write_event(connection, AuditEvent(origin, "login", outcome="unauthenticated"))
    for change in ("UPDATE audit_log SET actor = 'bob'", "DELETE FROM audit_log"):
        with pytest.raises(sa.exc.IntegrityError, match="append-only"), writing(engine) as other:
            other.execute(sa.text(change))
    with reading(engine) as connection:
        assert connection.scalar(sa.text("SELECT actor FROM audit_log")) == "ann"
