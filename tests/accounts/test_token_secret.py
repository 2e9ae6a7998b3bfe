from __future__ import annotations

import secrets
import stat
from pathlib import Path

import pytest

from mlserve_jupyter.accounts.token_secret import (
    SECRET_FILE,
    SECRET_VARIABLE,
    derived_secret,
    read_or_make_token_secret,
)
from mlserve_jupyter.errors import SettingsInvalid
from tests.storage.databases import processes


@pytest.fixture(autouse=True)
def _no_secret_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)


def test_it_is_made_once_for_its_user_alone(tmp_path: Path) -> None:
    secret = read_or_make_token_secret(tmp_path / "data")
    assert read_or_make_token_secret(tmp_path / "data") == secret
    assert len(secret) >= 32
    assert stat.S_IMODE((tmp_path / "data" / SECRET_FILE).stat().st_mode) == 0o600
    assert read_or_make_token_secret(tmp_path / "other") != secret


def test_processes_that_start_at_once_agree_on_it(tmp_path: Path) -> None:
    with processes.Pool(4) as pool:
        found = pool.map(read_or_make_token_secret, [tmp_path / "data"] * 8, chunksize=1)
    assert len(set(found)) == 1


def test_the_environment_goes_first_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = secrets.token_hex(32)
    monkeypatch.setenv(SECRET_VARIABLE, given)
    assert read_or_make_token_secret(tmp_path) == given.encode()
    assert not (tmp_path / SECRET_FILE).exists()


@pytest.mark.parametrize(
    "weak",
    [
        "",
        "short",
        "x" * 64,
        "0123456789abcdef" * 4,
        "ab1" * 20,
        "aabbccddaabbccddaaaabbccddaaabcdabcd",
        "change-me-to-a-long-random-string-0123",
        "my-very-own-super-Secret-for-signing-tokens",
    ],
)
def test_a_weak_one_is_refused_and_not_repeated(
    weak: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, weak)
    with pytest.raises(SettingsInvalid, match=SECRET_VARIABLE) as of_variable:
        read_or_make_token_secret(tmp_path)
    monkeypatch.delenv(SECRET_VARIABLE)
    (tmp_path / SECRET_FILE).touch(mode=0o600)
    (tmp_path / SECRET_FILE).write_text(weak)
    with pytest.raises(SettingsInvalid, match=SECRET_FILE) as of_file:
        read_or_make_token_secret(tmp_path)
    for error in (of_variable, of_file):
        assert not weak or f"{weak}" not in str(error.value)


def test_one_that_others_may_read_is_refused(tmp_path: Path) -> None:
    read_or_make_token_secret(tmp_path)
    (tmp_path / SECRET_FILE).chmod(0o640)
    with pytest.raises(SettingsInvalid, match="may be read by others"):
        read_or_make_token_secret(tmp_path)


def test_secrets_for_other_purposes_are_the_same_wherever_it_is_and_others_than_it() -> None:
    secret = secrets.token_bytes(48)
    cached = derived_secret(secret, "result cache")
    assert cached == derived_secret(secret, "result cache")
    assert len(cached) == 32
    others = {secret, derived_secret(secret, "tokens"), derived_secret(secret[1:], "result cache")}
    assert cached not in others
