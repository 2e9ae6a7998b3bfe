"""``jupyter mlserve db``, as an operator runs it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from mlserve_jupyter.settings import Settings
from mlserve_jupyter.storage.engine import reading, writing
from mlserve_jupyter.storage.schema import HEAD_REVISION
from mlserve_jupyter.storage.tables import audit_log
from tests.analytics.archives import DAY, OLD, TODAY, log_calls, rows_of, times_on
from tests.registry.deploys import Deploys
from tests.standalone.hosts import COMMAND, environment
from tests.storage.databases import opened
from tests.stores import Stores, options_of


@pytest.fixture
def settings(stores: Stores, tmp_path: Path) -> Iterator[Settings]:
    (tmp_path / "config").mkdir()
    return stores.at(tmp_path / "data" / "mlserve")


def run(settings: Settings, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "db", *arguments, *options_of(settings, "MLServeServer")],
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def told(settings: Settings, folder: Path, *arguments: str) -> object:
    done = run(settings, folder, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_database_is_made_and_upgraded(
    database: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    (tmp_path / "config").mkdir()
    url = request.getfixturevalue("postgres_url") if database == "postgresql" else ""
    settings = Settings(data_dir=tmp_path / "data" / "mlserve", database_url=url)
    first = run(settings, tmp_path, "status")
    if settings.database_url:
        assert "revision none" in first.stdout
    else:
        assert "There is no database at" in first.stderr
        assert first.returncode == 2
        assert not settings.data_dir.exists()
    assert "`jupyter mlserve db upgrade`" in first.stdout + first.stderr
    assert told(settings, tmp_path, "upgrade") == {"before": None, "after": HEAD_REVISION}
    again = run(settings, tmp_path, "upgrade").stdout
    assert again == f"The schema is at revision {HEAD_REVISION}.\n"


@pytest.mark.slow
def test_old_predictions_are_archived_and_come_back(settings: Settings, tmp_path: Path) -> None:
    with opened(settings) as engine:
        deploy = Deploys(engine, settings.artifacts_dir)
        served = deploy()
        log_calls(engine, settings, served, *times_on(OLD, 3), *times_on(OLD + DAY, 2))
        log_calls(engine, settings, served, *times_on(TODAY - 2 * DAY, 4))
        before = rows_of(engine)
        archived = told(settings, tmp_path, "archive")
        assert isinstance(archived, list)
        assert [(day["day"], day["n_rows"]) for day in archived] == [
            (OLD.date().isoformat(), 3), ((OLD + DAY).date().isoformat(), 2),
        ]  # fmt: skip
        assert len(rows_of(engine)) == 4
        assert "nothing to archive" in run(settings, tmp_path, "archive").stdout
        assert (
            "4 predictions of 1 day before"
            in run(settings, tmp_path, "archive", "--older-than-days=0").stdout
        )
        if engine.dialect.name == "sqlite":
            assert not rows_of(engine)
        for day in ("2020-01-01", "9999-12-31"):
            none = run(settings, tmp_path, "restore", f"--since={day}", "--keep-days=36500")
            assert none.stdout == "There is no archive of these days.\n"
        first = (OLD + DAY).date().isoformat()
        [restored] = told(settings, tmp_path, "restore", f"--since={first}")  # type: ignore[misc]
        assert (restored["day"], restored["n_rows"]) == (first, 2)
        kept = datetime.fromisoformat(restored["kept_until"].replace("Z", "+00:00"))
        assert 6 * DAY < kept - datetime.now(timezone.utc) < 8 * DAY
        back = run(settings, tmp_path, "restore", "--since=2000-01-01", f"--until={TODAY.date()}")
        assert "9 predictions are back until" in back.stdout
        assert rows_of(engine) == before
        with reading(engine) as connection:
            query = sa.select(audit_log.c.via).where(audit_log.c.action.like("predictions.%"))
            assert set(connection.scalars(query)) == {"host"}


@pytest.mark.slow
def test_status_says_what_there_is(settings: Settings, tmp_path: Path) -> None:
    with opened(settings) as engine:
        served = Deploys(engine, settings.artifacts_dir)()
        log_calls(engine, settings, served, *times_on(OLD, 50))
        log_calls(engine, settings, served, *times_on(TODAY - 2 * DAY, 70))
        if engine.dialect.name == "postgresql":
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(sa.text("ANALYZE"))
    told(settings, tmp_path, "archive")
    status = told(settings, tmp_path, "status", "--capacity=1TB")
    assert isinstance(status, dict)
    assert status["revision"] == status["head_revision"] == HEAD_REVISION
    tables = {table["name"]: table for table in status["tables"]}
    assert tables["predictions"]["n_rows"] >= 70
    assert 0 < tables["predictions"]["size_bytes"] < status["size_bytes"]
    assert status["predictions_per_day"] == pytest.approx(70 / 2, rel=0.6)
    assert status["growth_bytes_per_day"] > 0
    assert status["free_bytes"] == pytest.approx(1e12, rel=0.001)
    oldest_at = msgspec.convert(status["oldest_prediction_at"], datetime)
    assert oldest_at == TODAY - 2 * DAY
    assert status["archives"] == {
        "n_days": 1, "n_rows": 50, "size_bytes": status["archives"]["size_bytes"],
        "first_day": OLD.date().isoformat(), "last_day": OLD.date().isoformat(), "n_unfinished": 0,
    }  # fmt: skip
    text = run(settings, tmp_path, "status").stdout
    assert "Archives: 1 day from" in text
    assert "predictions" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("revisions", "said"),
    [
        (["9999"], "a newer release made it. Run `pip install --upgrade mlserve_jupyter`"),
        (["0003", "0004"], "several revisions ('0003', '0004')"),
    ],
)
def test_a_database_that_is_at_no_known_revision_is_shown_and_left_as_it_is(
    settings: Settings, tmp_path: Path, revisions: list[str], said: str
) -> None:
    with opened(settings) as engine, writing(engine) as connection:
        connection.execute(sa.text("DELETE FROM alembic_version"))
        for revision in revisions:
            connection.execute(
                sa.text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision}
            )
    status = run(settings, tmp_path, "status")
    assert status.returncode == 0
    assert said in status.stdout
    assert "db upgrade" not in status.stdout
    for command in (["upgrade"], ["archive"], ["restore", "--since=2026-05-01"]):
        done = run(settings, tmp_path, *command)
        assert done.returncode != 0
        assert said in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["archive", "--retention-days=0"], "say --older-than-days"),
        (["archive", "--older-than-days=-1"], "is no number of days"),
        (["archive", "--older-than-days=800000"], "is no number of days from 0 to 36,500"),
        (["archive", "--retention-days=36501"], "retention_days must not be over 36,500"),
        (["restore", "--since=2026-05-01", "--keep-days=99999999"], "is no number of days from 0"),
        (["restore"], "--since"),
        (["restore", "--since=yesterday"], "'yesterday' is no day such as 2026-05-31"),
        (["status", "--capacity=lots"], "is no size"),
        (["forget"], "invalid choice"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    settings: Settings, tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = run(settings, tmp_path, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
