from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mlserve_jupyter.accounts.passwords import (
    MAX_WAITING,
    PasswordHasher,
    check_new_password,
    check_readable,
)
from mlserve_jupyter.errors import Overloaded, PasswordRejected

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def opened(
    max_waiting: int = MAX_WAITING, max_wait_s: float = 600.0
) -> AsyncIterator[PasswordHasher]:
    hasher = PasswordHasher(max_waiting, max_wait_s)
    try:
        yield hasher
    finally:
        hasher.close()


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "acht Füße",
        "x1" * 3 + "y2",
        "\N{GRINNING FACE}\N{CAT}\N{DOG}\N{COW}" * 4,  # 64 bytes
        "parole" + "z" * 66,
    ],
)
def test_a_long_and_uncommon_password_will_do(password: str) -> None:
    check_new_password(password, unlike=["ann@example.org", "ann"])


@pytest.mark.parametrize(
    ("password", "complaint"),
    [
        ("", "has 0 characters and needs 8"),
        ("seven77", "has 7 characters"),
        ("y" * 20 + "abcd" * 13 + "!", "has 73 bytes"),
        ("long enough\0but", "NUL"),
        ("\N{GRINNING FACE}" * 19, "has 76 bytes in UTF-8.* emoji four"),
        ("ä" * 40, "has 80 bytes"),
        ("password", "tried first"),
        ("PassWord123", "tried first"),
        (" password ", "tried first"),
        ("aaaaaaaaaaaa", "tried first"),
        ("ababcabcab", "tried first"),
        ("Ann@Example.org", "must not be the email"),
        ("ann-the-first", "must not be the email or the name"),
    ],
)
def test_row_11_a_password_that_will_not_do_is_refused_with_the_reason(
    password: str, complaint: str
) -> None:
    with pytest.raises(PasswordRejected, match=complaint):
        check_new_password(password, unlike=["ann@example.org", "ann-the-first"])


def test_what_bcrypt_would_cut_off_is_refused_also_where_no_account_is_made() -> None:
    check_readable("short")
    with pytest.raises(PasswordRejected):
        check_readable("y" * 73)
    with pytest.raises(PasswordRejected):
        check_readable("\0")


def test_row_22_a_text_that_takes_ages_to_normalize_is_no_password() -> None:
    begun_s = time.process_time()
    with pytest.raises(PasswordRejected, match="too long"):
        check_readable("a" + "\u0301" * 100_000 + "\u0323" * 100_000)
    assert time.process_time() - begun_s < 10


async def test_a_password_matches_its_own_hash_alone() -> None:
    async with opened() as hasher:
        hashed = await hasher.hash("correct horse battery staple")
        assert hashed.startswith("$2b$12$")
        assert await hasher.matches("correct horse battery staple", hashed)
        assert not await hasher.matches("correct horse battery staplf", hashed)


async def test_nothing_matches_where_there_is_no_hash_or_one_of_something_else() -> None:
    async with opened() as hasher:
        for hashed in (None, "", "correct horse battery staple", "$2b$12$short"):
            assert not await hasher.matches("correct horse battery staple", hashed)
            assert not await hasher.matches("", hashed)


async def test_the_same_characters_match_however_a_keyboard_writes_them() -> None:
    async with opened() as hasher:
        hashed = await hasher.hash("caf\u00e9 im hafen")
        assert await hasher.matches("cafe\u0301 im hafen", hashed)


async def test_the_event_loop_goes_on_while_passwords_are_hashed() -> None:
    async with opened() as hasher:
        hashing = asyncio.gather(*(hasher.hash(f"password number {i}") for i in range(4)))
        n_turns = 0
        while not hashing.done():
            await asyncio.sleep(0.001)
            n_turns += 1
        await hashing
    assert n_turns > 20


async def test_more_than_may_wait_are_told_to_come_back() -> None:
    async with opened(max_waiting=3) as hasher:
        outcomes = await asyncio.gather(
            *(hasher.matches("a password", None) for _ in range(8)), return_exceptions=True
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, Overloaded)]
        assert len(refused) == 5
        assert refused[0].retry_after_s > 0
        assert not await hasher.matches("a password", None), "there is room again"


async def test_who_has_waited_too_long_costs_nothing_any_more() -> None:
    async with opened(max_wait_s=0.01) as hasher:
        outcomes = await asyncio.gather(
            *(hasher.matches("a password", None) for _ in range(20)), return_exceptions=True
        )
    assert sum(isinstance(outcome, Overloaded) for outcome in outcomes) >= 16


async def test_row_11_checking_against_nobody_takes_as_long_as_against_somebody() -> None:
    async with opened() as hasher:
        hashed = await hasher.hash("correct horse battery staple")
        durations_s: dict[str | None, list[float]] = {None: [], hashed: []}
        for _ in range(3):
            for target, measured in durations_s.items():
                start_s = time.process_time()  # of all threads, however busy the machine is
                await hasher.matches("another password", target)
                measured.append(time.process_time() - start_s)
    nobody_s, somebody_s = min(durations_s[None]), min(durations_s[hashed])
    assert 0.8 < nobody_s / somebody_s < 1.25
