"""A server whose database goes away: known keys predict on for a while, and nothing else goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import toys
from tests.standalone.hosts import StandaloneServer, start_standalone
from tests.storage.postgres_process import PostgresProcess
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

BODY = {"instances": [[1.0]]}


@contextmanager
def on_sqlite(folder: Path) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    database = folder / "mlserve.db"
    away = folder / "mlserve.db.away"
    yield f"sqlite:///{database}", lambda: rename(database, away), lambda: rename(away, database)


@contextmanager
def on_postgres(folder: Path) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
    process = PostgresProcess()
    try:
        yield process.new_database(), process.stop, process.start
    finally:
        process.close()


def rename(here: Path, there: Path) -> None:
    here.rename(there)


@pytest.mark.parametrize("database", [on_sqlite, on_postgres])
def test_keys_that_were_just_verified_predict_on_and_everything_else_is_503_until_it_is_back(
    tmp_path: Path, database: Callable[[Path], Any]
) -> None:
    artifact = Path(toys.write_model(toys.SumModel(), tmp_path).path)
    (tmp_path / "database").mkdir(mode=0o700)
    with (
        database(tmp_path / "database") as (url, go_away, come_back),
        start_standalone(tmp_path, f"--database-url={url}", "--allow-pickle=True") as server,
    ):
        assert server.deploy(artifact, "clf").status_code == 201
        known, fresh = new_key(server, "known"), new_key(server, "fresh")

        def status(key: str, method: str, path: str, **options: Any) -> int:
            headers = {"X-MLServe-Key": key}
            return server.request(method, path, headers=headers, **options).status_code

        def predicts(key: str) -> bool:
            return status(key, "POST", "api/v1/predict/clf", json=BODY) == 200

        assert predicts(known)
        go_away()
        assert predicts(known)
        assert status(fresh, "POST", "api/v1/predict/clf", json=BODY) == 503
        assert wait_for(lambda: status(known, "GET", "api/v1/models/clf") == 503, 30)
        wanted = {"name": "another"}
        assert server.request("POST", "api/v1/api-keys", json=wanted).status_code == 503
        assert wait_for(lambda: not predicts(known), 90)
        assert status(known, "POST", "api/v1/predict/clf", json=BODY) == 503
        come_back()
        for key in (known, fresh):
            assert wait_for(lambda key=key: predicts(key), 60)  # type: ignore[misc]
            assert status(key, "GET", "api/v1/models/clf") == 200


def new_key(server: StandaloneServer, name: str) -> str:
    wanted = {"name": name, "scopes": ["predict", "read"], "rate_limit": 0}
    return str(server.request("POST", "api/v1/api-keys", json=wanted).json()["key"])
