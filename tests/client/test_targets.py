from __future__ import annotations

import stat
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from mlserve_jupyter.client.targets import FILE, Target, Targets
from mlserve_jupyter.errors import ServerNotFound

TARGET = Target(
    name="models",
    url="https://models.example.org/mlserve/",
    email="ann@example.org",
    access_token="access-0",
    refresh_token="refresh-0",
    expires_at_s=0.0,
)


@pytest.fixture
def targets(tmp_path: Path) -> Targets:
    return Targets(tmp_path / "data" / FILE)


@dataclass
class Server:
    """Exchanges each refresh token once, as a server does."""

    n_exchanges: int = 0

    def exchange(self, target: Target) -> Target:
        assert target.refresh_token == f"refresh-{self.n_exchanges}", "a token was used twice"
        time.sleep(0.05)
        self.n_exchanges += 1
        return msgspec.structs.replace(
            target,
            access_token=f"access-{self.n_exchanges}",
            refresh_token=f"refresh-{self.n_exchanges}",
            expires_at_s=time.time() + 1800,
        )


def test_a_server_is_found_by_its_name_and_its_url(targets: Targets) -> None:
    assert targets.all() == []
    targets.keep(TARGET)
    assert targets.find("models") == targets.find(TARGET.url) == TARGET
    targets.forget("models")
    assert targets.all() == []


def test_several_accounts_on_one_server_keep_a_name_each(targets: Targets) -> None:
    bob = msgspec.structs.replace(TARGET, name="others", email="bob@example.org")
    targets.keep(TARGET)
    targets.keep(bob)
    assert targets.all() == [TARGET, bob]
    assert (targets.find("models"), targets.find("others")) == (TARGET, bob)
    with pytest.raises(ServerNotFound, match=r"ann@example.org.* and .*bob@.*--to models"):
        targets.find(TARGET.url)
    targets.forget("models")
    assert targets.find(TARGET.url) == bob


def test_a_name_that_nobody_gave_is_not_taken_from_another_account(targets: Targets) -> None:
    name = targets.free_name(TARGET.url, TARGET.email)
    assert name == "models.example.org"
    targets.keep(msgspec.structs.replace(TARGET, name=name))
    assert targets.free_name(TARGET.url, TARGET.email) == name
    assert targets.free_name(TARGET.url, "bob@example.org") == f"{name}-2"
    assert targets.free_name("https://models.example.org:99/mlserve/", TARGET.email) == f"{name}-2"


def test_a_name_that_is_mistyped_is_said_with_the_nearest(targets: Targets) -> None:
    targets.keep(msgspec.structs.replace(TARGET, name="prod"))
    said = targets.unknown("prd").message
    assert "'prd'" in said
    assert "Did you mean 'prod'?" in said
    assert "`%mlserve targets`" in said
    assert "`%mlserve login URL --name prd`" in said


def test_its_file_is_for_its_owner_alone_and_nothing_shows_the_tokens(
    targets: Targets, tmp_path: Path
) -> None:
    targets.keep(TARGET)
    for path in (tmp_path / "data").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert "access-0" not in repr(TARGET)
    assert "refresh-0" not in repr(TARGET)


def test_kernels_that_need_a_new_token_at_once_exchange_it_once(
    targets: Targets, tmp_path: Path
) -> None:
    targets.keep(TARGET)
    server = Server()

    def renewed(_: int) -> str:
        kernel = Targets(tmp_path / "data" / FILE)
        return kernel.renewed("models", server.exchange).access_token

    with ThreadPoolExecutor(8) as kernels:
        assert set(kernels.map(renewed, range(8))) == {"access-1"}
    assert server.n_exchanges == 1


def test_a_server_that_was_forgotten_is_named_with_the_next_step(targets: Targets) -> None:
    with pytest.raises(ServerNotFound, match="%mlserve login URL"):
        targets.renewed("models", Server().exchange)


def test_a_file_that_is_none_holds_no_servers(targets: Targets, tmp_path: Path) -> None:
    targets.keep(TARGET)
    (tmp_path / "data" / FILE).write_text("[{")
    assert targets.all() == []
