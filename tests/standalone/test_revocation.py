"""Keys across processes and hosts on one database."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.live import NO_TLS, start_server
from tests.standalone.hosts import StandaloneServer, start_standalone
from tests.stores import Stores
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

N_CONNECTIONS = 12


class Callers:
    """Connections that stay open, spread over a server's processes by the operating system."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._headers = {"X-MLServe-Key": key}
        self._clients = [httpx.Client(verify=NO_TLS, timeout=60) for _ in range(N_CONNECTIONS)]

    def statuses(self) -> set[int]:
        path = self._url + "api/v1/models"
        return {client.get(path, headers=self._headers).status_code for client in self._clients}

    def close(self) -> None:
        for client in self._clients:
            client.close()


def new_key(server: StandaloneServer, name: str, *scopes: str) -> dict[str, Any]:
    wanted = {"name": name, "scopes": scopes}
    response = server.request("POST", "api/v1/api-keys", json=wanted)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def test_row_10_a_revoked_key_is_refused_by_all_processes_of_all_hosts_on_the_database(
    stores: Stores, tmp_path: Path
) -> None:
    database = stores.at(tmp_path / "shared").resolved_database_url
    (tmp_path / "shared").mkdir(mode=0o700)
    with ExitStack() as stack:
        two = ("--workers=2", f"--database-url={database}")
        first = stack.enter_context(start_standalone(tmp_path / "first", *two))
        second = stack.enter_context(start_standalone(tmp_path / "second", *two))
        (tmp_path / "embedded").mkdir()
        embedded = stack.enter_context(
            start_server(tmp_path / "embedded", f"--MLServeApp.database_url={database}")
        )
        made = new_key(first, "one", "read")
        urls = (first.url, second.url, embedded.url)
        callers = [stack.enter_context(closing(Callers(url, made["key"]))) for url in urls]
        assert [each.statuses() for each in callers] == [{200}] * 3
        assert second.request("DELETE", f"api/v1/api-keys/{made['id']}").status_code == 204
        for each in callers:
            assert wait_for(lambda each=each: each.statuses() == {401}, 30)  # type: ignore[misc]
